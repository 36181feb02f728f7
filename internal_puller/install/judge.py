"""The judge: from what was seen, and how test and reload ended, to a verdict. No I/O, no clock.

Decided in this order: (1) the server lives and its test passes, (2) a leaf is shown and proven, (3)
which leaf. A lower one is never bought with a higher one. Only what got worse goes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from internal_puller.install.server import Running
from internal_puller.outbox.look import Answer, Look
from internal_puller.outbox.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

USABLE_SHARE: Final = 1 / 10
"""Back by leaf never goes to what has less than this share of its life left."""


class Test(Enum):
    """What the server's test says of one new certificate."""

    PASSES = "passes"
    """With all that stays new; also where there is no test."""
    FAILS = "fails"
    """With this one new it fails, and without it passes."""
    FAILS_ANYWAY = "fails anyway"
    """It fails with everything new and with everything old."""


class Reload(Enum):
    """How the server was told."""

    DONE = "done"
    FAILED = "failed"
    NONE = "none"
    """It has no such command, or was not told: it did not run."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate of ours.

    Attributes:
        not_before, not_after: unix seconds.
    """

    sha256: str
    not_before: int
    not_after: int

    def is_usable(self, now: float) -> bool:
        """Tell whether it may be gone back to because of another one's leaf."""
        return self.not_after - now >= USABLE_SHARE * (self.not_after - self.not_before)


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one target when it is judged.

    Attributes:
        new, old: what was put in place, and what was before; ``None`` for a first one.
        test, reload: how they ended.
        ran, runs: before anything was changed, and now.
        before, after: what each address of each probe point answered; empty without a probe.
        now: unix seconds.
    """

    new: Leaf
    old: Leaf | None
    test: Test
    ran: Running
    reload: Reload
    runs: Running
    before: tuple[Look, ...]
    after: tuple[Look, ...]
    now: float


def judge(case: Case) -> Verdict:
    """Return the verdict of one target: that of test, else of reload, else of the leaf."""
    if case.test is not Test.PASSES:
        return Verdict.BACK_BY_TEST if case.test is Test.FAILS else Verdict.BROKEN_BEFORE
    if case.ran in (Running.NO, Running.FAILED):
        return Verdict.NOT_RUNNING
    if is_dead(case.ran, case.runs):
        return Verdict.BACK_BY_DEATH
    found = _by_leaf(case)
    if found is Verdict.BACK_BY_LEAF:
        usable = case.old is None or case.old.is_usable(case.now)
        return found if usable else Verdict.WORSE_AND_KEPT
    if case.reload is Reload.FAILED and found is not Verdict.SERVED:
        return Verdict.RELOAD_FAILED
    return found


def is_dead(ran: Running, runs: Running) -> bool:
    """Tell whether a server ran before and is dead now; what is not known is no death."""
    return ran in (Running.YES, Running.CHANGING) and runs in (Running.NO, Running.FAILED)


def _by_leaf(case: Case) -> Verdict:
    if not case.after:
        return Verdict.IN_PLACE
    before = {look.where: look for look in case.before}
    old = case.old.sha256 if case.old else None
    return worst(
        _of_address(before.get(look.where), look, old, case.new.sha256) for look in case.after
    )


_WORST_FIRST: Final = (
    Verdict.BACK_BY_LEAF,
    Verdict.NOT_TAKEN_UP,
    Verdict.ANOTHER_SERVER,
    Verdict.SEEN_BEFORE,
    Verdict.CANNOT_BE_SEEN,
    Verdict.SERVED,
)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts by leaf."""
    return min(verdicts, key=_WORST_FIRST.index)


def _of_address(before: Look | None, after: Look, old: str | None, new: str) -> Verdict:
    """One row of the table by leaf; an address that was not looked at before is not known."""
    had = None if before is None else before.leaf_sha256
    if after.answer is Answer.NOT_KNOWN:
        return Verdict.CANNOT_BE_SEEN
    if after.answer is Answer.NONE:
        return Verdict.CANNOT_BE_SEEN if had is None else Verdict.BACK_BY_LEAF
    if after.leaf_sha256 == new:
        return _of_new(before, after, seen_before=had == new != old)
    if after.leaf_sha256 == old:
        return Verdict.NOT_TAKEN_UP
    return Verdict.ANOTHER_SERVER if had in (None, after.leaf_sha256) else Verdict.BACK_BY_LEAF


def _of_new(before: Look | None, after: Look, *, seen_before: bool) -> Verdict:
    proven = before is not None and before.answer is Answer.PROVEN
    if proven and after.answer is Answer.SHOWN:
        return Verdict.BACK_BY_LEAF
    return Verdict.SEEN_BEFORE if seen_before else Verdict.SERVED
