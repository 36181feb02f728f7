"""What a program that watches directories is told (inotify(7)), in the standard library."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_EVENTS: Final = {
    0x2: "modify",
    0x4: "attrib",
    0x8: "written",
    0x40: "moved from",
    0x80: "moved to",
    0x100: "create",
    0x200: "delete",
}
_HEAD: Final = struct.Struct("iIII")


class Watch:
    """Directories that are watched, each for itself."""

    def __init__(self, descriptor: int, names: dict[int, str]) -> None:
        self._descriptor = descriptor
        self._names = names

    def events(self) -> list[tuple[str, str, str]]:
        """Return (directory, event, entry) of all that happened since it was last asked."""
        found = b""
        while True:
            try:
                found += os.read(self._descriptor, 65536)
            except BlockingIOError:
                break
        events = []
        while found:
            watch, mask, _, length = _HEAD.unpack_from(found)
            name = found[_HEAD.size : _HEAD.size + length].rstrip(b"\0").decode()
            found = found[_HEAD.size + length :]
            kind = next(word for bit, word in _EVENTS.items() if mask & bit)
            events.append((self._names[watch], kind, name))
        return events


@contextmanager
def watched(*directories: Path) -> Iterator[Watch]:
    descriptor = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        names = {
            _LIBC.inotify_add_watch(descriptor, os.fsencode(each), sum(_EVENTS)): each.name
            for each in directories
        }
        assert min(descriptor, *names) >= 0
        yield Watch(descriptor, names)
    finally:
        os.close(descriptor)
