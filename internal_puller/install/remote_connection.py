"""One connection to another machine, made at its first use and kept for what follows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from internal_puller.install import remote_words
from internal_puller.install.remote_settings import Reach, way_to
from shared.contract.errors import ConfigurationError, StageFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    import asyncssh

    from internal_puller.install.remote_openssh import Machine

T = TypeVar("T")
_CLOSING: Final = 5.0


class Connection:
    """To one machine. Every call is bounded; none but ``StageFailed`` comes out of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.reach: tuple[Reach, ...] = ()
        self._runner = asyncio.Runner()
        self._way: list[asyncssh.SSHClientConnection] = []
        self._commands: list[subprocess.Popen[bytes]] = []
        self._is_late = False

    def call(self, work: Callable[[Connection], Awaitable[T]], what: str, seconds: float) -> T:
        """Do something there.

        Args:
            work: begins what it needs by :meth:`begin`.
            what: what failed if it does not end well, up to the machine's name.
            seconds: the time for it, a connection not counted.

        Raises:
            StageFailed: the machine cannot be reached, or what was asked was not done in time.
            ConfigurationError: the package that speaks SSH is missing.
        """
        asyncssh = library()
        self.reach = self.reach or way_to(self.machine)
        limit = seconds + sum(2 * one.connect_seconds for one in self.reach)
        self._is_late = False
        try:
            return self._runner.run(self._bounded(work, limit))
        except (OSError, ValueError, OverflowError, asyncssh.Error, StageFailed) as error:
            if self._is_late:
                raise remote_words.too_late(what, self.machine, limit) from error
            if isinstance(error, StageFailed):
                raise
            raise remote_words.not_done(what, self.machine, error, limit) from error

    async def _bounded(self, work: Callable[[Connection], Awaitable[T]], limit: float) -> T:
        end = asyncio.get_running_loop().call_later(limit, self._give_up)
        try:
            async with asyncio.timeout(limit + _CLOSING):
                return await work(self)
        finally:
            end.cancel()

    def _give_up(self) -> None:
        """Let all that waits for that machine fail at once, tidying up after a failure, too."""
        self._is_late = True
        for one in self._way:
            one.abort()

    async def begin(self, start: Callable[[asyncssh.SSHClientConnection], Awaitable[T]]) -> T:
        """Begin something there; on a connection of its own where a kept one takes no more.

        That one may be lost by now, or its machine allows one session at a time.
        """
        is_kept = bool(self._way)
        try:
            return await self._within(start, await self._open())
        except library().ChannelOpenError:
            if not is_kept:
                raise
        await self.hang_up()
        return await self._within(start, await self._open())

    async def _within(
        self,
        start: Callable[[asyncssh.SSHClientConnection], Awaitable[T]],
        connection: asyncssh.SSHClientConnection,
    ) -> T:
        async with asyncio.timeout(self.reach[-1].connect_seconds):
            return await start(connection)

    async def _open(self) -> asyncssh.SSHClientConnection:
        await asyncio.sleep(0)  # what came while nobody ran this loop, such as the end of it
        await asyncio.sleep(0)
        is_whole = len(self._way) == len(self.reach)  # else it ends at a machine on the way
        if is_whole and not any(one.is_closed() for one in self._way):
            return self._way[-1]
        await self.hang_up()
        for one in self.reach:
            self._way.append(await self._connect(one))
        return self._way[-1]

    async def _connect(self, reach: Reach) -> asyncssh.SSHClientConnection:
        import asyncssh

        before = self._way[-1] if self._way else None
        try:
            async with asyncio.timeout(2 * reach.connect_seconds):
                options = {**_options(reach), "tunnel": before}
                if reach.command and before is None:
                    options["sock"] = self._through(reach.command)
                return await asyncssh.connect(reach.host, reach.port, **options)
        except asyncssh.KeyImportError as error:
            raise remote_words.key_unusable(reach, error) from error
        except (OSError, ValueError, OverflowError, asyncssh.Error) as error:
            raise remote_words.not_reached(reach, self.machine, error) from error

    def _through(self, command: str) -> socket.socket:
        """Run a ``ProxyCommand`` as ssh does; return the socket whose other end it has."""
        ours, its = socket.socketpair()
        with its:
            argv, end = ["/bin/sh", "-c", f"exec {command}"], its.fileno()
            self._commands.append(
                subprocess.Popen(argv, stdin=end, stdout=end, start_new_session=True)
            )
        return ours

    async def hang_up(self) -> None:
        """End the connection; the next thing makes another."""
        way, self._way = self._way, []
        for one in reversed(way):
            one.close()
            with contextlib.suppress(OSError, library().Error):
                async with asyncio.timeout(_CLOSING):
                    await one.wait_closed()
        commands, self._commands = self._commands, []
        for each in commands:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            each.wait()

    def close(self) -> None:
        """End everything."""
        try:
            self._runner.run(self.hang_up())
        finally:
            self._runner.close()


def _options(reach: Reach) -> dict[str, Any]:
    return {
        "proxy_command": None,
        "username": reach.user,
        "known_hosts": [str(one) for one in reach.known_hosts],
        "host_key_alias": reach.alias,
        "client_keys": [str(one) for one in reach.keys] or (None if not reach.agent else []),
        "client_certs": [str(one) for one in reach.certificates],
        "ignore_encrypted": not reach.is_own_key,
        "agent_path": reach.agent,
        "family": reach.family,
        "local_addr": (reach.source, 0) if reach.source else None,
        "connect_timeout": reach.connect_seconds,
        "login_timeout": reach.connect_seconds,
        "keepalive_interval": reach.alive_seconds,
        "keepalive_count_max": reach.alive_most,
        "config": None,
        "password": None,
    }


_KEPT: ContextVar[Mapping[Machine, Connection]] = ContextVar("_KEPT")


@contextlib.contextmanager
def kept(machine: Machine) -> Iterator[Connection]:
    """Keep one connection to a machine for everything that is done there inside."""
    held = _KEPT.get({})
    if machine in held:
        yield held[machine]
        return
    connection = Connection(machine)
    token = _KEPT.set({**held, machine: connection})
    try:
        yield connection
    finally:
        _KEPT.reset(token)
        connection.close()


def library() -> Any:
    """Return the package that speaks SSH. Raises ``ConfigurationError`` if it is missing."""
    try:
        import asyncssh
    except ImportError as error:
        raise ConfigurationError(
            "A target on another machine needs the Python package asyncssh, which is not "
            "installed.",
            do="Install the extra ssh: requirements/puller-ssh.txt.",
        ) from error
    return asyncssh
