"""What an installation does with a server on this machine, or on another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from internal_puller.install.presets import Plan
from internal_puller.install.server import Control, Running, Server
from shared.host import systemctl
from shared.host.commands import CommandResult

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_STATES: Final = {
    "active": Running.YES,
    "inactive": Running.NO,
    "failed": Running.FAILED,
    "activating": Running.CHANGING,
    "deactivating": Running.CHANGING,
    "reloading": Running.CHANGING,
}


def control_of(server: Server, members: Sequence[tuple[Plan, int]]) -> Control:
    """Return how a server is tested and told.

    Args:
        members: the targets whose files it reads, and the generation in place at each.
    """
    return _Control(server, members)


@dataclass(frozen=True)
class _Control:
    server: Server
    members: Sequence[tuple[Plan, int]]

    def test(self) -> CommandResult | None:
        return self._step("test") if self.server.test else None

    def reload(self) -> CommandResult | None:
        return self._step("reload") if self.server.reload else None

    def start(self) -> CommandResult:
        if self.server.unit is None or self.server.machine:
            return CommandResult(False, "cannot be started: its unit is not known", "")
        systemctl.ask("reset-failed", self.server.unit)
        done = systemctl.ask("start", self.server.unit)
        if done is None:
            return CommandResult(False, "systemctl did not answer", "")
        return CommandResult(
            done.returncode == 0, f"ended with exit code {done.returncode}", done.stderr
        )

    def running(self) -> Running:
        if self.server.unit is None or self.server.machine or not systemctl.is_there():
            return Running.NOT_KNOWN
        return _STATES.get(systemctl.state_of(self.server.unit) or "", Running.NOT_KNOWN)

    def boot_id(self) -> str:
        if self.server.machine:
            return ""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            return ""

    def _step(self, step: str) -> CommandResult:
        plan, generation = self.members[0]
        return plan.run_step(step, generation)
