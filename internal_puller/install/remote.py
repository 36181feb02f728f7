"""A target on another machine, reached by SSH: the same files, switched and tested there.

The generations are kept here as for any target; there they are a mirror. Nothing of ours runs on
the other machine, so it needs SFTP, symbolic links, and its own commands; no Python.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import stat
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from internal_puller.install.layout import CURRENT, GENERATIONS, TEMPORARY, parse_name
from shared.contract.errors import ConfigurationError, StageFailed
from shared.host.commands import GRACE_SECONDS, CommandResult
from shared.host.trusted_file import PUBLIC, SECRET, check_trusted

if TYPE_CHECKING:
    import asyncssh

CONNECT_SECONDS: Final = 20.0
EXCHANGE_SECONDS: Final = 120.0
_TAIL: Final = 4096
_NUMBER: Final = "relay-process "
T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """What a file on the other machine holds, and its permission bits."""

    content: bytes
    mode: int


@dataclass(frozen=True)
class Remote:
    """
    Attributes:
        directory: absolute path there; ``current`` and ``generations`` are below it.
        key: private key file; None tries the usual ones of this user, and an agent.
        known_hosts: file with the host's key; None is this user's ``~/.ssh/known_hosts``.
    """

    user: str
    host: str
    port: int
    directory: PurePosixPath
    key: Path | None = None
    known_hosts: Path | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"

    # --- what an installation does there -----------------------------------------------------

    def upload(self, name: str, files: Mapping[str, RemoteFile]) -> None:
        """Have a generation there under its final name, whole; nothing is switched.

        Raises:
            StageFailed: it could not be brought there.
        """

        async def work(sftp: asyncssh.SFTPClient) -> None:
            await _make_directories(sftp, self.directory / GENERATIONS)
            for own in (self.directory, self.directory / GENERATIONS):
                await self._require_ours(sftp, own)
            place = str(self.directory / GENERATIONS / name)
            if await _holds(sftp, place, files):
                return
            if await sftp.lexists(place):
                raise StageFailed(
                    f"{self}: {place} is there with another content.",
                    do="Move it out of the way.",
                )
            temporary = str(self.directory / GENERATIONS / f"{TEMPORARY}{secrets.token_hex(8)}")
            await sftp.mkdir(temporary, _attributes(0o700))
            try:
                for file_name, file in files.items():
                    await _write(sftp, f"{temporary}/{file_name}", file)
                await sftp.chmod(temporary, 0o755)
                await sftp.posix_rename(temporary, place)
            except BaseException:
                with suppress(Exception):
                    await sftp.rmtree(temporary)
                raise

        self._sftp(work, f"generation {name} could not be brought to")

    def activate(self, name: str | None, keep: Collection[str]) -> None:
        """Let ``current`` there point to a generation by one rename; None takes it away.

        Args:
            keep: names of generations; others are removed there.

        Raises:
            StageFailed: it could not be switched.
        """

        async def work(sftp: asyncssh.SFTPClient) -> None:
            link = str(self.directory / CURRENT)
            if name is None:
                if await sftp.lexists(link):
                    await sftp.remove(link)
                return
            temporary = str(self.directory / f"{TEMPORARY}{secrets.token_hex(8)}")
            await sftp.symlink(f"{GENERATIONS}/{name}", temporary)
            await sftp.posix_rename(temporary, link)
            await self._tidy(sftp, {*keep, name})

        self._sftp(work, f"{self.directory / CURRENT} could not be switched at")

    async def _tidy(self, sftp: asyncssh.SFTPClient, keep: Collection[str]) -> None:
        """Remove old generations and what a killed run left; the next run tries again."""
        generations = self.directory / GENERATIONS
        for directory in (self.directory, generations):
            with suppress(_asyncssh().SFTPError):
                for found in await sftp.listdir(str(directory)):
                    old = directory == generations and parse_name(found) is not None
                    if found.startswith(TEMPORARY) or (old and found not in keep):
                        with suppress(_asyncssh().SFTPError):
                            await _remove(sftp, str(directory / found))

    async def _require_ours(self, sftp: asyncssh.SFTPClient, directory: PurePosixPath) -> None:
        permissions = (await sftp.stat(str(directory))).permissions or 0
        if permissions & 0o022 and not permissions & stat.S_ISVTX:
            raise StageFailed(
                f"{self}: {directory} can be changed by other users there "
                f"(mode {permissions & 0o7777:04o}).",
                do="Give it mode 0755 there, or choose another remote_directory.",
            )

    def run(self, argv: tuple[str, ...], timeout: float) -> CommandResult:
        """Run a command there, quoted as for a POSIX shell.

        Args:
            timeout: seconds; then it and its process group get TERM and, soon after, KILL. The
                end of a connection does not end a command, and OpenSSH passes no signal on to
                those of root. What runs there as somebody else (`sudo`) is not ours to end.

        Raises:
            StageFailed: the machine cannot be reached.
        """

        async def work(connection: asyncssh.SSHClientConnection) -> CommandResult:
            import asyncssh

            told = ("sh", "-c", f'echo {_NUMBER}$$; exec "$@"', "sh", *argv)
            process = await connection.create_process(
                shlex.join(told), stderr=asyncssh.STDOUT, errors="replace"
            )
            number = ""
            try:
                async with asyncio.timeout(timeout):
                    async for line in process.stdout:  # what a login file prints comes first
                        if line.startswith(_NUMBER):
                            number = line.removeprefix(_NUMBER).strip()
                            break
                    done = await process.wait()
            except TimeoutError:
                if number.isdigit() and int(number) > 1:
                    with suppress(TimeoutError, asyncssh.Error):
                        await asyncio.wait_for(connection.run(_ending(number)), CONNECT_SECONDS)
                return CommandResult(False, f"did not end within {timeout:g} s", "")
            tail = str(done.stdout or "")[-_TAIL:]
            if done.exit_status is None:
                return CommandResult(False, "was ended by a signal", tail)
            how = f"ended with exit code {done.exit_status}"
            return CommandResult(done.exit_status == 0, how, tail)

        seconds = timeout + 2 * CONNECT_SECONDS
        return self._connected(work, "a command could not be run at", seconds)

    # --- the connection ----------------------------------------------------------------------

    def _sftp(self, work: Callable[[asyncssh.SFTPClient], Awaitable[None]], what: str) -> None:
        async def over(connection: asyncssh.SSHClientConnection) -> None:
            async with connection.start_sftp_client() as sftp:
                await work(sftp)

        self._connected(over, what, EXCHANGE_SECONDS)

    def _connected(
        self,
        work: Callable[[asyncssh.SSHClientConnection], Awaitable[T]],
        what: str,
        seconds: float,
    ) -> T:
        asyncssh = _asyncssh()
        self._require_files()

        async def go() -> T:
            async with asyncssh.connect(
                self.host,
                self.port,
                username=self.user,
                known_hosts=self._known_hosts(),
                client_keys=[str(self.key)] if self.key else (),
                agent_path=None if self.key else (),
                config=None,
                connect_timeout=CONNECT_SECONDS,
                login_timeout=CONNECT_SECONDS,
                password=None,
            ) as connection:
                return await work(connection)

        try:
            return asyncio.run(asyncio.wait_for(go(), seconds))
        except StageFailed:
            raise
        except asyncssh.HostKeyNotVerifiable as error:
            raise StageFailed(
                f"The host key of {self} is not the known one, or none is known: {error.reason}.",
                do="Compare its fingerprint on the machine itself, then put the key into "
                f"{self._known_hosts() or 'known_hosts'} (ssh-keyscan prints it). If it changed "
                "and nobody changed it, somebody may be in between.",
            ) from error
        except asyncssh.PermissionDenied as error:
            raise StageFailed(
                f"{self} does not let us in: {error.reason}.",
                do="Put the public key into authorized_keys there; name the private one: ssh_key.",
            ) from error
        except asyncssh.SFTPError as error:
            raise StageFailed(f"{what} {self}: {error.reason}.") from error
        except asyncssh.KeyImportError as error:
            raise StageFailed(
                f"ssh_key {self.key} cannot be used: {error}.",
                do="Name a private key without a passphrase.",
            ) from error
        except (OSError, TimeoutError, ValueError, OverflowError, asyncssh.Error) as error:
            reason = str(error) or type(error).__name__
            raise StageFailed(f"{what} {self}: {reason:.300}.") from error

    def _require_files(self) -> None:
        """Refuse what ssh would refuse, too: a key that others read, hosts that others write."""
        for setting, path, mask in (
            ("ssh_key", self.key, SECRET),
            ("ssh_known_hosts", Path(self._known_hosts()), PUBLIC),
        ):
            if path is None:
                continue
            try:
                check_trusted(path, f"{setting} file", mask=mask)
            except ConfigurationError as error:
                option = f"--{setting.replace('_', '-')}"
                named = f"Name a file that can: internal-puller target change NAME {option} FILE"
                raise StageFailed(error.what, do=error.do or named) from error

    def _known_hosts(self) -> str:
        return str(self.known_hosts or Path.home() / ".ssh" / "known_hosts")


def _asyncssh() -> Any:
    try:
        import asyncssh
    except ImportError as error:
        raise ConfigurationError(
            "A target on another machine needs the Python package asyncssh, which is not "
            "installed.",
            do="Install the extra ssh: requirements/puller-ssh.txt.",
        ) from error
    return asyncssh


def _attributes(mode: int) -> asyncssh.SFTPAttrs:
    return _asyncssh().SFTPAttrs(permissions=mode)  # type: ignore[no-any-return]


async def _make_directories(sftp: asyncssh.SFTPClient, path: PurePosixPath) -> None:
    for place in (*reversed(path.parents), path):
        if not await sftp.isdir(str(place)):
            await sftp.mkdir(str(place), _attributes(0o755))


def _ending(number: str) -> str:
    """Return the words for a shell there that end a command: sshd begins a group for each."""
    everybody = f"-- -{number} {number}"
    return f"kill -TERM {everybody}; sleep {GRACE_SECONDS:g}; kill -KILL {everybody}"


async def _remove(sftp: asyncssh.SFTPClient, path: str) -> None:
    if await sftp.islink(path):
        await sftp.remove(path)
    else:
        await sftp.rmtree(path)


async def _write(sftp: asyncssh.SFTPClient, path: str, file: RemoteFile) -> None:
    """Write a file that has its mode from birth, and have it on the disk if the server can."""
    async with sftp.open(path, "xb", _attributes(file.mode)) as opened:
        await opened.write(file.content)
        with suppress(Exception):  # an extension of OpenSSH
            await opened.fsync()
    await sftp.chmod(path, file.mode)


async def _holds(sftp: asyncssh.SFTPClient, place: str, files: Mapping[str, RemoteFile]) -> bool:
    if not await sftp.isdir(place):
        return False
    there = set(await sftp.listdir(place)) - {".", ".."}
    if there != set(files):
        return False
    for name, file in files.items():
        async with sftp.open(f"{place}/{name}", "rb") as opened:
            found: object = await opened.read(len(file.content) + 1)
        if found != file.content:
            return False
        permissions = (await sftp.stat(f"{place}/{name}")).permissions
        if permissions is None or permissions & 0o777 != file.mode:
            return False
    return True
