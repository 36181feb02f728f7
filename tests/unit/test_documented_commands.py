"""Every command that the documents show is run by some test, and so is what they show beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.unit.test_documentation import COMMANDS, PAGES
from tools.command_tree import programs

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:sudo )?(/?[a-z][a-z0-9./_-]*)(?: +-{1,2}[a-z]| +[a-z]+ .*--)")
NOT_RUN = {
    # first word: why no test runs it
    "apt": "installs on a whole machine; tests/packages does it in fresh roots",
    "ansible-playbook": "tests/packages runs it as a module, with a connection into a root",
    "cp": "copies files into /etc; tests/packages installs the same ones",
    "createdb": "as an administrator of the database; tests create theirs by SQL",
    "createuser": "as createdb",
    "docker": "as podman, whose words it takes",
    "curl": "asks a running VM from outside",
    "git": "fetches from where the repository is kept",
    "ln": "an ordinary command",
    "pipx": "tests/packages, with the same words",
    "install": "tests/packages/test_confined.py, for a target elsewhere",
    "podman": "tests/packages/test_container.py and tests/e2e/test_containers.py",
    "ssh-keyscan": "tests write the file of known hosts themselves",
    "systemctl": "tests/packages/test_booted.py, on machines with their own systemd",
    "systemd-sysusers": "tests/packages, by the package's own scripts",
    "systemd-tmpfiles": "tests/packages, by the package's own scripts",
    "uv": "as pipx, with another resolver",
}
RUN_OTHERWISE = {
    # command of ours: where it is run, if not by its words in a test
    "external-agent serve": "tests/line.py, by every whole-program test",
}


def paths() -> Iterator[str]:
    """The commands of ours that the documents show, such as ``internal-puller target add``."""
    trees = programs()
    for line in COMMANDS:
        program, *words = line.split()
        command, path = trees[program], [program]
        below = {one.name: one for one in command.commands}
        for word in words:
            if word not in below:
                break
            path.append(word)
            below = {one.name: one for one in below[word].commands}
        yield " ".join(path)


@cache
def called() -> frozenset[tuple[str, ...]]:
    """Runs of words that tests and the demonstration hand to something, one after the other."""
    found = set()
    for folder in ("tests", "deploy"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name != Path(__file__).name:
                for node in ast.walk(ast.parse(file.read_text())):
                    words = tuple(_words(node))
                    found |= {words[at : at + size] for at in range(len(words)) for size in (1, 2)}
    return frozenset(found)


def _words(node: ast.AST) -> Iterator[str]:
    parts: list[ast.expr] = []
    if isinstance(node, ast.Call):
        parts = node.args
    elif isinstance(node, ast.Tuple | ast.List):
        parts = node.elts
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield from part.value.split()
        elif isinstance(part, ast.JoinedStr) and isinstance(part.values[0], ast.Constant):
            yield from str(part.values[0].value).split()
        elif isinstance(part, ast.Starred):
            yield from _words(part.value)


@pytest.mark.parametrize("path", sorted(set(paths())))
def test_every_command_shown_is_run_by_a_test(path: str) -> None:
    words = tuple(path.split()[1:])
    assert path in RUN_OTHERWISE or not words or words in called(), path


def test_one_that_no_test_runs_would_be_noticed() -> None:
    assert ("frobnicate",) not in called()
    assert ("target", "frobnicate") not in called()


def test_every_other_command_shown_is_an_ordinary_one_or_says_why_it_is_not_run() -> None:
    known = {*NOT_RUN, "external-agent", "internal-puller"}
    unknown = set()
    for page in PAGES:
        for block in _FENCE.findall(page.read_text()):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                word = re.match(
                    r"(?:sudo )?(/?[a-z][a-z0-9./_-]*)(?: +-{1,2}[a-z]| +[a-z]+ .*--)", line
                )
                if word and word[1] not in known and not _is_ours(word[1]):
                    unknown.add(f"{page.name}: {line.strip():.80}")
    assert unknown == set()


def _is_ours(word: str) -> bool:
    """Scripts of the repository, and the interpreter of an environment; CI runs them."""
    return (ROOT / word).exists() or word in ("python", "python3", "pip", "venv/bin/pip")
