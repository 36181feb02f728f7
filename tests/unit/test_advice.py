"""Advice names commands that exist, with options that they have, in every text of the packages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tools.command_tree import Command, programs

ROOT = Path(__file__).resolve().parents[2]
PROSE = {"printed", "is", "writes"}  # "the line that external-agent printed"
_COMMAND = re.compile(r"\b(external-agent|internal-puller)((?: [a-z][a-z-]*)+)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_END = re.compile(r"[.;:,)](?:\s|$)|[。、]|$")


@cache
def trees() -> dict[str, Command]:
    return dict(programs())


@cache
def texts() -> tuple[tuple[str, str], ...]:
    return tuple(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    """Every string of the packages; what is filled in stands as NAME."""
    for package in ("shared", "external_agent", "internal_puller"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            inside = {
                id(part)
                for one in ast.walk(tree)
                if isinstance(one, ast.JoinedStr)
                for part in one.values
            }
            for node in ast.walk(tree):
                where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.JoinedStr):
                    parts = (
                        str(one.value) if isinstance(one, ast.Constant) else "NAME"
                        for one in node.values
                    )
                    yield where, "".join(parts)
                elif (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and id(node) not in inside
                ):
                    yield where, node.value


def faults(text: str) -> list[str]:
    """Return what a text names and no program has."""
    found = []
    for match in _COMMAND.finditer(text):
        words = match[2].split()
        if words[0] in PROSE:
            continue
        command = trees()[match[1]]
        for number, word in enumerate(words):
            below = {one.name: one for one in command.commands}
            if word not in below:
                if number == 0 or below:
                    found.append(f"{match[1]} {' '.join(words[: number + 1])}")
                break
            command = below[word]
        end = _END.search(text, match.end())
        assert end is not None
        known = {flag for option in command.options for flag in option.flags} | {"--help"}
        named = _OPTION.findall(text[match.end() : end.start()])
        found += [f"{match[0]} {option}" for option in named if option not in known]
    return found


def test_every_command_that_a_text_names_exists() -> None:
    assert {where: wrong for where, text in texts() if (wrong := faults(text))} == {}


def test_there_are_such_texts() -> None:
    named = {match[0] for _, text in texts() for match in _COMMAND.finditer(text)}
    assert len(named) > 40


@pytest.mark.parametrize(
    "text",
    [
        "Try: internal-puller mumble.",
        "Try: internal-puller target mumble NAME.",
        "Try: internal-puller target add NAME --mumble FILE.",
        "First external-agent status, then external-agent puller mumble.",
    ],
)
def test_one_that_does_not_exist_is_found(text: str) -> None:
    assert faults(text)
