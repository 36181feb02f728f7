"""What is in place already is judged by a look: nothing is tested, reloaded or switched for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from internal_puller.install.choosing import older
from internal_puller.outbox.verdict import RELOADED_AGAIN, Verdict
from shared.contract.errors import RelayError

if TYPE_CHECKING:
    from internal_puller.install.member import Member
    from internal_puller.install.steps import Steps
    from internal_puller.outbox.outcome import Outcome

_FINE: Final = (Verdict.SERVED, Verdict.SEEN_BEFORE, Verdict.NOT_RUNNING)
_LASTING: Final = (Verdict.NOT_CAUSED, Verdict.WORSE_AND_KEPT)
"""Until the new leaf is seen, what was found at the reload says more than a later look."""


def look_only(steps: Steps) -> list[Outcome]:
    """Return the outcomes of those that need no reload; the others are left to be told again."""
    try:
        steps.see(steps.members)
        steps.servers.look_around()  # afterwards: a look starts what waits behind a socket
    except RelayError as fault:
        return [one.outcome(fault) for one in steps.members]
    for one in steps.members:
        if one.kept:
            one.previous = _before(one)
        steps.decide(one, steps.servers.ran)
        if one.stood is Verdict.SEEN_BEFORE and one.verdict is Verdict.SERVED:
            one.verdict = Verdict.SEEN_BEFORE  # that it is shown says nothing about this server
        if one.stood in _LASTING and one.verdict is not Verdict.SERVED:
            one.verdict = one.stood
    outcomes = [steps.outcome_of(one) for one in steps.members if not _wants_reload(one)]
    for one in steps.members:
        one.verdict, one.speaks, one.detail = None, None, ""
    return outcomes


def _before(one: Member) -> str | None:
    """Return what it went in place of: what is still shown, else the newest older one."""
    shown = {look.leaf_sha256 for look in one.looks}
    names = [name for name in one.generations.names() if name != one.to]
    return next((name for name in names if one.leaf(name).sha256 in shown), older(one.generations))


def _wants_reload(one: Member) -> bool:
    if one.verdict in _FINE or one.verdict in _LASTING:
        return False
    if not one.kept:
        return one.verdict is not Verdict.IN_PLACE
    told_again = one.stood in RELOADED_AGAIN
    if one.verdict is Verdict.IN_PLACE:  # without a probe nothing but a reload can have failed
        return told_again or one.stood is None
    return told_again or one.verdict is Verdict.NOT_TAKEN_UP
