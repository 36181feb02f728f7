"""A target on another machine, reached by SSH: the same files, switched and tested there.

The generations are kept here as for any target; there they are a mirror. Nothing of ours runs on
the other machine, so it needs SFTP, symbolic links, and its own commands; no Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from internal_puller.install import remote_command
from internal_puller.install.remote_connection import kept
from internal_puller.install.remote_files import Mirror, RemoteFile, mirror
from internal_puller.install.remote_openssh import Machine
from internal_puller.install.remote_settings import way_to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path, PurePosixPath

    from internal_puller.install.remote_connection import Connection
    from shared.host.commands import CommandResult

__all__ = ["Remote", "RemoteFile"]

EXCHANGE_SECONDS: Final = 120.0
T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """
    Attributes:
        port: ``None``: what the ssh configuration says, and else 22.
        directory: absolute path there; ``current`` and ``generations`` are below it.
        key: private key file; None tries the usual ones of this user, and an agent.
        known_hosts: file with the host's key; None is what ssh compares with.
        config: ssh configuration; None is what ssh reads.
    """

    user: str
    host: str
    port: int | None
    directory: PurePosixPath
    key: Path | None = None
    known_hosts: Path | None = None
    config: Path | None = None

    def __str__(self) -> str:
        return str(self.machine)

    @property
    def machine(self) -> Machine:
        """What a connection is made by: remotes with the same one share it."""
        return Machine(self.user, self.host, self.port, self.key, self.known_hosts, self.config)

    def connected(self) -> AbstractContextManager[Connection]:
        """Keep one connection for all that is done on this machine inside, by any target."""
        return kept(self.machine)

    def upload(self, name: str, files: Mapping[str, RemoteFile]) -> None:
        """Have a generation there under its final name, whole; nothing is switched.

        Raises:
            StageFailed: it could not be brought there.
        """
        self._on_mirror(
            lambda there: there.upload(name, files), f"generation {name} could not be brought to"
        )

    def activate(self, name: str | None, keep: Collection[str]) -> None:
        """Let ``current`` there point to a generation by one rename; None takes it away.

        Args:
            keep: names of generations; others are removed there.

        Raises:
            StageFailed: it could not be switched.
        """
        self._on_mirror(
            lambda there: there.activate(name, keep), "the certificate could not be switched at"
        )

    def look(self) -> None:
        """Go as far as an installation would before it changes anything: ``StageFailed``."""
        self._on_mirror(lambda there: there.look(), "nothing could be looked at on")

    def try_out(self) -> None:
        """Write there as an installation would, and take it away again: ``StageFailed``."""
        self._on_mirror(lambda there: there.try_out(), "nothing could be written on")

    def uses_control_master(self) -> bool:
        """Tell whether ssh would share a connection that is open already, which we do not."""
        return way_to(self.machine)[-1].has_control_path

    def run(
        self, argv: tuple[str, ...], timeout: float, variables: Mapping[str, str] | None = None
    ) -> CommandResult:
        """Run a command there by a POSIX ``sh``; see ``remote_command.run``.

        Args:
            timeout: seconds; then it is ended there, and its process group.
            variables: for its environment.

        Raises:
            StageFailed: the machine cannot be reached, or runs no commands.
        """

        async def work(connection: Connection) -> CommandResult:
            return await remote_command.run(connection, argv, timeout, variables or {})

        seconds = timeout + EXCHANGE_SECONDS
        return self._over(work, f"{argv[0]} could not be run at", seconds)

    def _on_mirror(self, work: Callable[[Mirror], Awaitable[None]], what: str) -> None:
        async def over(connection: Connection) -> None:
            async with mirror(connection, self.directory) as there:
                await work(there)

        self._over(over, what, EXCHANGE_SECONDS)

    def _over(self, work: Callable[[Connection], Awaitable[T]], what: str, seconds: float) -> T:
        with self.connected() as connection:
            return connection.call(work, what, seconds)
