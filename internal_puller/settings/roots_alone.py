"""What root does as a file says, it does only if nobody but root could have written that file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared.contract.errors import ConfigurationError, LooseFileMode

_MOST_LINKS: Final = 40


def require_roots_alone(path: Path) -> None:
    """Refuse a file that others than root can change, or put another in the place of.

    Every directory on the way is looked at; a sticky one keeps what is root's in its place.

    Raises:
        LooseFileMode: the file or a directory above it is not root's, or others may write there.
        ConfigurationError: it cannot be found.
    """
    try:
        for each in dict.fromkeys(_on_the_way(path.absolute())):
            status = each.stat()
            loose = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
                loose = 0
            if status.st_uid != 0 or loose:
                raise LooseFileMode(
                    f"{each} can be changed by others than root (owner {status.st_uid}, mode "
                    f"{stat.S_IMODE(status.st_mode):04o}), and root would run what is named there.",
                    do=f"chown root {each} && chmod go-w {each}",
                )
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(f"{path} cannot be looked at: {error}.") from error


def _on_the_way(path: Path) -> Iterator[Path]:
    """Yield the file, and every directory in which it, or a link to it, could be replaced."""
    for _ in range(_MOST_LINKS):
        real = path.parent.resolve(strict=True) / path.name
        yield from (*path.parents, *real.parents)
        if not real.is_symlink():
            yield real
            return
        path = real.parent / real.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
