"""The mirror of a target's directory on another machine: generations, and one link to one."""

from __future__ import annotations

import secrets
import stat
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from internal_puller.install import remote_command, remote_words
from internal_puller.install.layout import CURRENT, GENERATIONS, TEMPORARY, parse_name
from internal_puller.install.remote_connection import library
from shared.contract.errors import StageFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from pathlib import PurePosixPath

    import asyncssh

    from internal_puller.install.remote_connection import Connection
    from internal_puller.install.remote_openssh import Machine

_ST_RDONLY: Final = 1  # OpenSSH, PROTOCOL section 4.4
_LOOK_SECONDS: Final = 5.0
_DIRECTORY_MODE: Final = 0o755


@dataclass(frozen=True)
class RemoteFile:
    """What a file on the other machine holds, and its permission bits."""

    content: bytes
    mode: int


@asynccontextmanager
async def mirror(connection: Connection, directory: PurePosixPath) -> AsyncIterator[Mirror]:
    """Begin SFTP there. Raises ``StageFailed`` in words if that machine has none."""

    async def start(line: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
        return await line.start_sftp_client(env={}, send_env=[])

    try:
        sftp = await connection.begin(start)
    except (OSError, library().ChannelOpenError, library().SFTPError) as error:
        noise = await remote_command.noise_of(connection, _LOOK_SECONDS)
        raise remote_words.no_sftp(connection.machine, noise, error) from error
    async with sftp:
        yield Mirror(sftp, connection.machine, directory)


class Mirror:
    """One directory there, open over SFTP. Every method raises ``StageFailed`` in words."""

    def __init__(
        self, sftp: asyncssh.SFTPClient, machine: Machine, directory: PurePosixPath
    ) -> None:
        self._sftp, self._machine = sftp, machine
        self._directory, self._generations = directory, directory / GENERATIONS

    async def upload(self, name: str, files: Mapping[str, RemoteFile]) -> None:
        """Have a generation there under its final name, whole; nothing is switched."""
        place = self._generations / name
        doing = f"{place} could not be written"
        async with self._in_words(doing):
            await self._make_directories()
            await self._require_safe()
            if await self._holds(place, files):
                return
            if await self._sftp.lexists(str(place)):
                raise StageFailed(
                    f"{self._machine}: {place} is there with another content.",
                    do="Move it out of the way.",
                )
            async with self._temporary(self._generations, doing) as temporary:
                await self._make_directory(temporary, 0o700)
                await self._require_owner(temporary)
                for file_name, file in files.items():
                    await self._write(temporary / file_name, file)
                await self._sftp.chmod(str(temporary), _DIRECTORY_MODE)
                await self._sync(temporary)
                await self._sftp.posix_rename(str(temporary), str(place))
            await self._sync(self._generations)

    async def activate(self, name: str | None, keep: Collection[str]) -> None:
        """Let ``current`` there point to a generation by one rename; ``None`` takes it away.

        Args:
            keep: names of generations; others are removed there.
        """
        link = self._directory / CURRENT
        doing = f"{link} could not be switched"
        async with self._in_words(doing):
            is_there = await self._sftp.lexists(str(link))
            if is_there and not await self._sftp.islink(str(link)):
                raise StageFailed(
                    f"{self._machine}: {link} is not a symbolic link, so it is not ours.",
                    do="Move it out of the way there, or choose another remote_directory.",
                )
            if name is None:
                if is_there:
                    await self._sftp.remove(str(link))
                    await self._sync(self._directory)
                return
            async with self._temporary(self._directory, doing) as temporary:
                await self._sftp.symlink(f"{GENERATIONS}/{name}", str(temporary))
                await self._sftp.posix_rename(str(temporary), str(link))
            await self._sync(self._directory)
        await self._tidy({*keep, name})

    async def look(self) -> None:
        """Go as far as an upload would before it changes anything."""
        async with self._in_words(f"{self._directory} cannot be used"):
            await self._require_safe()

    async def try_out(self) -> None:
        """Write a file as an upload would, and take it away again."""
        doing = f"{self._directory} could not be written to"
        async with self._in_words(doing):
            await self._make_directories()
            await self._require_safe()
            async with self._temporary(self._generations, doing) as temporary:
                await self._make_directory(temporary, 0o700)
                await self._require_owner(temporary)
                file = temporary / "file"
                await self._write(file, RemoteFile(b"trial", 0o600))
                await self._sftp.posix_rename(str(file), str(temporary / "renamed"))
                await self._sftp.rmtree(str(temporary))

    # --- one file or directory ------------------------------------------------------------------

    async def _make_directories(self) -> None:
        for place in (*reversed(self._generations.parents), self._generations):
            if not await self._sftp.isdir(str(place)):
                await self._make_directory(place, _DIRECTORY_MODE)
                await self._sync(place.parent)

    async def _make_directory(self, place: PurePosixPath, mode: int) -> None:
        """Make it with these bits, whatever the umask there."""
        await self._sftp.mkdir(str(place), library().SFTPAttrs(permissions=mode))
        await self._sftp.chmod(str(place), mode)

    async def _write(self, place: PurePosixPath, file: RemoteFile) -> None:
        """Write a file that has no more than its mode from birth, and have it on the disk."""
        attributes = library().SFTPAttrs(permissions=file.mode)
        async with self._sftp.open(str(place), "xb", attributes) as opened:
            await opened.write(file.content)
            with suppress(library().SFTPOpUnsupported):  # an extension of OpenSSH
                await opened.fsync()
        await self._sftp.chmod(str(place), file.mode)

    async def _sync(self, directory: PurePosixPath) -> None:
        """Make a directory's entries durable, where the server can: OpenSSH opens them, too."""
        with suppress(library().SFTPError):
            async with self._sftp.open(str(directory), "rb") as opened:
                await opened.fsync()

    @asynccontextmanager
    async def _temporary(self, parent: PurePosixPath, doing: str) -> AsyncIterator[PurePosixPath]:
        """Give a name that the next run knows as left over; what failed under it is removed.

        Not before it is known why: on a full disk there is room again.
        """
        place = parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            async with self._in_words(doing):
                yield place
        except BaseException:
            with suppress(Exception):
                await self._remove(place)
            raise

    async def _remove(self, place: PurePosixPath) -> None:
        if await self._sftp.islink(str(place)):
            await self._sftp.remove(str(place))
        else:
            await self._sftp.rmtree(str(place))

    async def _tidy(self, keep: Collection[str]) -> None:
        """Remove old generations and what a killed run left; the next run tries again."""
        for directory in (self._directory, self._generations):
            with suppress(library().SFTPError):
                for found in await self._sftp.listdir(str(directory)):
                    old = directory == self._generations and parse_name(found) is not None
                    if found.startswith(TEMPORARY) or (old and found not in keep):
                        with suppress(library().SFTPError):
                            await self._remove(directory / found)

    async def _holds(self, place: PurePosixPath, files: Mapping[str, RemoteFile]) -> bool:
        if not await self._sftp.isdir(str(place)):
            return False
        there = set(await self._sftp.listdir(str(place))) - {".", ".."}
        if there != set(files):
            return False
        for name, file in files.items():
            async with self._sftp.open(str(place / name), "rb") as opened:
                found: object = await opened.read(len(file.content) + 1)
            if found != file.content:
                return False
            permissions = (await self._sftp.stat(str(place / name))).permissions
            if permissions is None or stat.S_IMODE(permissions) != file.mode:
                return False
        return True

    # --- whose it is, and what went wrong -------------------------------------------------------

    async def _require_safe(self) -> None:
        """Refuse directories that other accounts there can change; what is missing is made."""
        for place in (self._directory, self._generations):
            if not await self._sftp.lexists(str(place)):
                continue
            permissions = (await self._sftp.stat(str(place))).permissions or 0
            if permissions & 0o022 and not permissions & stat.S_ISVTX:
                raise StageFailed(
                    f"{self._machine}: {place} can be changed by other users there "
                    f"(mode {permissions & 0o7777:04o}).",
                    do="Give it mode 0755 there, or choose another remote_directory.",
                )

    async def _require_owner(self, ours: PurePosixPath) -> None:
        """Refuse directories of another account there, which could put anything into them."""
        own = (await self._sftp.stat(str(ours))).uid
        for place in (self._directory, self._generations):
            owner = (await self._sftp.stat(str(place))).uid
            if owner not in (None, 0, own):
                raise StageFailed(
                    f"{self._machine}: {place} belongs to another user there (number {owner}).",
                    do="Let it belong to the user that ssh names, or choose another "
                    "remote_directory.",
                )

    @asynccontextmanager
    async def _in_words(self, doing: str) -> AsyncIterator[None]:
        try:
            yield
        except library().SFTPError as error:
            room = await self._room()
            raise remote_words.refused_by_sftp(self._machine, doing, error, room) from error

    async def _room(self) -> tuple[bool, int, int] | None:
        """Return what OpenSSH's "Failure" leaves out: read-only?, and blocks and files left."""
        for place in (self._generations, *self._generations.parents):
            with suppress(library().SFTPError):
                found = await self._sftp.statvfs(str(place))
                return bool(found.flags & _ST_RDONLY), found.bavail, found.favail
        return None
