"""What the probe points of some targets show: once, or until each shows what it is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from internal_puller.install import probe
from internal_puller.install.presets import Plan
from internal_puller.outbox.look import Look

Accepts = Callable[[tuple[Look, ...]], bool]
IN_A_ROW: Final = 3
SPREAD_SECONDS: Final = 1.0
"""A server changes its workers one by one, and shows old and new for a while."""
PAUSE_SECONDS: Final = 0.25
AT_A_TIME: Final = 16


@dataclass(frozen=True)
class Awaited:
    """A target, what it is waited for, for how many seconds at most, and the kind of its key."""

    plan: Plan
    accepts: Accepts
    seconds: float
    kind: str | None = None


class Sight:
    """
    Args:
        monotonic, sleep: in seconds.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep

    def look(
        self, plans: Sequence[Plan], kinds: Sequence[str | None] = ()
    ) -> list[tuple[Look, ...]]:
        """Look once at every probe point of each target, at many targets at a time.

        Args:
            kinds: of key, of the certificate that is looked for at each target, where a listener
                has one of each kind.
        """
        wanted = kinds or [None] * len(plans)
        if len(plans) < 2:
            return [_look(plan, kind) for plan, kind in zip(plans, wanted, strict=True)]
        with ThreadPoolExecutor(min(len(plans), AT_A_TIME)) as pool:
            return list(pool.map(_look, plans, wanted))

    def wait(self, awaited: Sequence[Awaited]) -> list[tuple[Look, ...]]:
        """Look until each has shown what it should some times in a row, or its time is up.

        Returns the last look at each.
        """
        begun = self._monotonic()
        looks: list[tuple[Look, ...]] = [()] * len(awaited)
        streaks = [_Streak() for _ in awaited]
        left = list(range(len(awaited)))
        while left:
            seen = self.look(
                [awaited[index].plan for index in left], [awaited[index].kind for index in left]
            )
            now = self._monotonic()
            for index, found in zip(left, seen, strict=True):
                looks[index] = found
                streaks[index].add(now, good=awaited[index].accepts(found))
            left = [
                index
                for index in left
                if awaited[index].plan.probe
                and not streaks[index].is_enough(now)
                and now - begun < awaited[index].seconds
            ]
            if left:
                self._sleep(PAUSE_SECONDS)
        return looks


def _look(plan: Plan, kind: str | None) -> tuple[Look, ...]:
    return probe.look_all(plan.probe, plan.target.probe_timeout, kind)


@dataclass
class _Streak:
    """How often in a row it was good, and since when."""

    count: int = 0
    since: float = 0.0

    def add(self, now: float, *, good: bool) -> None:
        if good and not self.count:
            self.since = now
        self.count = self.count + 1 if good else 0

    def is_enough(self, now: float) -> bool:
        return self.count >= IN_A_ROW and now - self.since >= SPREAD_SECONDS
