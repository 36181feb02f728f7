"""The server of a group on another machine: tested, told to reload, and looked at by SSH."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from internal_puller.install.server import Running, word_of
from internal_puller.install.unit_state import PROPERTIES, read_state
from internal_puller.install.variables import variables
from shared.host import systemctl
from shared.host.commands import not_ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from internal_puller.install.presets import Plan
    from internal_puller.install.remote import Remote
    from internal_puller.install.server import Control, Server
    from shared.host.commands import CommandResult

_ASKING: Final = 15.0
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_SYSTEMCTL: Final = ("systemctl", "--no-ask-password")


def remote_control(server: Server, members: Sequence[tuple[Plan, int]]) -> Control:
    """Return what a group on another machine is installed with.

    Args:
        members: each target's plan, whose ``remote`` is set, and the generation that its
            commands are told of. All are on the machine of ``server``.
    """
    plans = [plan for plan, _ in members]
    remotes = [plan.remote for plan in plans if plan.remote is not None]
    timeout = max(plan.target.command_timeout for plan in plans)
    return RemoteControl(server, remotes[0], timeout, variables(members))


@dataclass(frozen=True)
class RemoteControl:
    """See :class:`internal_puller.install.server.Control`.

    Each call is one connection, unless ``remote.connected()`` keeps one.

    Attributes:
        timeout: seconds for each command.
        variables: what test and reload have in their environment.
    """

    server: Server
    remote: Remote
    timeout: float
    variables: Mapping[str, str]

    def test(self) -> CommandResult | None:
        """Have the configuration tested there; ``None``: it has no test."""
        result = self._run(self.server.test)
        return word_of(self.server, result) if result is not None else None

    def reload(self) -> CommandResult | None:
        """Tell it to read its files anew, if it runs; ``None``: not told.

        Commands such as ``reload-or-restart`` start what somebody stopped: so it is looked first.
        """
        if not self.server.reload:
            return None
        with self.remote.connected():
            if self.running() in (Running.NO, Running.FAILED):
                return None
            return self._run(self.server.reload)

    def start(self) -> CommandResult:
        """Start it after a reload of ours ended it."""
        unit = self.server.unit
        if unit is None:
            return not_ended("cannot be started from here: its unit is not known")
        with self.remote.connected():
            self.remote.run((*_SYSTEMCTL, "reset-failed", unit), _ASKING)
            seconds = max(self.timeout, self.server.patience)
            return self.remote.run((*_SYSTEMCTL, "start", unit), seconds)

    def running(self) -> Running:
        """Return how it stands there, as systemd tells."""
        return running_there(self.remote, self.server.unit)

    def boot_id(self) -> str:
        """Return what is another after each boot there; empty where no Linux says it."""
        found = self.remote.run(("cat", _BOOT_ID), _ASKING)
        return found.tail.strip() if found.ok else ""

    def _run(self, argv: tuple[str, ...]) -> CommandResult | None:
        return self.remote.run(argv, self.timeout, self.variables) if argv else None


def running_there(remote: Remote, unit: str | None) -> Running:
    """Return how a unit stands on another machine. Raises ``StageFailed``."""
    if unit is None:
        return Running.NOT_KNOWN
    shown = remote.run((*_SYSTEMCTL, *systemctl.show(unit, PROPERTIES)), _ASKING)
    return read_state(systemctl.read_properties(shown.tail) if shown.ok else None).running
