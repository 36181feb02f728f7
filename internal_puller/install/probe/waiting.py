"""Waits until a new leaf is what every probe point shows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from internal_puller.install.probe import looking
from internal_puller.outbox.look import shows

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.outbox.look import Look
    from internal_puller.settings.probe_point import ProbePoint

PAUSE_SECONDS: Final = 0.1
# Servers change their workers one by one: for a tenth of a second old and new are mixed, and up to
# four new ones in a row were seen while an old one still answered.
IN_A_ROW: Final = 3
SPREAD_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 120.0
ASKED_EVERY: Final = 1.0


def await_leaf(
    points: tuple[ProbePoint, ...],
    expected: str,
    timeout: float,
    *,
    kind: str | None = None,
    starting: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE_SECONDS,
    settled: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Look, ...]:
    """Look until every address has shown the expected leaf for a second, or time is up.

    Args:
        expected: hex SHA-256 of the leaf.
        timeout: seconds from when the server runs; each look takes no more either.
        kind: of the key of that leaf.
        starting: asked while a leaf is missing anywhere: whether the server is on its way.
        patience: seconds for which it may be.
        settled: the server was told nothing new, so one good look is enough.
        clock, sleep: monotonic seconds.

    Returns:
        The last looks; ``shows(looks, expected)`` means success.
    """
    begun = clock()
    deadline = begun + timeout
    wanted, spread = (1, 0.0) if settled else (IN_A_ROW, SPREAD_SECONDS)
    streak: list[float] = []
    ask_at = begun
    while True:
        looks = looking.look_all(points, timeout, kind)
        now = clock()
        streak = [*streak, now] if shows(looks, expected) else []
        if not points or (len(streak) >= wanted and now - streak[0] >= spread):
            return looks
        if now - begun < patience and now >= min(ask_at, deadline) and _is_missing(looks):
            ask_at = now + ASKED_EVERY
            deadline = now + timeout if starting() else deadline
        if now >= deadline and not streak:
            return looks
        sleep(PAUSE_SECONDS)


def _is_missing(looks: tuple[Look, ...]) -> bool:
    return any(look.leaf_sha256 is None for look in looks)
