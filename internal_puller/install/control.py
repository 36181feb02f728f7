"""What an installation does with a server on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from internal_puller.install import as_root
from internal_puller.install.perform import Answer, Step, perform, seconds_for
from internal_puller.install.server import STOPPED, Control, Running, Server, word_of
from shared.contract.errors import ConfigurationError
from shared.host import boot

if TYPE_CHECKING:
    from internal_puller.install.perform import Members
    from shared.host.commands import CommandResult


def control_of(server: Server, members: Members) -> Control:
    """Return how a server is tested and told.

    On another machine by SSH; here by the service through root's unit, else directly.

    Args:
        members: the targets whose files it reads, one at least, and the generation in place at
            each.
    """
    if server.machine:
        from internal_puller.install.remote_control import remote_control

        return remote_control(server, members)
    return _Here(server, members)


@dataclass(frozen=True)
class _Here:
    server: Server
    members: Members

    def test(self) -> CommandResult | None:
        """Have the configuration tested; ``None``: it has no test. Raises ``StageFailed``."""
        return word_of(self.server, self._step(Step.TEST).result) if self.server.test else None

    def reload(self) -> CommandResult | None:
        """Have it read its files anew; ``None``: it has no such command, or does not run."""
        if not self.server.reload:
            return None
        answer = self._step(Step.RELOAD)
        return None if answer.running in STOPPED else answer.result

    def start(self) -> CommandResult:
        """Have it started; refused in words unless root saw it run before a reload of ours."""
        return self._step(Step.START).result

    def running(self) -> Running:
        """Return how it stands."""
        return self._step(Step.IS_ACTIVE).running or Running.NOT_KNOWN

    def boot_id(self) -> str:
        """Return what is another after each boot; empty if not known."""
        return boot.boot_id()

    def _step(self, step: Step) -> Answer:
        if as_root.is_asked():
            there = tuple((plan.target.directory, generation) for plan, generation in self.members)
            request = as_root.Request(self.server.name, step, there)
            return as_root.ask(request, seconds_for(self.server, self.members))
        try:
            return perform(step, self.server, self.members)
        except ConfigurationError as error:
            return as_root.refused(error)
