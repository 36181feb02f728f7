"""What comes before anything new: what an earlier run left, and what settings changed.

The caller holds the installation lock. The quiet path of ``pull`` never comes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.receipts import removed_receipt, seen
from internal_puller.pull.deciding import reshaped
from internal_puller.pull.pauses import note_look
from internal_puller.pull.remembered import forget, without_target
from internal_puller.pull.standing import with_others
from internal_puller.pull.turn import Turn
from internal_puller.settings.targets import Target
from internal_puller.sources.direct.record import DirectFiles
from internal_puller.sources.direct.reports import removed_report
from internal_puller.state.pending import PendingKeys, pending_certificates
from shared.contract.errors import ConfigurationError


def forget_removed(turn: Turn) -> None:
    """The agent is told once, by receipt; the rest of what was known goes at once."""
    turn.refresh()
    here = {target.certificate for target in turn.targets}
    for certificate in without_target(turn.progress, here):
        forget(turn.progress, certificate, _removed_receipt(turn, certificate))
    forget_places(turn)
    turn.save()
    for certificate in pending_certificates(turn.state.path) - here:
        PendingKeys(turn.state.path, certificate).clear()


def _removed_receipt(turn: Turn, certificate: str) -> str | None:
    if turn.agent is None:
        return None
    mine, now = turn.progress.of(certificate), int(turn.clock())
    if not mine.direct:
        return removed_receipt(certificate, mine.offered, now=now)
    with suppress(ConfigurationError):  # what is damaged must not be told of for ever
        if issued := DirectFiles(turn.state.path).of(certificate).issued():
            return removed_report(certificate, issued.names, now=now)
    return None


def resume(turn: Turn) -> None:
    """Bring to their verdicts the installations that an earlier run did not finish."""
    turn.refresh()
    before = {place: one.verdict for place, one in turn.progress.standing.items()}
    outcomes = [_with_digest(turn, one) for one in turn.engine.resume()]
    note(turn, outcomes)
    tell(turn, [one for one in outcomes if one.digest and is_news(turn, one, before)])
    turn.save()


def is_news(turn: Turn, outcome: Outcome, before: Mapping[str, str]) -> bool:
    """Tell whether a verdict, or what is seen, is another than was told.

    Args:
        before: the verdicts that stood, by directory.
    """
    told = turn.progress.of(outcome.certificate).served
    is_other = any(told.get(where) != leaf for where, leaf in seen(outcome.looks).items())
    return bool(outcome.verdict and (outcome.verdict != before.get(outcome.directory) or is_other))


def _with_digest(turn: Turn, outcome: Outcome) -> Outcome:
    floor = turn.state.floors().get(outcome.certificate)
    if outcome.digest or floor is None or floor.generation != outcome.generation:
        return outcome
    return replace(outcome, digest=floor.digest)


def reshape(turn: Turn) -> None:
    """Once for each change: what fails now is in force with the next generation."""
    turn.refresh()
    changed = reshaped(turn)
    found = turn.engine.reshape(changed)
    note(turn, [one for one in found if one.changed or one.error])
    note_shapes(turn, changed)
    forget_places(turn)
    turn.save()


def forget_places(turn: Turn) -> None:
    """Forget what was known of directories that no target has any more."""
    here = {str(one.directory) for one in turn.targets}
    shapes, standing = turn.progress.shapes, turn.progress.standing
    turn.progress.shapes = {place: one for place, one in shapes.items() if place in here}
    turn.progress.standing = {place: one for place, one in standing.items() if place in here}


def note(turn: Turn, outcomes: list[Outcome]) -> None:
    """Take outcomes into the report, and note when their servers are looked at again."""
    turn.report.outcomes += outcomes
    for one in outcomes:
        note_look(turn.progress, one, turn.clock())


def tell(turn: Turn, outcomes: Sequence[Outcome]) -> None:
    """Write the receipt of each certificate, of all its targets."""
    turn.outbox.keep(with_others(turn, outcomes))


def note_shapes(turn: Turn, written: list[Target]) -> None:
    """The files in place at these targets are as they are wanted now."""
    turn.progress.shapes |= {str(one.directory): one.shape for one in written}
