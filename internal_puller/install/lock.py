"""One installation at a time on a host; only the standard library (quiet path)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.contract.errors import ConfigurationError, InstallBusy

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
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
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


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
