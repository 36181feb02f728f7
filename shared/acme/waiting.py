"""How long to wait: Retry-After read, poll pauses that grow, one deadline over everything."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from shared.acme.ports import Clock

MAX_RETRY_AFTER = 7 * 86_400.0
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 8.0


def http_date(text: str | None) -> float | None:
    """Return unix seconds of an HTTP-date (RFC 9110 section 5.6.7), or None if it is none."""
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds to wait (RFC 9110 section 10.2.3), 0 to a week; None: nothing usable.

    Args:
        now: unix seconds by the clock that wrote `text`, if it is known: the answer's Date.
    """
    if text is None:
        return None
    stripped = text.strip()
    if stripped.isascii() and stripped.isdigit():
        return min(float(stripped[:9]), MAX_RETRY_AFTER)
    moment = http_date(stripped)
    return None if moment is None else min(max(moment - now, 0.0), MAX_RETRY_AFTER)


@dataclass
class Pauses:
    """Poll pauses: what the CA asked for, else doubling from a quarter of a second.

    A CA that asks for no pause at all (`Retry-After: 0`) gets the doubling ones.
    """

    next: float = FIRST_PAUSE

    def take(self, retry_after: float | None) -> float:
        """Return the seconds to wait before asking again."""
        if retry_after is not None and retry_after >= FIRST_PAUSE:
            return retry_after
        pause, self.next = self.next, min(self.next * 2, LONGEST_PAUSE)
        return pause


class Deadline:
    """A moment after which nothing is waited for any more.

    Args:
        clock: any clock that goes forward; monotonic in production.
        seconds: from now.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def allows(self, pause: float) -> bool:
        """Tell whether `pause` seconds can be waited and still leave time to ask."""
        return self._clock() + pause < self._end
