"""When something is to be done about a direct certificate: decided from facts; nothing is asked."""

from __future__ import annotations

from collections.abc import Sequence

from internal_puller.sources.direct.record import DirectProgress, fingerprint
from internal_puller.sources.direct.settings import DirectCertificate

CLOCK_STEP = 300
"""Seconds; a pause that begins later than this from now was written by a clock since set back."""


def is_paused(progress: DirectProgress, now: float) -> bool:
    """Tell whether a failure forbids the next attempt for now."""
    return progress.paused_at <= now + CLOCK_STEP and now < progress.paused_until


def wants_order(
    progress: DirectProgress | None,
    wanted: DirectCertificate,
    directories: Sequence[str],
    now: float,
) -> bool:
    """Tell whether a new generation is to be ordered, whatever pauses say."""
    if progress is None or not progress.generation or progress.renew:
        return True
    return progress.made_for != fingerprint(wanted, *directories) or now >= progress.due_at


def is_due(
    progress: DirectProgress | None,
    wanted: DirectCertificate,
    directories: Sequence[str],
    now: float,
    *,
    unfinished: bool,
) -> bool:
    """Tell whether the CA is to be asked for a certificate now.

    Args:
        unfinished: an earlier run left an attempt.
    """
    if progress is not None and is_paused(progress, now):
        return False
    return unfinished or wants_order(progress, wanted, directories, now)


def wants_look(progress: DirectProgress | None, now: float) -> bool:
    """Tell whether the CA may be asked when it suggests to renew (RFC 9773)."""
    if progress is None or not progress.generation or progress.advice is None:
        return False
    looked_at = progress.advice.get("looked_at", 0)
    return now >= progress.look_at or looked_at > now + CLOCK_STEP


def next_moment(progress: DirectProgress | None, now: float) -> float:
    """Return when to look at it again, unix seconds; at most a day ahead."""
    if progress is None:
        return now
    moments = [progress.look_at, progress.due_at]
    if is_paused(progress, now):
        moments = [progress.look_at, max(progress.paused_until, 0)]
    return max(now, min(*moments, now + 86400))
