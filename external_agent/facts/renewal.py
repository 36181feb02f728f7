"""When pullers are to come back."""

from __future__ import annotations

from shared.issuing.renewal import DAY


def come_back(now: int, expected_at: int | None) -> int:
    """Return the seconds until a puller should ask again; ``None`` when something is under way."""
    if expected_at is None:
        return 60
    return max(60, min(DAY, expected_at - now + 60))
