"""Looks once a day whether dns-persist-01 records still stand, and how long they will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from external_agent.clock import Clock
from external_agent.facts.persist import Seen, look_is_due
from external_agent.store.interface import PersistStore
from shared.acme.dns_persist_use import NameReport, TxtLookup, check_name

_log = structlog.get_logger(__name__)


class Watch(Protocol):
    """What the scheduler calls now and then; returns how many looks may have made work."""

    def look(self) -> int: ...


class Watches:
    """Several watches as one; they take turns in one thread."""

    def __init__(self, *watches: Watch) -> None:
        self._watches = watches

    def look(self) -> int:
        return sum(watch.look() for watch in self._watches)


class PersistWatch:
    """Asks the DNS about the records of names that were looked at before: by an order, or `check`.

    Args:
        lookup: called for each look, so that a reload takes effect with the next one.
    """

    def __init__(
        self, store: PersistStore, lookup: Callable[[], TxtLookup], *, clock: Clock
    ) -> None:
        self._store, self._lookup, self._clock = store, lookup, clock

    def look(self) -> int:
        """Look at one name that is due, so that slow servers hold nobody up for long.

        Returns 0: what is found changes nothing about what is to be ordered.

        Raises:
            StoreUnavailable: nothing could be read or kept.
        """
        now = self._clock()
        due = [row for row in self._store.persist_records() if look_is_due(row.seen, now)]
        if due:
            row = min(due, key=lambda one: one.seen.looked_at)
            report = check_name(row.offer, row.name, self._lookup(), now, wildcard=row.wildcard)
            if not report.good:
                _log.warning("dns-persist-01 record", name=row.name, found=report.words)
            elif report.ends_soon(now):
                _log.warning("dns-persist-01 record ends", name=row.name, until=report.until)
            seen = look_of(report, now)
            self._store.record_persist_look(row.certificate, row.name, row.offer, seen)
        return 0


def look_of(report: NameReport, now: int) -> Seen:
    """Return what is kept of a look."""
    return Seen(str(report.verdict), report.words, report.until, now)
