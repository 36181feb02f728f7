"""When to renew: at the CA's suggestion (RFC 9773), else by a share of the lifetime.

Pure: times are unix seconds and arguments, chance is an argument. Lifetimes go from 160 h to
398 d and are getting shorter, so everything is a share of the lifetime. Nothing that a CA says or
fails to say puts a renewal off beyond :func:`latest_moment`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from enum import StrEnum

from shared.acme.ports import RenewalWindow
from shared.contract.errors import (
    ClockWrong,
    ConfigurationError,
    IssuanceRejected,
    OrderGone,
    PolicyError,
    RelayError,
)

MINUTE = 60
HOUR = 3600
DAY = 24 * HOUR
SHORT_LIFETIME = 10 * DAY
SPREAD_SHARE = 0.02
CLOCK_STEP = 300
"""What was written further ahead than this was written by a clock that was set back since."""
SHORTEST_LOOK, LONGEST_LOOK = MINUTE, DAY
LONG_PAUSE = 6 * HOUR
"""After an answer that asking again soon will not change (RFC 9773 section 4.3.3)."""
HURRY_PERIOD = 7 * DAY
_LONGEST_BRAKE = 3 * DAY
_MOST_DOUBLINGS = 12
LONGEST_PAUSE = DAY
LONGEST_RETRY_AFTER = 7 * DAY
_FIRST_PAUSE = 60
# Let's Encrypt allows five failed authorizations an hour for one name: 0, 5, 15, 35, 75 minutes.
_FIRST_PAUSE_REJECTED = 300


class Reason(StrEnum):
    """Why a renewal is due when it is due."""

    LIFETIME = "lifetime"
    """So much of the lifetime is used up; the CA has suggested nothing."""
    WINDOW = "window"
    """The moment chosen inside the CA's window."""
    WINDOW_PAST = "window-past"
    """That moment was past already when the CA was asked: renew now."""
    WINDOW_LATE = "window-late"
    """The CA's window lies too close to the end, or beyond it: not waited for."""
    BRAKED = "braked"
    """The window is past again, right after a renewal for the same reason."""


@dataclass(frozen=True, slots=True)
class Life:
    """One leaf: its validity and when it was issued."""

    not_before: int
    not_after: int
    issued_at: int


@dataclass(frozen=True, slots=True)
class Advice:
    """What is kept between two looks at the CA's renewal information about one leaf.

    Plain values only: ``dataclasses.asdict`` and ``Advice(**members)`` store and restore it.

    Attributes:
        next_look: when to ask, and not before.
        looked_at: the last time; 0 for never.
        start, end: the CA's window; ``None`` where it suggested none.
        chosen: the moment inside it, drawn once and kept while the window stays the same.
        seen_at: when this window was seen first.
        failures: looks that failed since the last good one.
        problem: why the last look brought no window, in words.
    """

    next_look: int
    looked_at: int = 0
    start: int | None = None
    end: int | None = None
    chosen: int | None = None
    seen_at: int = 0
    explanation_url: str | None = None
    failures: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """When to renew, and why then."""

    at: int
    reason: Reason


# --- looking --------------------------------------------------------------------------------


def first_look(now: int, draw: float) -> Advice:
    """Return what is known of a new leaf: nothing; one to ten minutes until the first look.

    Args:
        draw: a random number in [0, 1), as in every function here that takes one.
    """
    return Advice(next_look=now + MINUTE + int(9 * MINUTE * draw))


def look_is_due(advice: Advice, now: int) -> bool:
    """Tell whether the CA may be asked; also when our clock was set back since the last look."""
    return now >= advice.next_look or advice.looked_at > now + CLOCK_STEP


def after_look(advice: Advice, window: RenewalWindow | None, now: int, draw: float) -> Advice:
    """Return what is known after an answer.

    Args:
        window: as the CA gave it; ``None`` if the CA offers no renewal information.
    """
    if window is None:
        told = "The CA offers no renewal information."
        return Advice(next_look=now + DAY, looked_at=now, problem=told)
    start, end = int(window.start), max(int(window.start), int(window.end))
    same = (start, end) == (advice.start, advice.end) and advice.chosen is not None
    return Advice(
        next_look=_after(now, window.retry_after, 1 - draw),
        looked_at=now,
        start=start,
        end=end,
        chosen=advice.chosen if same else start + int((end - start) * draw),
        seen_at=advice.seen_at if same else now,
        explanation_url=window.explanation_url,
    )


def after_failed_look(advice: Advice, error: RelayError, now: int, draw: float) -> Advice:
    """Return what is known after no answer, or none that makes sense: what was known before.

    The pause is the CA's Retry-After; else six hours after a refusal, and one minute, doubled up
    to six hours, after a failure that may pass.
    """
    failures = advice.failures + 1
    pause = getattr(error, "retry_after", None)
    if pause is None:
        doubled = MINUTE << min(failures - 1, _MOST_DOUBLINGS)
        pause = LONG_PAUSE if isinstance(error, IssuanceRejected) else min(doubled, LONG_PAUSE)
    return replace(
        advice,
        next_look=_after(now, pause, 1 - draw),
        looked_at=now,
        failures=failures,
        problem=error.what,
    )


