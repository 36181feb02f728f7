"""Deletes once a day what is older than the operator wants it kept; one small turn at a time."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from external_agent.clock import Clock
from external_agent.store.interface import RetentionStore
from shared.issuing.renewal import DAY

_log = structlog.get_logger(__name__)


class Housekeeping:
    """A watch of the scheduler.

    Args:
        days: how long things are kept; 0 is for ever. Called for each turn.
    """

    def __init__(self, store: RetentionStore, days: Callable[[], int], *, clock: Clock) -> None:
        self._store, self._days, self._clock = store, days, clock
        self._more = False

    def look(self) -> int:
        """Take a turn if one is due. Returns 0: nothing is to be ordered because of it.

        A clock that was set back since the last turn makes one due, and no harm is in that.

        Raises:
            StoreUnavailable: nothing was deleted.
        """
        now, days = self._clock(), self._days()
        if not days:
            return 0
        since = now - self._store.housekeeping_at()
        if not self._more and 0 <= since < DAY:
            return 0
        done = self._store.delete_older_than(now - days * DAY, now=now)
        self._more = done.events > 0
        if done.events or done.receipts or done.attempts:
            _log.info(
                "housekeeping",
                days=days,
                events=done.events,
                receipts=done.receipts,
                attempts=done.attempts,
            )
        return 0
