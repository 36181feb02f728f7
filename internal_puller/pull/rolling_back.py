"""Brings an earlier generation back because an operator says so; the caller holds the lock."""

from __future__ import annotations

from collections.abc import Sequence

from internal_puller.pull.installing import send
from internal_puller.pull.looking import in_place_now
from internal_puller.pull.settling import note, tell
from internal_puller.pull.turn import Turn
from internal_puller.settings.targets import Target


def roll_back(turn: Turn, targets: Sequence[Target], to: int | None) -> None:
    """Bring it back at each target, and write the receipt of what is in place then.

    Args:
        targets: of one certificate.
        to: the generation; ``None`` for the one before.
    """
    outcomes = turn.engine.roll_back(targets, to)
    note(turn, outcomes)
    done = {one.directory for one in outcomes if one.verdict is not None}
    standing = (in_place_now(turn, one) for one in targets if str(one.directory) in done)
    tell(turn, [one for one in standing if one is not None])
    turn.save()
    send(turn)
