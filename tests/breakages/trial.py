"""Tries a breakage: runs the tests of its promise in a broken copy and judges what they say."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.breakages.copy import Copy
from tests.breakages.model import WRITTEN_TO, Breakage, Unusable
from tests.breakages.page import NamedTest, promises

SECONDS = 900
_OPTIONS = ("-q", "-x", "-p", "tests.breakages.witness", "-p", "no:cacheprovider")


class Word(StrEnum):
    """What became of a breakage."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    UNUSABLE = "UNUSABLE"


@dataclass(frozen=True)
class Verdict:
    """
    Attributes:
        by: the test that failed, or why there is none.
    """

    word: Word
    by: str


class Sound:
    """Which tests pass in the whole product: one that fails there as well proves nothing."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}
        self._lock = threading.Lock()

    def passes(self, copy: Copy, node: str) -> bool:
        """Run one test in a copy that nothing is broken in; ask only once for each."""
        with self._lock:
            known = self._known.get(node)
        if known is None:
            known = [one.how for one in _run(copy, [node])] == ["call passed"]
            with self._lock:
                self._known[node] = known
        return known


def in_order(breakage: Breakage) -> list[NamedTest]:
    """Return the promise's tests: the one that is known to notice, then the quick ones.

    Raises:
        Unusable: the page does not name that test for that promise.
    """
    promise = promises().get(breakage.promise)
    if promise is None:
        raise Unusable(f"docs/security.md has no promise {breakage.promise}")
    first = [test for test in promise.tests if test.name == breakage.seen_by]
    if not first:
        raise Unusable(f"promise {breakage.promise} does not name the test {breakage.seen_by}")
    rest = [test for test in promise.tests if test.name != breakage.seen_by]
    return [*first, *sorted(rest, key=lambda test: test.slowness)]


def attempt(breakage: Breakage, copy: Copy, sound: Sound) -> Verdict:
    """Break the copy, run the tests until one fails, and put back what was there."""
    try:
        tests = in_order(breakage)
        with copy.broken(breakage):
            seen = _run(copy, [test.node for test in tests])
        return _judge(seen, copy, sound)
    except Unusable as why:
        return Verdict(Word.UNUSABLE, str(why))


@dataclass(frozen=True)
class _Seen:
    """One line of the witness: ``call failed`` and the like, and the test's name."""

    how: str
    node: str


def _judge(seen: Sequence[_Seen], copy: Copy, sound: Sound) -> Verdict:
    failed = next((one.node for one in seen if one.how == "call failed"), None)
    if failed is not None:
        if sound.passes(copy, failed):
            return Verdict(Word.KILLED, failed)
        raise Unusable(f"{failed} fails with nothing broken as well")
    for one in seen:
        if one.how.endswith("failed"):
            raise Unusable(f"{one.node} did not get as far as its first line")
    if not any(one.how == "call passed" for one in seen):
        raise Unusable("every test was skipped here")
    skipped = sum(one.how.endswith("skipped") for one in seen)
    return Verdict(Word.SURVIVED, f"{skipped} of the tests were skipped here" if skipped else "")


def _run(copy: Copy, nodes: Sequence[str]) -> list[_Seen]:
    """Run tests in a copy.

    Raises:
        Unusable: pytest could not run them (it ends with neither 0 nor 1).
    """
    with tempfile.TemporaryDirectory(dir=copy.root.parent) as scratch:
        written = Path(scratch) / "seen"
        written.touch()
        done = copy.run(
            "-m",
            "pytest",
            *_OPTIONS,
            f"--basetemp={copy.scratch}",
            *nodes,
            seconds=SECONDS,
            extra={WRITTEN_TO: str(written)},
        )
        lines = written.read_text("utf-8").splitlines()
    if done.returncode not in (0, 1):
        last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "")
        raise Unusable(f"pytest ended with status {done.returncode}: {last:.200}")
    return [_Seen(*line.split("\t", maxsplit=1)) for line in lines]