def _after(now: int, seconds: float, draw: float) -> int:
    """Keep a Retry-After, and be at most half a minute late: it is the latest moment, too."""
    kept = min(max(seconds, SHORTEST_LOOK), LONGEST_LOOK)
    return now + math.ceil(kept + min(30.0, 0.05 * kept) * draw)


# --- renewing -------------------------------------------------------------------------------


def renewal_due(
    life: Life, advice: Advice | None, *, certificate: str, generation: int, hurried: int = 0
) -> Due:
    """Return when to renew a leaf, and why then.

    Args:
        advice: about this leaf; ``None`` for none.
        certificate, generation: what the spread of the fallback is computed from.
        hurried: how many of the last seven days' renewals (``HURRY_PERIOD``) were made because a
            window was past (``WINDOW_PAST``, ``BRAKED``), the one that brought this leaf counted.
    """
    if advice is None or advice.chosen is None:
        return Due(_by_lifetime(life, certificate, generation), Reason.LIFETIME)
    if advice.chosen > latest_moment(life):
        spread = _spread(life, certificate, generation)
        return Due(int(latest_moment(life) - spread), Reason.WINDOW_LATE)
    braked = life.issued_at + _brake(life, hurried)
    if braked > advice.chosen and hurried:
        return Due(braked, Reason.BRAKED)
    past = advice.chosen <= advice.seen_at
    return Due(advice.chosen, Reason.WINDOW_PAST if past else Reason.WINDOW)


def renewal_moment(not_before: int, not_after: int) -> float:
    """Return when a third of the lifetime is left; when half is, of one under ten days."""
    lifetime = not_after - not_before
    left = lifetime / 2 if lifetime < SHORT_LIFETIME else lifetime / 3
    return not_after - left


def latest_moment(life: Life) -> float:
    """Return the moment beyond which no window is followed: half-way from the fallback to the end.

    A third of a long lifetime is what the fallback leaves, so a sixth is left then.
    """
    return (renewal_moment(life.not_before, life.not_after) + life.not_after) / 2


def share_of(*parts: object) -> float:
    """Return a number in [0, 1) that depends on ``parts`` alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _by_lifetime(life: Life, certificate: str, generation: int) -> int:
    """Up to two hundredths of the lifetime before its share.

    By a quarter of what is left at least after it was issued, so that a leaf which begins in the
    past is not renewed again and again.
    """
    soonest = life.issued_at + max(MINUTE, (life.not_after - life.issued_at) // 4)
    moment = renewal_moment(life.not_before, life.not_after)
    return max(soonest, int(moment - _spread(life, certificate, generation)))


def _spread(life: Life, certificate: str, generation: int) -> float:
    share = share_of("due", certificate, generation)
    return SPREAD_SHARE * (life.not_after - life.not_before) * share


def _brake(life: Life, hurried: int) -> int:
    """A CA whose windows are always past must not make us spend its limits (5 in 7 days)."""
    if hurried <= 0:
        return 0
    grown: int = LONG_PAUSE * 3 ** min(hurried - 1, _MOST_DOUBLINGS)
    return min(grown, _LONGEST_BRAKE, max(0, life.not_after - life.issued_at) // 4)


# --- after a failure -------------------------------------------------------------------------


def pause_after(error: RelayError, failures: int, certificate: str) -> int:
    """Return the seconds to wait before the next attempt.

    Args:
        failures: attempts that have failed in a row, this one counted.

    The pause doubles up to a day, and is never shorter than the CA's Retry-After.
    """
    if isinstance(error, OrderGone) and failures <= 1:
        return 0
    patient = isinstance(error, IssuanceRejected | PolicyError) or (
        isinstance(error, ConfigurationError) and not isinstance(error, ClockWrong)
    )
    first = _FIRST_PAUSE_REJECTED if patient else _FIRST_PAUSE
    doubled = min(LONGEST_PAUSE, first * 2 ** min(max(failures - 1, 0), _MOST_DOUBLINGS))
    pause = doubled * (0.9 + 0.1 * share_of("pause", certificate, failures))
    kept = asked_pause(error)
    if kept is not None:
        spread = min(600.0, 0.1 * kept) * share_of("retry", certificate, failures)
        pause = max(pause, kept + spread)
    return int(pause) + 1


def asked_pause(error: RelayError) -> float | None:
    """Return the seconds that the CA asked us to wait, a week at most; ``None`` for none."""
    asked: float | None = getattr(error, "retry_after", None)
    return min(asked, LONGEST_RETRY_AFTER) if asked is not None and asked > 0 else None
