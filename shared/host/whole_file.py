"""A file that is replaced wholly or not at all. Only the standard library."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_whole(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace a file; whoever reads meanwhile, or after a crash, has the old or the new one.

    Args:
        mode: of the new file, whatever the umask; until it is written nobody else can read it.
        durable: return only after the disk has it.

    Raises:
        OSError: it cannot be written; nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, _NEW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(descriptor)
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Have the disk hold the entries of a directory. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
