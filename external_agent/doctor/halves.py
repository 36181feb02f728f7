"""The pullers' halves, as they were left last; in memory: they are soon old."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from shared.diagnosis import Half

MOST = 1000
"""So many pullers; each has one half."""


class Halves:
    """May be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._halves: dict[str, Half] = {}

    def keep(self, puller: str, half: Half) -> None:
        """Keep it in place of the one before; the oldest gives way when there are too many."""
        with self._lock:
            self._halves.pop(puller, None)
            self._halves[puller] = half
            while len(self._halves) > MOST:
                del self._halves[next(iter(self._halves))]

    def about(self, names: Iterable[str]) -> list[Half]:
        """Return those that speak of one of these names."""
        wanted = set(names)
        with self._lock:
            halves = list(self._halves.values())
        return [half for half in halves if any(one.name in wanted for one in half.names)]
