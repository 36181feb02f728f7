"""What strangers cause is logged a few times a minute, however often they do it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LINES = 10
SECONDS = 60.0


class Seldom:
    """Lets :data:`LINES` lines through in :data:`SECONDS`, then says how many it left out.

    Used in one event loop.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._written, self._left_out = 0, 0
        self._end: asyncio.TimerHandle | None = None

    def note(self, write: Callable[..., Any], event: str, **details: object) -> None:
        """Write a line, or count it as left out."""
        if self._end is None:
            self._written, self._left_out = 0, 0
            loop = asyncio.get_running_loop()
            self._end = loop.call_later(self._seconds, self._say, write, event)
        if self._written < LINES:
            self._written += 1
            write(event, **details)
        else:
            self._left_out += 1

    def _say(self, write: Callable[..., Any], event: str) -> None:
        self._end = None
        if self._left_out:
            write(f"{event}: more of the same left out of the log", count=self._left_out)
