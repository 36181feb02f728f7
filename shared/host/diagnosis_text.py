"""A diagnosis for people: the worst first, each with its next step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.contract.diagnosis import Finding, Verdict, is_healthy, ordered
from shared.host.terminal import draw_line, emit

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
    worst = ordered(findings)[0].verdict if findings else Verdict.OK
    draw_line(summary(findings), "bold green" if is_healthy(findings) else _STYLES[worst])
    if findings and not is_healthy(findings) and (step := ordered(findings)[0].do):
        draw_line(f"→ {step}", "bold")
    for heading, section in sections:
        shown = [one for one in section if everything or one.verdict is not Verdict.OK]
        good = sum(one.verdict is Verdict.OK for one in section)
        emit()
        draw_line(f"{heading}: {good} of {len(section)} checks are well", "bold")
        for one in shown:
            draw_line(f"  {one.verdict:<8} {one.check}: {one.what}", _STYLES[one.verdict])
            if one.do:
                draw_line(f"           → {one.do}")
