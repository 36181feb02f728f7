"""What is done when there is something to do: all is fetched, installed in one go, and reported.

The caller holds the installation lock. The quiet path of ``pull`` never comes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from internal_puller.install.engine import Job
from internal_puller.install.material import Material
from internal_puller.install.served_now import look_at
from internal_puller.outbox.delivery import deliver
from internal_puller.outbox.outcome import Outcome, sum_up
from internal_puller.pull.deciding import Decision
from internal_puller.pull.looking import look_again
from internal_puller.pull.next_csr import leave_csrs
from internal_puller.pull.pauses import note_look
from internal_puller.pull.plan import Plan, set_aside_outcome
from internal_puller.pull.settling import forget_places, note, note_shapes, tell
from internal_puller.pull.turn import Turn
from internal_puller.sources.agent.contact import NO_CONTACT, lost_contact
from internal_puller.sources.source import Source, Work
from internal_puller.state.files import sweep
from internal_puller.state.progress import LastError
from shared.contract.errors import ConfigurationError, RelayError, unexpected


def carry_out(turn: Turn, decision: Decision) -> None:
    """Do what was decided; what fails of it is in the report.

    Raises:
        ConfigurationError: what this machine has to know cannot be written.
    """
    sweep(turn.state.path)
    forget_places(turn)
    _report_standing(turn, decision)
    worked_on = _install(turn, decision.plan.work)
    look_again(turn, [one for one in decision.look if one.certificate not in worked_on])
    turn.save()
    send(turn, decision.plan)
    leave_csrs(turn, decision.csrs, worked_on)
    send(turn)


def send(turn: Turn, plan: Plan | None = None) -> None:
    """Deliver what waits in the outbox, if the agent can be reached.

    Args:
        plan: whose ``behind`` the agent is to be told of.
    """
    if turn.agent is None or turn.report.contact is not None:
        return
    if plan is None and not turn.progress.reports_due(turn.clock()):
        return
    client = turn.agent.client
    try:
        turn.report.warnings += deliver(client, turn.progress, turn.clock())
        for certificate, floor in plan.behind.items() if plan else ():
            client.bundle(certificate, after=floor)
    except NO_CONTACT as error:
        turn.note_no_contact(error)
    turn.save()


def _report_standing(turn: Turn, decision: Decision) -> None:
    """Write the receipts of what nothing is done about: it is in place, or cannot be."""
    plan, outbox = decision.plan, turn.outbox
    for certificate, generation, error in turn.direct.failures() if turn.direct else ():
        outbox.keep_failed_order(certificate, generation, error)
    for target, fault in plan.unusable:
        mine = turn.progress.of(target.certificate)
        if not mine.withdrawn_at:  # else the agent takes no receipt
            outbox.keep_fault(target.certificate, mine.offered, fault)
    for certificate, generation, mark in plan.failed:
        if (certificate, generation) in decision.untold:
            outbox.keep([set_aside_outcome(certificate, generation, mark)])
    looked = [look_at(target, turn.clock) for target in plan.unreported]
    found = [one for one in looked if one is not None]
    for one in found:
        note_look(turn.progress, one, turn.clock())
    tell(turn, found)


@dataclass(frozen=True, slots=True)
class _Fetched:
    work: Work
    source: Source
    material: Material


def _install(turn: Turn, works: Sequence[Work]) -> set[str]:
    """Fetch all, then install all; return the certificates that were worked on."""
    fetched = [found for work in works if (found := _fetch(turn, work)) is not None]
    if len(fetched) < len(works):
        with suppress(ConfigurationError):  # said at the end; what can be installed is
            turn.save()  # of what was refused only this file knows
    jobs = [
        Job(target, one.material, force=one.work.again)
        for one in fetched
        for target in one.work.targets
    ]
    try:
        outcomes = turn.engine.install(jobs) if jobs else []
    except Exception as fault:  # a bug of ours is told, too; what was begun is resumed
        for one in fetched:
            _failed(turn, one.work, _as_ours(one.work, fault))
        return {work.certificate for work in works}
    note(turn, outcomes)
    tell(turn, outcomes)
    of: dict[str, list[Outcome]] = {}
    for each in outcomes:
        of.setdefault(each.certificate, []).append(each)
    for one in fetched:
        _settle(turn, one, of[one.work.certificate])
    return {work.certificate for work in works}


def _fetch(turn: Turn, work: Work) -> _Fetched | None:
    """One certificate's failure does not keep the others from being installed."""
    turn.pauses.begin(work.certificate)
    source = turn.source_of(work.certificate)
    assert source is not None
    try:
        found = source.fetch(work)
    except Exception as fault:  # a bug in one must not stop the others
        _failed(turn, work, _as_ours(work, fault))
        return None
    if isinstance(found, Material):
        leaf = found.chain[0]
        lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        turn.progress.of(work.certificate).lifetime = int(lifetime.total_seconds())
        return _Fetched(work, source, found)
    if found is not None:
        turn.outbox.keep([found])
        turn.report.outcomes.append(found)
        turn.pauses.defer(work.certificate, work.generation)
    return None


def _as_ours(work: Work, fault: Exception) -> RelayError:
    return fault if isinstance(fault, RelayError) else unexpected(work.certificate, fault)


def _failed(turn: Turn, work: Work, error: RelayError) -> None:
    """What is wrong on this machine is told to the agent; what the agent said it knows."""
    if isinstance(error, NO_CONTACT):
        mine = turn.progress.of(work.certificate)
        mine.error = LastError(error.type, error.what, int(turn.clock()))
        outcome = Outcome(work.certificate, work.generation, None, error)
    else:
        outcome = turn.outbox.keep_fault(work.certificate, work.generation, error)
    turn.report.outcomes.append(outcome)
    if lost_contact(error):  # the caller's to wait for
        turn.report.contact = error
        turn.pauses.over(work.certificate, work.generation)
    else:
        turn.pauses.defer(work.certificate, work.generation)


def _settle(turn: Turn, fetched: _Fetched, outcomes: list[Outcome]) -> None:
    """Draw from the outcomes at all its targets what follows for a certificate."""
    work, told = fetched.work, sum_up(outcomes)
    in_place = {one.directory for one in outcomes if one.word == "installed"}
    note_shapes(turn, [one for one in work.targets if str(one.directory) in in_place])
    if told.word == "installed":
        fetched.source.in_place(fetched.material, turn.progress.of(work.certificate))
        turn.pauses.over(work.certificate, work.generation)
    else:
        turn.pauses.defer(work.certificate, work.generation)
