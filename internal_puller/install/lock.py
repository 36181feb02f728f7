"""One installation at a time on a host; only the standard library (quiet path)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.contract.errors import ConfigurationError, InstallBusy
from shared.host.whole_file import give_to_owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_SECONDS: Final = 0.1


@contextlib.contextmanager
def installation_lock(
    path: Path,
    *,
    wait: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the host's installation lock; the kernel gives it back when the process dies.

    Args:
        path: the lock file; made if missing, never removed.
        wait: seconds to wait for another installation to end.

    Raises:
        InstallBusy: another process holds it.
        ConfigurationError: the file cannot be opened.
    """
    try:
        descriptor = _opened(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened: {error.strerror}.") from error
    try:
        deadline = clock() + wait
        while not _taken(descriptor):
            if clock() >= deadline:
                raise InstallBusy(f"Another installation holds {path}.")
            sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Open the lock file; whoever makes it, the account of its directory locks it too."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path.name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
        except FileExistsError:
            return os.open(path.name, flags, dir_fd=directory)
        give_to_owner_of(directory, descriptor)
        return descriptor
    finally:
        os.close(directory)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
