"""What the note of an installation that did not end says of one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_puller.install.notes import read_all
from internal_puller.outbox.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from internal_puller.settings.targets import Target


def tell_unended(state: Path, target: Target) -> str | None:
    """Say what is not settled at a target; ``None``: all is.

    Raises:
        ConfigurationError: a note is not one of ours.
    """
    place = str(target.directory)
    noted = [note.members[place] for note in read_all(state) if place in note.members]
    if not noted:
        return None
    if noted[0].verdict is Verdict.BACK_UNSEEN:
        return (
            f"what was before in {place} is back, and the server could not be seen as it was "
            "before: look at the server now; the next pull looks again"
        )
    return f"an installation in {place} was cut off; the next pull goes on with it or takes it back"
