"""The server that reads a target's files: what it is told by, and how it stands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from shared.contract.errors import StageFailed

if TYPE_CHECKING:
    from shared.host.commands import CommandResult

Argv = tuple[str, ...]


class Running(StrEnum):
    """Whether a server runs, as far as its service manager tells."""

    YES = "yes"
    NO = "no"
    """Stopped by somebody: it is left alone."""
    FAILED = "failed"
    """It ended by itself."""
    CHANGING = "changing"
    """Starting, reloading or stopping."""
    NOT_KNOWN = "not-known"


STOPPED: Final = frozenset({Running.NO, Running.FAILED})
"""It does not run, and nothing is on its way to it."""


@dataclass(frozen=True)
class Server:
    """One server on one machine. Targets that name the same one are installed together.

    Attributes:
        name: what an operator calls it: the preset's, the unit's, or ``server = "NAME"``.
        machine: ``USER@HOST:PORT``; empty is this one.
        test, reload: its commands; empty for none.
        unit: of systemd; ``None`` where it is not known, and so not whether it runs.
        restarts: ``reload`` ends it and starts it anew, so that its port refuses for a while.
        patience: seconds that it may take until it serves.
    """

    name: str
    machine: str
    test: Argv
    reload: Argv
    unit: str | None = None
    restarts: bool = False
    patience: float = 15.0


class Control(Protocol):
    """What an installation does with a server, here or by SSH.

    Every method raises ``StageFailed`` if its machine cannot be reached.
    """

    def test(self) -> CommandResult | None:
        """Have the configuration tested, with the files in place; ``None``: it has no test.

        Raises:
            StageFailed: also if the test did not come to its own end: nothing is known then.
        """

    def reload(self) -> CommandResult | None:
        """Tell it to read its files anew, if it runs; ``None``: it has no such command."""

    def start(self) -> CommandResult:
        """Start it after a reload of ours ended it (``reset-failed`` first)."""

    def running(self) -> Running:
        """Return how it stands now."""

    def boot_id(self) -> str:
        """Return what is another after each boot of its machine; empty if not known."""


def word_of(server: Server, result: CommandResult) -> CommandResult:
    """Return the result of a server's test.

    Raises:
        StageFailed: it was not run to its end, so that it says nothing.
    """
    if result.ended:
        return result
    where = f" on {server.machine}" if server.machine else ""
    raise StageFailed(
        f"It is not known what the test of {server.name}{where} says: {server.test[0]} "
        f"{result.describe()}.",
        do=f"See that this can be run{where}, and ends in time: {shlex.join(server.test)}",
    )
