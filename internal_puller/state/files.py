"""Small private files: written whole or not at all, 0600 from birth, read only if nobody else can.

Only the standard library: the quiet path of ``pull`` reads and writes through here.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from internal_puller.settings.account import is_trusted
from shared.contract.errors import ConfigurationError, LooseFileMode
from shared.host.whole_file import make_directory, replace_whole

MAX_BYTES = 64 << 20
_LEFT_OVER = re.compile(r"\..*\..{12}", re.DOTALL)
_LEFT_OVER_SECONDS = 3600
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEAST_ROOM = 1 << 20


def private_directory(path: Path, *, create: bool) -> Path:
    """Return ``path`` if it is a directory that only we can look into.

    Raises:
        LooseFileMode: other users can read or change it.
        ConfigurationError: missing, no directory, or it cannot be made.
    """
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                make_directory(path, 0o700)  # durably, or a crash takes the keys with it
        status = path.lstat()
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no state directory {path}.", do="Enrol first: internal-puller enroll."
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be used: {error.strerror}.") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{path} is no directory.")
    _check_owner(path, status)
    return path


def _check_owner(path: Path, status: os.stat_result) -> None:
    loose = stat.S_IMODE(status.st_mode) & 0o077
    if loose or not is_trusted(status.st_uid):
        raise LooseFileMode(
            f"{path} belongs to user {status.st_uid} and has mode "
            f"{stat.S_IMODE(status.st_mode):04o}: other users can get at it."
        )


def read_private(path: Path) -> bytes | None:
    """Return a file's bytes, or ``None`` if there is none.

    Raises:
        LooseFileMode: other users could read or change it.
        ConfigurationError: it is no ordinary file, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise ConfigurationError(f"{path} is no ordinary file of a reasonable size.")
        _check_owner(path, status)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES)
    finally:
        os.close(descriptor)


def file_version(path: Path) -> object:
    """Return what is another whenever the file was replaced, changed, or given other rights.

    ``None`` where it is missing or cannot be looked at.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def write_private(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file; after a crash the old or the new content is there, whole.

    Args:
        durable: return only after the disk has it.

    Raises:
        ConfigurationError: it cannot be written (disk full, read-only).
    """
    try:
        replace_whole(path, content, durable=durable)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.",
            do="Look at the free space, owner and mode of that directory.",
        ) from error


def write_problems(directory: Path) -> Iterator[str]:
    """Say why a file there could not be written now; nothing is tried."""
    room = os.statvfs(directory)
    if room.f_flag & os.ST_RDONLY:
        yield f"{directory} is on a read-only file system."
    elif not os.access(directory, os.W_OK | os.X_OK):
        yield f"This user cannot write to {directory}."
    elif room.f_bavail * room.f_frsize < _LEAST_ROOM or (room.f_files and not room.f_favail):
        yield f"There is no space left on the disk of {directory}."


@contextlib.contextmanager
def opened(top: Path, *names: str) -> Iterator[int]:
    """Open a directory below one of ours, by no link: what is removed there is ours.

    Root works in directories of the service's account, which could put a link to another place in
    the way of a removal. Raises ``OSError``.
    """
    descriptor = os.open(top, _DIRECTORY)
    try:
        for name in names:
            following = os.open(name, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


def sweep(top: Path, *names: str) -> None:
    """Remove what a killed writer left; only for who holds the installation lock.

    A file of the last hour may be one that is being written.
    """
    with contextlib.suppress(OSError), opened(top, *names) as place:
        for name in filter(_LEFT_OVER.fullmatch, os.listdir(place)):  # noqa: PTH208 - an open one
            with contextlib.suppress(OSError):
                written = os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime
                if time.time() - written > _LEFT_OVER_SECONDS:
                    os.unlink(name, dir_fd=place)
