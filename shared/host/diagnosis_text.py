"""A diagnosis for people: the worst first, each with its next step."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from shared.contract.diagnosis import Finding, Verdict, is_healthy, ordered

_STYLES = {
    Verdict.OK: "green",
    Verdict.NOTE: "cyan",
    Verdict.UNKNOWN: "magenta",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "bold red",
}


def summary(findings: Sequence[Finding]) -> str:
    """Return the one sentence that matters: the first problem, or that there is none."""
    first = next(iter(ordered(findings)), None)
    if first is None or is_healthy(findings):
        return f"Nothing is wrong; {len(findings)} checks were made."
    bad = [one for one in findings if not one.verdict.is_good]
    more = f" ({len(bad) - 1} more below)" if len(bad) > 1 else ""
    return f"{first.what}{more}"


def show_diagnosis(sections: Iterable[tuple[str, Sequence[Finding]]], *, everything: bool) -> None:
    """Print the verdict, then each section's findings; what is well only if asked for.

    Args:
        sections: headings with what was found, such as that of each side.
    """
    sections = [(heading, ordered(findings)) for heading, findings in sections]
    findings = [one for _, section in sections for one in section]
    lines = _Lines()
    worst = ordered(findings)[0].verdict if findings else Verdict.OK
    lines.write(summary(findings), "bold green" if is_healthy(findings) else _STYLES[worst])
    if findings and not is_healthy(findings) and (step := ordered(findings)[0].do):
        lines.write(f"→ {step}", "bold")
    for heading, section in sections:
        shown = [one for one in section if everything or one.verdict is not Verdict.OK]
        good = sum(one.verdict is Verdict.OK for one in section)
        lines.write(f"\n{heading}: {good} of {len(section)} checks are well", "bold")
        for one in shown:
            lines.write(f"  {one.verdict:<8} {one.check}: {one.what}", _STYLES[one.verdict])
            if one.do:
                lines.write(f"           → {one.do}")


class _Lines:
    """Coloured on a terminal; nothing of another machine can steer it."""

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty()

    def write(self, text: str, style: str = "") -> None:
        clean = "".join(one if one.isprintable() or one == "\n" else "?" for one in text)
        if not self._tty:
            sys.stdout.write(f"{clean}\n")
            return
        from rich.console import Console
        from rich.text import Text

        Console(highlight=False).print(Text(clean, style=style))
