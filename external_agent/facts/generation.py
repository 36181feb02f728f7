"""Which number the next generation gets, and which claims about numbers are believed."""

from __future__ import annotations

MOST_AHEAD = 3600


def next_generation(now: int, highest_known: int) -> int:
    """Return the larger of ``now`` (unix seconds) and one more than the highest known."""
    return max(now, highest_known + 1)


def is_believable(generation: int, now: int) -> bool:
    """Tell whether a puller may really hold ``generation``: at most an hour ahead of ``now``."""
    return 0 <= generation <= now + MOST_AHEAD


def believed(seen: int, now: int) -> int:
    """Return the highest generation that pullers have told of; 0 if it is no longer believable.

    It may have been told while our own clock was ahead: numbers from that time on would be refused
    by every puller until it has come.
    """
    return seen if is_believable(seen, now) else 0
