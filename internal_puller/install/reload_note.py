"""Root's own note of a reload: that the server ran before it. Who may start a server is told by it.

The service asks root to start a server that its reload ended. What an administrator stopped stays
stopped, also if the account of the service was taken over: so root does not take the account's word
for it. The note is root's (``StateDirectory=`` of internal-puller-commands@.service), one file for
each unit.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from internal_puller.install.durable import Directory
from internal_puller.install.server import STOPPED, Running
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from internal_puller.install.unit_state import UnitState

PLACE: Final = Path("/var/lib/split-horizon-relay/commands")


@dataclass(frozen=True, slots=True)
class ReloadNote:
    """A reload of ours, before which the server ran.

    Attributes:
        boot_id: of that time.
        stopped: ``UnitState.stopped`` of the death that was seen to be its doing; ``None``: none.
    """

    boot_id: str
    stopped: int | None = None


def why_not_start(note: ReloadNote | None, state: UnitState, boot_id: str) -> str:
    """Return in words why a server is not to be started; empty if it may be. Pure.

    Args:
        boot_id: of now.
    """
    if state.running not in STOPPED:
        return "it is not known to be stopped"
    if note is None or not boot_id:
        return "it was not seen to run before a reload"
    if note.boot_id != boot_id:
        failed = state.running is Running.FAILED
        return "" if failed else "it has not failed since the machine was booted"
    if note.stopped == state.stopped or state.ended_by_itself:
        return ""
    return "it was stopped after the reload, and did not end by itself"


def read(unit: str) -> ReloadNote | None:
    """Return the note of a unit; ``None`` if there is none, or none that can be read."""
    try:
        with Directory.open(PLACE) as place:
            content, status = place.read(f"{unit}.json")
        if status.st_uid != os.geteuid():  # the service's files are good enough for keys, not here
            return None
        told = json.loads(content)
        return ReloadNote(str(told["boot_id"]), told["stopped"])
    except (OSError, ConfigurationError, ValueError, KeyError, TypeError):
        return None


def write(unit: str, note: ReloadNote) -> None:
    """Replace the note of a unit, durably. Raises ``OSError``, ``ConfigurationError``."""
    PLACE.mkdir(mode=0o700, exist_ok=True)  # where root has typed a command before the unit ran
    with Directory.open(PLACE) as place:
        place.replace(f"{unit}.json", json.dumps(asdict(note)).encode())


def remove(unit: str) -> None:
    """Remove the note of a unit: it runs again. Raises as :func:`write`."""
    with Directory.open(PLACE) as place:
        place.remove_durably(f"{unit}.json")
