"""Every pause of a pull: what failed, what there was too much of, what is looked at again.

What a stay-behind keeps in memory a timer-driven ``pull`` does not need: a timer is a pause of its
own. When to look again is kept in ``Progress.standing``, so that both grow alike. Lean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from internal_puller.install.active import read_active
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.targets import Target
from internal_puller.state.progress import Progress, Standing
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from internal_puller.pull.pace import Pace

NEXT_CSR: Final = 0
"""In place of a generation: what is put off is leaving a CSR."""
_FIRST, _LONGEST = 10.0, 3600.0
"""Seconds, of a generation that failed here."""
LOOK_FIRST, LOOK_LONGEST, LOOK_SHARE = 60.0, 6 * 3600.0, 1 / 20
"""Seconds until what was not seen to be served is looked at again; and the share of what is left of
the certificate that such a pause never exceeds, but for the first."""


class Pauses:
    """
    Args:
        clock: unix seconds.
        monotonic: seconds that never go back.
        pace: how often each certificate may be installed; ``None``: as often as it comes.

    Attributes:
        too_often: certificates of which a generation waits because there were many before.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
    ) -> None:
        self._clock, self._monotonic, self._pace = clock, monotonic, pace
        self._failed: dict[tuple[str, int], tuple[float, float]] = {}
        self.too_often: set[str] = set()

    def begin(self, certificate: str) -> None:
        """An attempt to install begins, whatever comes of it."""
        if self._pace is not None:
            self._pace.note(certificate)

    def defer(self, certificate: str, generation: int) -> None:
        """It failed: the next attempt waits, twice as long each time."""
        earlier = self._failed.get((certificate, generation), (_FIRST / 2, 0.0))[0]
        pause = min(_LONGEST, 2 * earlier)
        self._failed[certificate, generation] = (pause, self._monotonic() + pause)

    def over(self, certificate: str, generation: int) -> None:
        """It did not fail, or for a reason that lies elsewhere."""
        self._failed.pop((certificate, generation), None)

    def is_deferred(self, certificate: str, generation: int) -> bool:
        """Tell whether it failed a moment ago."""
        pause = self._failed.get((certificate, generation), (0.0, 0.0))
        return pause[1] > self._monotonic()

    def waits(self, targets: Iterable[Target], certificate: str, generation: int) -> bool:
        """Tell whether a generation has to wait: it failed a moment ago, or there were many."""
        if self.is_deferred(certificate, generation):
            return True
        if self._pace is None:
            return False
        ends = [_end_of(one) for one in targets if one.certificate == certificate]
        if self._pace.permits(certificate, min(ends, default=0) - self._clock()):
            return False
        self.too_often.add(certificate)
        return True

    def forget_all_but(self, wanted: Collection[tuple[str, int]]) -> None:
        """Drop what is over and led to no attempt: nobody wants that generation any more."""
        now = self._monotonic()
        self._failed = {
            key: pause
            for key, pause in self._failed.items()
            if key in wanted or key[1] == NEXT_CSR or pause[1] > now
        }

    def patience(self, wait: int, progress: Progress, targets: Iterable[Target]) -> int:
        """Return how long the agent may hold the question: never beyond our own next step."""
        now = self._monotonic()
        left = [max(0.0, until - now) for _, until in self._failed.values()]
        if progress.reports_waiting:
            left.append(max(0.0, progress.reports_paused_until - self._clock()))
        left += [max(0.0, one - self._clock()) for one in moments(progress, targets)]
        return min([wait, *map(math.ceil, left)])


def moments(progress: Progress, targets: Iterable[Target]) -> list[int]:
    """Return when what is in place and was not seen to be served is looked at; unix seconds."""
    standing = (progress.standing.get(str(one.directory)) for one in targets)
    return [one.again_at for one in standing if one]


def looked_at_now(
    progress: Progress, targets: Sequence[Target], now: float, *, at_once: bool
) -> tuple[Target, ...]:
    """Return the targets whose pause is over; one that a clock set back made longer is void.

    Args:
        now: unix seconds.
        at_once: whatever their pauses are.
    """
    return tuple(
        target
        for target in targets
        if (one := progress.standing.get(str(target.directory)))
        and one.verdict != Verdict.BACK_UNSEEN  # whose note is gone on with
        and (at_once or not _waits(one, now))
    )


def waits_unseen(progress: Progress, directory: str, now: float) -> bool:
    """Tell whether a way back of which no end was seen was looked at a while ago."""
    one = progress.standing.get(directory)
    return one is not None and one.verdict == Verdict.BACK_UNSEEN and _waits(one, now)


def _waits(one: Standing, now: float) -> bool:
    return 0 < one.again_at - now <= LOOK_LONGEST


def note_look(progress: Progress, outcome: Outcome, now: float) -> None:
    """Say when a target is looked at again, if it has to be; forget it if not.

    The pause grows for as long as nothing changes.

    Args:
        now: unix seconds.
    """
    if outcome.verdict is None or not outcome.directory:
        return  # nothing was learned of it
    before = progress.standing.pop(outcome.directory, None)
    if not outcome.is_looked_at_again:
        return
    is_new = before is None or outcome.changed
    is_same = before is not None and not is_new and before.verdict == outcome.verdict
    pause = next_pause(before.pause if before and is_same else 0, outcome.not_after - now)
    progress.standing[outcome.directory] = Standing(
        verdict=str(outcome.verdict),
        since=int(now) if before is None or is_new else before.since,
        again_at=int(now + pause),
        what=outcome.error.what if outcome.error else "",
        pause=int(pause),
    )


def put_off(progress: Progress, targets: Iterable[Target], now: float) -> None:
    """Let those wait that were looked at in vain, as what is in place could not even be read."""
    for target in targets:
        one = progress.standing.get(str(target.directory))
        if one is not None and not _waits(one, now):
            one.pause = int(next_pause(one.pause, LOOK_LONGEST / LOOK_SHARE))
            one.again_at = int(now + one.pause)


def next_pause(before: float, left: float) -> float:
    """Return the seconds until the next look.

    Args:
        before: the last pause; 0 for none.
        left: seconds that the certificate in place has still to live.
    """
    longest = max(LOOK_FIRST, min(LOOK_LONGEST, left * LOOK_SHARE))
    return min(longest, max(LOOK_FIRST, 2 * before))


def _end_of(target: Target) -> int:
    """Return when the certificate in place expires, unix seconds; 0 for none."""
    with suppress(ConfigurationError):  # said elsewhere
        active = read_active(target)
        return 0 if active is None else active.not_after
    return 0
