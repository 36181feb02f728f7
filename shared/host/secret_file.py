"""Reads a secret that an operator put into a file, and only if nobody else could read it.

It may be its reader's own, 0600, or root's and readable for the group of the service: 0640.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from shared.contract.errors import ConfigurationError, LooseFileMode

MOST_OCTETS = 1 << 20
SERVICES: Final = ("external-agent", "internal-puller")
"""Accounts and groups of deploy/systemd/sysusers.conf."""


def read_secret_file(path: Path, what: str) -> bytes:
    """Return the content of a file of secrets.

    Args:
        what: how errors call it, such as ``TSIG key file``.

    Raises:
        ConfigurationError: missing, unreadable, too large, no regular file.
        LooseFileMode: group or others can reach it, or it belongs to somebody else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"The {what} {path} cannot be read: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_OCTETS:
            raise ConfigurationError(f"The {what} {path} is no regular file of reasonable size.")
        _refuse_loose(path, what, status)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MOST_OCTETS)
    finally:
        os.close(descriptor)


def _refuse_loose(path: Path, what: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if is_loose(status):
        raise LooseFileMode(f"The {what} {path} has mode {mode:04o}, so others can reach it.")
    if os.geteuid() != 0 and status.st_uid not in (os.geteuid(), 0):
        raise LooseFileMode(
            f"The {what} {path} belongs to user {status.st_uid}, not to this service."
        )


def is_loose(status: os.stat_result) -> bool:
    """Tell whether others than its owner can reach a file; the group of a service of ours may read.

    A file that is the service's own is for nobody else.
    """
    of_service = status.st_uid == 0 and status.st_gid in _service_groups()
    return bool(stat.S_IMODE(status.st_mode) & (0o037 if of_service else 0o077))


def _service_groups() -> set[int]:
    """Return our group; for root, those of the services that it keeps files for."""
    if os.geteuid() != 0:
        return {os.getegid()}
    import grp

    found = {0}
    for name in SERVICES:
        with contextlib.suppress(KeyError):
            found.add(grp.getgrnam(name).gr_gid)
    return found
