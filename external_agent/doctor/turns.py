"""Whose turn it is: one examination at a time, and no puller has them without end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from external_agent.doctor.examination import in_a_thread
from shared.contract.diagnosis import Half
from shared.contract.errors import RequestRefused

AT_ONCE = 5
"""So many examinations a puller may have in a row, so that somebody who mends things can look."""
_RETRY_SECONDS = 30


class Turns:
    """Gives examinations a thread of their own, so that nothing else waits for one.

    Used in one event loop.

    Args:
        examine: makes the agent's half of a diagnosis for some certificates; may block.
        pause: seconds that one puller's examinations are apart in the long run.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        examine: Callable[[Sequence[str]], Half],
        pause: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._examine, self._pause, self._clock = examine, pause, clock
        self._turn = asyncio.Lock()
        self._wanted = 0
        self._paid_until: dict[str, float] = {}

    async def of_operator(self, certificates: Sequence[str]) -> Half:
        """Examine as soon as the examinations before this one have ended."""
        self._wanted += 1
        try:
            async with self._turn:
                return await asyncio.wrap_future(in_a_thread(partial(self._examine, certificates)))
        finally:
            self._wanted -= 1

    async def of_puller(self, puller: str, certificates: Sequence[str]) -> Half:
        """Examine at once or not at all: nobody inside can make others wait.

        Raises:
            RequestRefused: another examination is made now, or this puller had too many.
        """
        if self._wanted:
            raise RequestRefused(
                "Another examination is being made.",
                problem_type="examination-under-way",
                retry_after=_RETRY_SECONDS,
            )
        self._pay(puller)
        return await self.of_operator(certificates)

    def _pay(self, puller: str) -> None:
        """Each examination is paid for with a pause; :data:`AT_ONCE` of them are on credit."""
        now, pause = self._clock(), self._pause()
        self._paid_until = {one: at for one, at in self._paid_until.items() if at > now}
        paid_until = max(now, self._paid_until.get(puller, now)) + pause
        wait = paid_until - AT_ONCE * pause - now
        if wait > 0:
            raise RequestRefused(
                f"This puller had {AT_ONCE} examinations just now.",
                problem_type="too-many-examinations",
                retry_after=math.ceil(wait),
            )
        self._paid_until[puller] = paid_until
