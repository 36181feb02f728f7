"""Parked long polls: who waits for what, and who wakes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MAX_WAITS = 4


class TooManyWaits(Exception):
    """A puller has :data:`MAX_WAITS` requests parked already."""


class Bell:
    """Wakes parked polls; ``ring`` may be called from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say in which loop the polls wait."""
        self._loop = loop

    @property
    def waiting(self) -> int:
        return sum(len(events) for events in self._waiting.values())

    @property
    def closed(self) -> bool:
        return self._closed

    def ring(self) -> None:
        """Let every parked poll look again."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    def close(self) -> None:
        """The agent stops: let every poll answer with what there is."""
        self._closed = True
        self.ring()

    @asynccontextmanager
    async def parked(self, puller: str) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set by the next ring.

        Raises:
            TooManyWaits: see :data:`MAX_WAITS`.
        """
        events = self._waiting.setdefault(puller, set())
        if len(events) >= MAX_WAITS:
            raise TooManyWaits
        event = asyncio.Event()
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._waiting.pop(puller, None)
