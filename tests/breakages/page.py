"""Reads docs/security.md: its promises, and the tests that each one names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECURITY = ROOT / "docs" / "security.md"
_NAMED = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")
_ROW = re.compile(r"^\| (\d+) \| (.*) \| (.*) \|$", re.MULTILINE)
# Where tests are quick: a unit test takes milliseconds, a network of namespaces takes a minute.
_QUICK = ("unit", "properties", "roundtrip", "cli", "browser", "e2e", "topology", "packages")


@dataclass(frozen=True)
class NamedTest:
    """A test as a page names it.

    Attributes:
        path: of the file, relative to the checkout.
        name: of the function; empty for all of the file.
    """

    path: str
    name: str

    @property
    def node(self) -> str:
        """What pytest calls it."""
        return f"{self.path}::{self.name}" if self.name else self.path

    @property
    def slowness(self) -> int:
        """Small for what is quick; the order in which tests are worth trying."""
        return _QUICK.index(self.path.split("/")[1])


@dataclass(frozen=True)
class Promise:
    """A row of the table of promises."""

    number: int
    text: str
    tests: tuple[NamedTest, ...]


def named_tests(text: str) -> tuple[NamedTest, ...]:
    """Return the tests that a text names, in its order."""
    return tuple(NamedTest(path, name) for path, name in _NAMED.findall(text))


@cache
def promises(page: Path = SECURITY) -> dict[int, Promise]:
    """Return the promises by their numbers."""
    promised = page.read_text("utf-8").split("## What is promised", 1)[1].split("\n## ", 1)[0]
    return {
        int(number): Promise(int(number), text, named_tests(shown_by))
        for number, text, shown_by in _ROW.findall(promised)
    }
