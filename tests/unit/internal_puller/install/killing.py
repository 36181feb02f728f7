"""The calls by which ``durable`` changes a file system: killed at each, and what a power cut loses.

It stands in for ``os`` in that module. Renames, links and removals in a directory may be lost, each
for itself, until the directory is synced; a directory is renamed only when all in it is durable.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

STAGING: Final = ".staging/"  # what happens there is seen by nobody, and cleared by the next run
CHANGING: Final = frozenset(
    ("mkdir", "rename", "symlink", "unlink", "rmdir", "write", "fsync", "fchmod", "fchown")
)


class Killed(BaseException):
    """The process is gone; nothing after it happens either."""


@dataclass(frozen=True)
class Lost:
    """A change that may be lost: an entry is as it was before.

    Attributes:
        before: where it pointed, what it held; None: it was not there.
        moved_to: where it went, if it went out of its directory.
    """

    path: Path
    before: str | bytes | None
    moved_to: Path | None = None

    def undo(self) -> None:
        if self.moved_to is not None:
            self.moved_to.rename(self.path)
            return
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)
        if isinstance(self.before, str):
            self.path.symlink_to(self.before)
        elif self.before is not None:
            self.path.write_bytes(self.before)


@dataclass
class KillingOs:
    """``os``, but the ``last``-th changing call is not made, and none after it."""

    last: int
    calls: int = 0
    unsynced: list[Lost] = field(default_factory=list)
    dirty: set[int] = field(default_factory=set)

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in CHANGING:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.calls == self.last:
                raise Killed
            self.calls += 1
            before = getattr(self, f"_{name}", lambda *_, **__: None)(*args, **kwargs)
            result = found(*args, **kwargs)
            if before is not None and STAGING not in str(before.path):
                self.unsynced.append(before)
            return result

        return call

    def _symlink(self, _: str, name: str, *, dir_fd: int) -> Lost:
        return _at(dir_fd, name)

    def _unlink(self, name: str, *, dir_fd: int) -> Lost:
        found = _at(dir_fd, name)
        moved = {one.moved_to for one in self.unsynced}
        assert found.path.parent not in moved, "taken apart before it is durably out of sight"
        return found

    def _rename(self, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> Lost:
        moved = _at(src_dir_fd, old).path
        inside = [moved, *moved.iterdir()] if moved.is_dir() and not moved.is_symlink() else [moved]
        assert not {one.lstat().st_ino for one in inside} & self.dirty, "not durable before it"
        taken = _at(dst_dir_fd, new)
        if STAGING in str(taken.path):
            return Lost(moved, None, taken.path)
        return taken

    def _write(self, descriptor: int, _: object) -> None:
        self.dirty.add(os.fstat(descriptor).st_ino)

    def _fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.dirty.discard(status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            place = _path_of(descriptor)
            self.unsynced = [one for one in self.unsynced if one.path.parent != place]


def _at(descriptor: int, name: str) -> Lost:
    path = _path_of(descriptor) / name
    if path.is_symlink():
        return Lost(path, str(path.readlink()))
    return Lost(path, path.read_bytes() if path.is_file() else None)


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
