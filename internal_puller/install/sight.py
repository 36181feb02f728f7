"""What the probe points of some targets show: once, or until each shows what it is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from internal_puller.install import probe
from internal_puller.install.presets import Plan
from internal_puller.outbox.look import Look

Accepts = Callable[[tuple[Look, ...]], bool]
PAUSE_SECONDS: Final = 0.1
IN_A_ROW: Final = 3
SPREAD_SECONDS: Final = 1.0
"""A server changes its workers one by one: for a tenth of a second old and new are mixed, and up to
four new ones in a row were seen while an old one still answered."""
ASKED_EVERY: Final = 1.0
AT_A_TIME: Final = 16


@dataclass(frozen=True)
class Awaited:
    """A target, and what it is waited for.

    Attributes:
        seconds: from when its server runs.
        kind: of the key of that leaf.
        starting: asked while a leaf is missing anywhere: whether the server is on its way.
        patience: seconds for which it may be.
    """

    plan: Plan
    accepts: Accepts
    seconds: float
    kind: str | None = None
    starting: Callable[[], bool] = lambda: False
    patience: float = 0.0


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
        """Look until each has shown what it should for a second, or its time is up.

        Who has begun to show it in time is looked at to the end of that second.

        Returns the last look at each.
        """
        begun = self._monotonic()
        every = [_Wait(one, begun) for one in awaited]
        left = every
        while left:
            plans, kinds = [one.of.plan for one in left], [one.of.kind for one in left]
            for one, looks in zip(left, self.look(plans, kinds), strict=True):
                one.add(self._monotonic(), looks)
            left = [one for one in left if not one.is_over(self._monotonic())]
            if left:
                self._sleep(PAUSE_SECONDS)
        return [one.looks for one in every]


def _look(plan: Plan, kind: str | None) -> tuple[Look, ...]:
    return probe.look_all(plan.probe, plan.target.probe_timeout, kind)


@dataclass
class _Wait:
    """One target that is waited for.

    Attributes:
        good: when it was seen to be good without a bad look since.
    """

    of: Awaited
    begun: float
    looks: tuple[Look, ...] = ()
    good: list[float] = field(default_factory=list)
    deadline: float = field(init=False)
    ask_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.deadline, self.ask_at = self.begun + self.of.seconds, self.begun

    def add(self, now: float, looks: tuple[Look, ...]) -> None:
        self.looks = looks
        self.good = [*self.good, now] if self.of.accepts(looks) else []

    def is_over(self, now: float) -> bool:
        if not self.of.plan.probe:
            return True
        if len(self.good) >= IN_A_ROW and now - self.good[0] >= SPREAD_SECONDS:
            return True
        if self._is_asked(now):
            self.ask_at = now + ASKED_EVERY
            if self.of.starting():
                self.deadline = now + self.of.seconds
        return now >= self.deadline and not self.good

    def _is_asked(self, now: float) -> bool:
        is_missing = any(look.leaf_sha256 is None for look in self.looks)
        is_time = now - self.begun < self.of.patience and now >= min(self.ask_at, self.deadline)
        return is_missing and is_time
