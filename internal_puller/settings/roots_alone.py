"""What root does as a file says, it does only if nobody but root could have written that file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shared.contract.errors import ConfigurationError, LooseFileMode


def require_roots_alone(path: Path) -> None:
    """Refuse a file that others than root can change, or put another in the place of.

    Every directory on the way is looked at; a sticky one keeps what is root's in its place.

    Raises:
        LooseFileMode: the file or a directory above it is not root's, or others may write there.
        ConfigurationError: it cannot be found.
    """
    try:
        real = path.resolve(strict=True)
        for each in dict.fromkeys((path.absolute().parent, real, *real.parents)):
            status = os.stat(each)
            loose = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            loose = loose and not (each != real and status.st_mode & stat.S_ISVTX)
            if status.st_uid != 0 or loose:
                raise LooseFileMode(
                    f"{each} can be changed by others than root (owner {status.st_uid}, mode "
                    f"{stat.S_IMODE(status.st_mode):04o}), and root would run what is named there.",
                    do=f"chown root {each} && chmod go-w {each}",
                )
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(f"{path} cannot be looked at: {error}.") from error
