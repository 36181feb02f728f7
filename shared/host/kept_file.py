"""Files that an administrator names, and that a service reads which sees no home and no /tmp."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.contract.errors import ConfigurationError
from shared.host.whole_file import make_directory, replace_whole

if TYPE_CHECKING:
    from collections.abc import Callable

_UNSEEN: Final = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - ProtectHome=, PrivateTmp=


def is_unseen(path: Path) -> bool:
    """Tell whether a unit with ``ProtectHome`` and ``PrivateTmp`` does not see a path."""
    return any(path.resolve().is_relative_to(hidden) for hidden in _UNSEEN)


def is_copied(path: Path, copy: Path) -> bool:
    """Tell whether :func:`keep` makes the copy.

    Only root installs services, and only where they look; for everybody else the file stays.
    """
    return os.geteuid() == 0 and not is_unseen(copy) and is_unseen(path)


def keep(
    path: Path,
    copy: Path,
    *,
    mode: int = 0o644,
    group: int | None = None,
    say: Callable[[str], object],
) -> Path:
    """Return where a service finds a file: where it is, or else in a copy, made now.

    Args:
        copy: where it is kept if the service would not see it.
        mode: of the copy.
        group: id of the group that the copy gets.
        say: is told of a copy, in a sentence.

    Raises:
        ConfigurationError: there is no such file, or it cannot be kept.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - False too for what can be no path
        raise ConfigurationError(f"There is no file {path}.")
    if not is_copied(path, copy):
        return path.absolute()
    try:
        copy.parent.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            make_directory(copy.parent, 0o755)
        replace_whole(copy, path.read_bytes(), mode=mode, group=group)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be copied to {copy}: {error.strerror}.",
            do=f"Put it below {copy.parent} yourself, and name it there.",
        ) from error
    say(f"{path} is kept as {copy}: the service sees no home directories and no /tmp.")
    return copy
