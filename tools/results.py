"""What a part came to: counts out of a JUnit file, the summary, and the last line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree


@dataclass
class Result:
    """One part, as the summary shows it.

    Attributes:
        ran: false when the machine could not run the part.
        why: one sentence when it failed or did not run.
        missing: what the machine lacks, by name.
        notes: what nobody can help here, and everybody should know.
        skips: reason of a skipped test, and how many tests it hit.
    """

    name: str
    ran: bool = True
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    why: str = ""
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)

    @property
    def skipped(self) -> int:
        """How many tests were skipped; a part that did not run counts as one."""
        return self.skips.total() if self.ran else 1

    @property
    def word(self) -> str:
        """The verdict in capitals."""
        if self.failed:
            return "FAILED"
        return "passed" if self.ran else "NOT RUN"


def read_junit(report: Path, result: Result) -> None:
    """Add the counts of one JUnit file; an expected failure counts as passed."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif skip is not None and skip.get("type") != "pytest.xfail":
            result.skips[skip.get("message") or "no reason given"] += 1
        else:
            result.passed += 1


def summary(results: list[Result]) -> str:
    """The whole picture; its last line is the totals and nothing else."""
    lines = ["", "=" * 30 + " what ran " + "=" * 30]
    for result in results:
        counts = f"{result.passed} passed, {result.failed} failed, {result.skipped} skipped"
        lines.append(f"{result.name:<9} {result.word:<8} {counts:<38} {result.seconds:6.1f} s")
        if result.why:
            lines.append(f"          {result.why}")
    lines += _not_run(results)
    totals = [sum(getattr(r, count) for r in results) for count in ("passed", "failed", "skipped")]
    lines += ["", "{} passed, {} failed, {} skipped".format(*totals)]
    return "\n".join(lines)


def _not_run(results: list[Result]) -> list[str]:
    lines = []
    for result in results:
        if result.missing:
            lines.append(f"!!! {result.name}: missing here: {', '.join(result.missing)}")
        lines += [f"!!! {result.name}: {note}" for note in result.notes]
        lines += [f"!!! {result.name}: {n} skipped: {why}" for why, n in result.skips.items()]
    return ["", "!!! NOT TESTED ON THIS MACHINE", *lines] if lines else []
