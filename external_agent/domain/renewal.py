"""When to renew, and when to come back.

Everything is a share of the lifetime: lifetimes go from 160 h to 398 d and are getting shorter.
Spread is computed from names, not drawn, so that a restart changes nothing.
"""

from __future__ import annotations

import hashlib

HOUR = 3600
DAY = 24 * HOUR
SHORT_LIFETIME = 10 * DAY
SPREAD_SHARE = 0.02


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


def come_back(now: int, expected_at: int | None) -> int:
    """Return the seconds until a puller should ask again; ``None`` when something is under way."""
    if expected_at is None:
        return 60
    return max(60, min(DAY, expected_at - now + 60))
