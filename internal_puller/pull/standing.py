"""What stands as an earlier run left it: in place, and not seen to be served; lean."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from internal_puller.install.active import Active, read_active
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import ERRORS, Verdict
from internal_puller.pull.turn import Turn
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError


def note_standing(turn: Turn) -> None:
    """Say again what was not looked at in this pull: the exit code stays that of its error."""
    done = {one.directory for one in turn.report.outcomes}
    turn.report.standing += [
        found
        for target in turn.targets
        if str(target.directory) not in done
        and (found := standing_outcome(turn, target)) is not None
    ]


def with_others(turn: Turn, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Add what stands at the other targets of the same certificates.

    A receipt speaks for each server, also for those that nothing was done about.
    """
    done = {one.directory for one in outcomes}
    certificates = {one.certificate for one in outcomes}
    return [
        *outcomes,
        *(
            found
            for target in turn.targets
            if target.certificate in certificates
            and str(target.directory) not in done
            and (found := standing_outcome(turn, target)) is not None
        ),
    ]


def standing_outcome(turn: Turn, target: Target) -> Outcome | None:
    """Return the outcome that a target was left with; ``None`` if all was well there."""
    left = turn.progress.standing.get(str(target.directory))
    if left is None:
        return None
    active: Active | None = None
    with suppress(ConfigurationError):  # said elsewhere
        active = read_active(target)
    try:
        verdict = Verdict(left.verdict)
    except ValueError:  # of another release
        verdict = Verdict.CANNOT_BE_SEEN
    kind = ERRORS[verdict]
    return Outcome(
        target.certificate,
        active.generation if active else 0,
        verdict,
        kind(left.what) if kind else None,
        directory=str(target.directory),
        active=active.generation if active else None,
        digest=active.digest if active else "",
        not_after=active.not_after if active else 0,
    )
