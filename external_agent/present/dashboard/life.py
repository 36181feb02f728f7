"""The bar of a certificate's life: issued, now, renewal, expiry, on a scale of 0 to 100."""

from __future__ import annotations

from dataclasses import dataclass

from external_agent.facts.overview import Line


@dataclass(frozen=True, slots=True)
class Bar:
    """Places on the bar; ``renewal`` is ``None`` where none is planned."""

    now: float
    renewal: float | None


def bar_of(line: Line, now: int) -> Bar | None:
    """Return the bar, ``None`` before the first issuance."""
    whole = line.not_after - line.not_before
    if not line.not_after or whole <= 0:
        return None

    def place(at: int) -> float:
        return round(min(100.0, max(0.0, 100 * (at - line.not_before) / whole)), 1)

    return Bar(place(now), place(line.due_at) if line.due_at else None)
