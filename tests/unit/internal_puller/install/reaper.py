"""Kills an installation, in this process, before any call that changes the disk or a server.

It stands in for ``os`` in ``durable``: once dead, nothing more is changed. Renames that no fsync of
their directory made durable can be lost after it, as a power cut loses them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from internal_puller.install import durable

CHANGING: Final = frozenset(
    {
        "mkdir", "write", "fchmod", "fchown", "fsync", "rename", "symlink", "unlink", "rmdir",
    }
)  # fmt: skip


class Killed(BaseException):
    """Caught by nothing of the product."""


@dataclass
class Rename:
    """One that is not durable yet, and what its destination was before."""

    directory: Path
    old: str
    new: str
    link: str | None
    content: bytes | None

    def undo(self) -> None:
        old, new = self.directory / self.old, self.directory / self.new
        if not new.is_symlink() and not new.exists():
            return
        new.rename(old)
        if self.link is not None:
            new.symlink_to(self.link)
        elif self.content is not None:
            new.write_bytes(self.content)
            new.chmod(0o600)


@dataclass
class Reaper:
    """
    Attributes:
        at: the number of the call before which it kills; 0 never.
    """

    at: int = 0
    calls: int = 0
    renames: list[Rename] = field(default_factory=list)

    def tick(self) -> None:
        self.calls += 1
        if self.at and self.calls >= self.at:
            raise Killed

    def lose(self, which: tuple[int, ...]) -> None:
        """Lose some of the renames that were not durable at the kill."""
        for index in sorted(which, reverse=True):
            self.renames[index].undo()

    def subsets(self) -> Iterator[tuple[int, ...]]:
        every = range(len(self.renames))
        return itertools.chain.from_iterable(
            itertools.combinations(every, count) for count in range(len(self.renames) + 1)
        )

    # --- in place of ``os`` ------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        genuine = getattr(os, name)
        return self._counted(genuine) if name in CHANGING else genuine

    def _counted(self, genuine: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.tick()
            return genuine(*given, **named)

        return call

    def open(self, path: Any, flags: int, *given: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            self.tick()
        return os.open(path, flags, *given, **named)

    def rename(self, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self.tick()
        directory = Path(f"/proc/self/fd/{dst_dir_fd}").readlink()
        there, link, content = directory / new, None, None
        if there.is_symlink():
            link = str(there.readlink())
        elif there.is_file():
            content = there.read_bytes()
        os.rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self.renames.append(Rename(directory, old, new, link, content))

    def fsync(self, descriptor: int) -> None:
        self.tick()
        os.fsync(descriptor)
        synced = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.renames = [one for one in self.renames if one.directory != synced]


@contextlib.contextmanager
def reaped(at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reaper]:
    """Kill at a call; what ``Killed`` ends is left as it is."""
    reaper = Reaper(at)
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(durable, "os", reaper)
        yield reaper
