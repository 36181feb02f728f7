"""A file that is replaced wholly or not at all. Only the standard library.

What root makes in a directory of another account belongs to that account: it is the one that works
with it, and it may not read past a mode.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def replace_whole(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    group: int | None = None,
    durable: bool = False,
) -> None:
    """Replace a file; whoever reads meanwhile, or after a crash, has the old or the new one.

    Args:
        mode: of the new file, whatever the umask; until it is written nobody else can read it.
        group: id of the group that it gets.
        durable: return only after the disk has it.

    Raises:
        OSError: it cannot be written; nothing is left beside it.
    """
    temporary = f".{path.name}.{secrets.token_hex(6)}"
    directory = os.open(path.parent, _DIRECTORY)
    try:
        descriptor = os.open(temporary, _NEW, 0o600, dir_fd=directory)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            give_to_owner_of(directory, descriptor)
            if group is not None:
                os.fchown(descriptor, -1, group)
            if durable:
                os.fsync(descriptor)
        os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        if durable:
            os.fsync(directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(directory)


def give_to_owner_of(directory: int, descriptor: int) -> None:
    """Give what root has just made in a directory to the account that the directory belongs to.

    Both are open: whoever owns the directory may put a link in the place of any name in it.
    Raises ``OSError``.
    """
    if os.geteuid() == 0 and (owner := os.fstat(directory)).st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def make_directory(path: Path, mode: int) -> None:
    """Make a directory, durably and whatever the umask, in one that is there.

    Raises:
        FileExistsError: there is something of that name.
        OSError: it cannot be made.
    """
    parent = os.open(path.parent, _DIRECTORY)
    try:
        os.mkdir(path.name, mode, dir_fd=parent)
        made = os.open(path.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            os.fchmod(made, mode)
            give_to_owner_of(parent, made)
        finally:
            os.close(made)
        os.fsync(parent)
    finally:
        os.close(parent)
