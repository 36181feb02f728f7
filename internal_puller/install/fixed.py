"""The fixed names in a target's directory, beside ``current``.

For each file of the generation in place there is a link ``fullchain.pem -> current/fullchain.pem``:
whoever mounts the target's directory, which holds both links and what they lead to, sees the next
generation there by itself. With layout ``copy`` there is one file instead, which a server opens
that follows no links. What was not made by us is never touched.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from internal_puller.install.durable import Ownership
from internal_puller.install.formats import FILE_NAMES
from internal_puller.install.layout import CURRENT, OURS_ALONE, fixed_link
from internal_puller.settings.targets import ONE_FILE
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from internal_puller.install.durable import Directory
    from internal_puller.settings.targets import Target

COPIED: Final = FILE_NAMES[ONE_FILE[0]]
_MOST_OCTETS: Final = 1 << 20
_COPY: Final = ("cp", "-PT", "--remove-destination", "--preserve=all")


@dataclass(frozen=True)
class FixedNames:
    """The fixed names of one target. Every method raises ``OSError``.

    Args:
        root: the target's directory.
        generations: in it.
        staging: outside it, on the same mount.
        copies: whether one file is copied (layout ``copy``), or links are made.
    """

    root: Directory
    generations: Directory
    staging: Directory
    copies: bool

    def check(self) -> None:
        """Raise ``ConfigurationError`` if the file to be replaced is another's."""
        if self.copies and self.root.has(COPIED) and not self._is_ours(COPIED):
            raise ConfigurationError(
                f"{self.root.path / COPIED} was not made by internal-puller, so layout copy does "
                "not replace it.",
                do="Move it out of the way, or choose another directory for the target.",
            )

    def lead_to(self, name: str) -> None:
        """Have them for each file of a generation, durably, before it becomes the current one.

        A link leads nowhere until then; a link to a file that stays needs no change.
        """
        if self.copies:
            self._copy(name)
            return
        missing = [one for one in self._files(name) if not self._is_link(one)]
        for file in missing:
            if not self.root.has(file):
                self.root.make_link(file, fixed_link(file))
            elif self._is_ours(file):  # the file of layout copy
                self.root.replace_link(file, fixed_link(file), self.staging)
        if missing:
            self.root.sync()

    def leave_only(self, name: str | None) -> None:
        """Remove those of ours that the generation in place has no file for; None: all."""
        wanted = set() if name is None else self._files(name)
        stale = [one for one in sorted({*FILE_NAMES.values()} - wanted) if self._is_ours(one)]
        for file in stale:
            self.root.remove(file)
        if stale:
            self.root.sync()

    def _files(self, name: str) -> set[str]:
        with self.generations.child(name) as directory:
            return set(directory.names()) - OURS_ALONE

    def _copy(self, name: str) -> None:
        self.check()
        with self.generations.child(name) as directory:
            content, status = directory.read(COPIED)
        if self._holds(content, status):
            return
        ownership = Ownership(status.st_uid, status.st_gid, status.st_mode & 0o777)
        self.root.replace(COPIED, content, self.staging, ownership)

    def _holds(self, content: bytes, status: os.stat_result) -> bool:
        if not self.root.has(COPIED) or self._is_link(COPIED):
            return False
        found, its = self.root.read(COPIED)
        return found == content and (
            (its.st_uid, its.st_gid, its.st_mode) == (status.st_uid, status.st_gid, status.st_mode)
        )

    def _is_ours(self, name: str) -> bool:
        if self._is_link(name):
            return True
        return name == COPIED and self.root.has(name) and self._is_of_a_generation(name)

    def _is_link(self, name: str) -> bool:
        try:
            return self.root.read_link(name) == fixed_link(name)
        except OSError:  # a file
            return False

    def _is_of_a_generation(self, name: str) -> bool:
        """Tell whether a file holds what a generation that is still there has under its name."""
        try:
            content, _ = self.root.read(name)
        except OSError:  # a link, a directory, or hidden from us
            return False
        return any(self._held_by(one, name) == content for one in self.generations.names())

    def _held_by(self, generation: str, name: str) -> bytes | None:
        try:
            with self.generations.child(generation) as directory:
                return directory.read(name)[0]
        except (OSError, ConfigurationError):
            return None


def wrong_names(target: Target) -> Iterator[tuple[str, str]]:
    """Give (what is wrong, a command that puts it right) of each fixed name of a target.

    Root runs the command in a directory that may be another account's, which can change a name
    meanwhile: none of them follows a link at its end, or puts anything into a directory there.
    """
    current = target.directory / CURRENT
    try:
        files = sorted({path.name for path in current.iterdir()} - OURS_ALONE)
    except OSError:  # nothing is in place, or whoever looks at it says why not
        return
    for name in files:
        path, link = target.directory / name, fixed_link(name)
        linked = shlex.join(("ln", "-sT", link, f"{path}"))
        if target.layout == "copy":
            if path.is_symlink() or not _same(path, current / name):
                what = f"{path} is not the file of the generation in place."
                yield what, shlex.join((*_COPY, f"{current / name}", f"{path}"))
        elif not os.path.lexists(path):
            what = f"{path} is missing, by which a container finds the file that mounts "
            yield f"{what}{target.directory}.", linked
        elif not path.is_symlink() or str(path.readlink()) != link:
            what = f"{path} was not made by internal-puller, and is left alone: a container that "
            what += f"mounts {target.directory} reads it in place of {link}."
            yield what, f"{shlex.join(('mv', '-T', f'{path}', f'{path}.old'))} && {linked}"


def _same(path: Path, other: Path) -> bool:
    try:
        found, wanted = _read(path), _read(other)
    except PermissionError:  # it is not for this user to tell
        return True
    except OSError:
        return False
    return found == wanted and len(found) <= _MOST_OCTETS


def _read(path: Path) -> bytes:
    """Return a file, or of a larger one its beginning; what else is there is not waited for."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no file")
        return file.read(_MOST_OCTETS + 1)
