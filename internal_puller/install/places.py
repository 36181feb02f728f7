"""The directories of a target: its own, the generations in it, and the one beside it for staging.

From staging one rename puts a generation, a link or a note in place, so that whoever mounts or
watches the target's directory sees no temporary name. A rename does not leave a mount.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING

from internal_puller.install.durable import Directory
from internal_puller.install.layout import GENERATIONS, staging_name
from shared.contract.errors import ConfigurationError, StageFailed

if TYPE_CHECKING:
    from pathlib import Path

    from internal_puller.settings.targets import Target


def prepare(target: Target) -> None:
    """Make the directories of a target, where they are missing; root makes them for the service.

    Raises:
        ConfigurationError, StageFailed: they cannot be used.
    """
    with ExitStack() as stack:
        try:
            open_staging(stack, target, *open_directories(stack, target, create=True))
        except OSError as error:
            raise refused(target, "be prepared", error) from error


def open_directories(
    stack: ExitStack, target: Target, *, create: bool
) -> tuple[Directory, Directory]:
    """Return the target's directory and its generations, open until ``stack`` ends.

    Raises:
        ConfigurationError: no directories, somebody else's, or open to others.
        OSError: they cannot be made or opened.
    """
    root = stack.enter_context(Directory.open(target.directory, create=create))
    return root, stack.enter_context(root.child(GENERATIONS, create=create))


def open_staging(
    stack: ExitStack, target: Target, root: Directory, generations: Directory
) -> Directory:
    """Return the staging directory of a target, made if missing.

    Raises:
        ConfigurationError: no rename can go from there to the others.
        StageFailed: it cannot be made or opened.
    """
    with root.parent() as parent:
        if not parent.is_one_mount_with(root):
            raise _other_mount(target, root.path)
    staging = stack.enter_context(_beside(target, root))
    if not generations.is_one_mount_with(staging):
        raise _other_mount(target, generations.path)
    staging.inherit_as(generations)
    return staging


def _beside(target: Target, root: Directory) -> Directory:
    name = staging_name(root.path)
    try:
        return root.beside(name)
    except OSError as error:
        place = root.path.parent / name
        raise StageFailed(
            f"{target.certificate}: {place}, from which one rename puts a generation in place, "
            f"cannot be used: {error.strerror or error}.",
            do=f"As root: install -d -m 0700 -o {root.path.stat().st_uid} {place}",
        ) from error


def _other_mount(target: Target, path: Path) -> ConfigurationError:
    own = target.certificate
    return ConfigurationError(
        f"{own}: {path} is a mount of its own, so that no rename can put a generation in place "
        "there at once.",
        do=f"Name a directory below it: internal-puller target change {own} --directory "
        f"{target.directory / own}",
    )


def refused(target: Target, verb: str, error: OSError) -> StageFailed:
    """Return the error for what the file system refuses in a target's directory."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        reason = "the disk is full"
    return StageFailed(f"{target.certificate}: {target.directory} could not {verb}: {reason}.")
