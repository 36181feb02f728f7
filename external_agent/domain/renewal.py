"""When to renew, how long to pause after a failure, and when to come back.

Everything is a share of the lifetime: lifetimes go from 160 h to 398 d and are getting shorter.
Spread is computed from names, not drawn, so that a restart changes nothing.
"""

from __future__ import annotations

import hashlib

from shared.errors import (
    ClockWrong,
    ConfigurationError,
    IssuanceRejected,
    OrderGone,
    PolicyError,
    RelayError,
)

HOUR = 3600
DAY = 24 * HOUR
SHORT_LIFETIME = 10 * DAY
SPREAD_SHARE = 0.02
LONGEST_PAUSE = DAY
LONGEST_RETRY_AFTER = 7 * DAY
_FIRST_PAUSE = 60
# Let's Encrypt allows five failed authorizations an hour for one name: 0, 5, 15, 35, 75 minutes.
_FIRST_PAUSE_REJECTED = 300
_MOST_DOUBLINGS = 12


def _share(*parts: object) -> float:
    """Return a number in [0, 1) that depends on ``parts`` alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def renewal_moment(not_before: int, not_after: int) -> float:
    """Return when a third of the lifetime is left; when half is, of one under ten days."""
    lifetime = not_after - not_before
    left = lifetime / 2 if lifetime < SHORT_LIFETIME else lifetime / 3
    return not_after - left


def due_at(not_before: int, not_after: int, certificate: str, generation: int, now: int) -> int:
    """Return the moment to renew at, up to two hundredths of the lifetime before its share.

    Args:
        not_before, not_after: the leaf's, unix seconds.
        certificate, generation: what the spread is computed from.
        now: when it was issued; the moment is later, by a quarter of what is left at least, so
            that a leaf which begins in the past is not renewed again and again.
    """
    spread = SPREAD_SHARE * (not_after - not_before) * _share("due", certificate, generation)
    soonest = now + max(60, (not_after - now) // 4)
    return max(soonest, int(renewal_moment(not_before, not_after) - spread))


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
    pause = doubled * (0.9 + 0.1 * _share("pause", certificate, failures))
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None and retry_after > 0:
        kept = min(retry_after, LONGEST_RETRY_AFTER)
        spread = min(600.0, 0.1 * kept) * _share("retry", certificate, failures)
        pause = max(pause, kept + spread)
    return int(pause) + 1


def come_back(now: int, expected_at: int | None) -> int:
    """Return the seconds until a puller should ask again; ``None`` when something is under way."""
    if expected_at is None:
        return 60
    return max(60, min(DAY, expected_at - now + 60))
