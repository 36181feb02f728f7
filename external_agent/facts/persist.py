"""dns-persist-01 records that are watched: when to look again, and what is news."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400
HOUR = 3_600
BACK = 300
"""Seconds; a clock that was set back by more makes a new look due."""
WARN_DAYS = (1, 3, 7, 14, 30)
GOOD, UNKNOWN = "good", "unknown"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at one name's record came to.

    Attributes:
        verdict: a ``shared.acme.dns_persist.Verdict``.
        until: its persistUntil, unix seconds.
        warned_days: the smallest of ``WARN_DAYS`` that was warned of for this ``until``.
    """

    verdict: str
    words: str
    until: int | None
    looked_at: int
    warned_days: int | None = None


@dataclass(frozen=True, slots=True)
class News:
    """An event for the trail."""

    kind: str
    details: dict[str, object]


def look_is_due(seen: Seen, now: int) -> bool:
    """Once a day; after a look that came to nothing, once an hour."""
    pause = HOUR if seen.verdict == UNKNOWN else DAY
    return not seen.looked_at - BACK <= now < seen.looked_at + pause


def digest(before: Seen | None, seen: Seen) -> tuple[Seen, list[News]]:
    """Return what to keep of a new look, and what an operator would want to know of it.

    A look that came to nothing changes nothing but the time of the look.
    """
    if seen.verdict == UNKNOWN and before is not None and before.verdict != UNKNOWN:
        kept = Seen(
            before.verdict,
            before.words,
            before.until,
            # an hour from now, though good records are looked at once a day
            seen.looked_at - DAY + HOUR,
            before.warned_days,
        )
        return kept, []
    news = []
    was_good = before is None or before.verdict in (GOOD, UNKNOWN)
    if seen.verdict not in (GOOD, UNKNOWN) and was_good:
        news.append(News("persist-record-bad", {"verdict": seen.verdict, "what": seen.words}))
    if seen.verdict == GOOD and not was_good:
        news.append(News("persist-record-good", {}))
    days = days_warned_of(seen.until, seen.looked_at)
    told = before.warned_days if before is not None and before.until == seen.until else None
    if seen.verdict == GOOD and days is not None and (told is None or days < told):
        left = ((seen.until or 0) - seen.looked_at) // DAY
        news.append(News("persist-record-ends", {"until": seen.until or 0, "days_left": left}))
        told = days
    return Seen(seen.verdict, seen.words, seen.until, seen.looked_at, told), news


def days_warned_of(until: int | None, now: int) -> int | None:
    """Return the smallest of ``WARN_DAYS`` that the end is within; ``None``: not near."""
    if until is None:
        return None
    return next((days for days in WARN_DAYS if until - now <= days * DAY), None)
