"""Looks again at what is in place: whether it is served by now, and whether it still is.

The caller holds the installation lock. The quiet path of ``pull`` never comes here.
"""

from __future__ import annotations

from collections.abc import Sequence

from internal_puller.install.layout import active_generation
from internal_puller.install.served_now import look_at
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.receipts import seen
from internal_puller.outbox.verdict import Verdict
from internal_puller.pull.pauses import note_look, put_off
from internal_puller.pull.settling import is_news, note, tell
from internal_puller.pull.turn import Turn
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError


def look_again(turn: Turn, targets: Sequence[Target]) -> None:
    """Look at servers that were not seen to serve what is in place; reload where that may help.

    A receipt is written of a certificate of which something is another thing than it was.
    """
    if not targets:
        return
    before = {place: one.verdict for place, one in turn.progress.standing.items()}
    stood = {place: Verdict(one) for place, one in before.items() if one in set(Verdict)}
    outcomes = turn.engine.look_again(targets, stood)
    note(turn, outcomes)
    put_off(turn.progress, targets, turn.clock())
    changed = {one.certificate for one in outcomes if is_news(turn, one, before)}
    tell(turn, [one for one in outcomes if one.verdict and one.certificate in changed])


def look_around(turn: Turn) -> bool:
    """Look at every target; write receipts where something else is served than was told.

    Returns:
        Whether one was written.
    """
    found = []
    for target in turn.targets:
        if turn.progress.of(target.certificate).withdrawn_at:
            continue  # the agent takes no receipt of it
        outcome = look_at(target, turn.clock)
        if outcome is not None and _is_new(turn, outcome):
            note_look(turn.progress, outcome, turn.clock())
            found.append(outcome)
    tell(turn, found)
    return bool(found)


def _is_new(turn: Turn, outcome: Outcome) -> bool:
    told = turn.progress.of(outcome.certificate).served
    return any(told.get(where) != leaf for where, leaf in seen(outcome.looks).items())


def in_place_now(turn: Turn, target: Target) -> Outcome | None:
    """Return what is in place and served; ``None`` if nothing is, or it cannot be looked at."""
    try:
        if active_generation(target) is None:
            return None
        return look_at(target, turn.clock)
    except ConfigurationError:
        return None
