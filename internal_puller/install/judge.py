"""The judge: from what was seen, and how test and reload ended, to a verdict. No I/O, no clock.

Decided in this order: (1) the server lives and its test passes, (2) a leaf is shown and proven, (3)
which leaf. A lower one is never bought with a higher one. Only what got worse goes back, and what
is not known is not worse. What the rows leave open: docs/decisions/0026-the-judge.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from internal_puller.install.server import STOPPED, Running
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
    if is_dead(case.ran, case.runs):
        return Verdict.BACK_BY_DEATH
    found = _by_leaf(case)
    if case.ran in STOPPED:  # unless it was started since; nothing there is this one's doing
        started = case.runs is Running.YES and found is not Verdict.BACK_BY_LEAF
        return found if started else Verdict.NOT_RUNNING
    if found is Verdict.BACK_BY_LEAF:
        usable = case.old is None or case.old.is_usable(case.now)
        return found if usable else Verdict.WORSE_AND_KEPT
    if case.reload is Reload.FAILED and found is not Verdict.SERVED:
        return Verdict.RELOAD_FAILED
    return found


def judge_back(
    found: Verdict, before: tuple[Look, ...], again: tuple[Look, ...], runs: Running
) -> Verdict:
    """Return what a verdict by leaf or by death is once the old files are in place again.

    So is one of an earlier run whose end was not seen; which of the two it was is not kept.

    Args:
        before, again: what was seen before anything was changed, and what is seen now.
        runs: now, after the reload or the start that went with going back.

    Returns:
        ``found`` if that helped; ``NOT_CAUSED`` (the new files go in again) if by leaf it did not;
        ``BACK_UNSEEN`` if that is not known, or the server is not as it was.
    """
    returned = is_as_before(before, again)
    lives = runs not in STOPPED
    if found is not Verdict.BACK_BY_LEAF and not any(one.leaf_sha256 for one in before):
        lives = runs is Running.YES  # nothing else tells
    if lives and found is Verdict.BACK_BY_LEAF and returned is False:
        return Verdict.NOT_CAUSED
    if not (lives and returned):
        return Verdict.BACK_UNSEEN
    return Verdict.BACK_BY_LEAF if found is Verdict.BACK_UNSEEN else found


def is_as_before(before: Iterable[Look], again: Iterable[Look]) -> bool | None:
    """Tell whether each address that showed a leaf shows the same now; ``None``: not known."""
    now = {look.where: look for look in again}
    found = [_is_back(had, now.get(had.where)) for had in before if had.leaf_sha256]
    return False if False in found else None if None in found else True


def _is_back(had: Look, now: Look | None) -> bool | None:
    if now is None or now.answer is Answer.NOT_KNOWN:
        return None
    return had.leaf_sha256 == now.leaf_sha256 and not _lost_its_proof(had, now)


def is_dead(ran: Running, runs: Running) -> bool:
    """Tell whether a server ran before and is dead now; what is not known is no death.

    What was changing may have been stopping, or failing again and again: that is not known.
    """
    return ran is Running.YES and runs in STOPPED


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
    if before is not None and _lost_its_proof(before, after):
        return Verdict.BACK_BY_LEAF
    if after.leaf_sha256 == new:
        return _of_new(before, after, seen_before=had == new != old)
    if after.leaf_sha256 == old:
        return Verdict.NOT_TAKEN_UP
    return Verdict.ANOTHER_SERVER if had in (None, after.leaf_sha256) else Verdict.BACK_BY_LEAF


def _of_new(before: Look | None, after: Look, *, seen_before: bool) -> Verdict:
    if after.answer is Answer.SHOWN and before is not None and before.answer is Answer.PROVEN:
        return Verdict.CANNOT_BE_SEEN  # whether it still proves its key
    return Verdict.SEEN_BEFORE if seen_before else Verdict.SERVED


def _lost_its_proof(before: Look, after: Look) -> bool:
    """Tell whether a handshake proved a key before, and now shows that none can: not, that none
    was seen (the server wants a client certificate now, or was slow).
    """
    shown_only = after.answer is Answer.SHOWN and after.trouble is not None
    return before.answer is Answer.PROVEN and shown_only
