"""Which generations a mount names, of any process: those are not pruned.

A container that mounts ``current`` has the generation that was current then, by its directory. Root
sees the mounts of every process; the service, whose units see no other process, asks a unit of
root's, internal-puller-mounts@.service, which only reads, and tells of the targets' generations
alone::

    {"complete": true, "directories": ["/etc/…/www.example.com"], "paths": ["/etc/…/generations/7"]}

A mount namespace that no process is in (kept by a file) is not looked at.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from internal_puller.install import local_socket
from internal_puller.install.layout import GENERATIONS
from internal_puller.settings.account import is_service
from shared.contract import strict_json
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from internal_puller.settings.targets import Target

SOCKET: Final = Path("/run/split-horizon-relay/mounts")
_LOOK_SECONDS: Final = 30.0
_MAX_ANSWER: Final = 4 << 20
_MAX_PATHS: Final = 10_000
_CAP_SYS_PTRACE: Final = 19
_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.EINVAL})  # EINVAL: it has ended
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Mounted:
    """
    Attributes:
        paths: directories of generations (``<target's directory>/generations/<name>``) that a mount
            names: the directory itself, or something in it.
        complete: whether every process was looked at; otherwise others may be mounted, too.
    """

    paths: frozenset[Path]
    complete: bool

    def may_name(self, generation: Path) -> bool:
        """Tell whether a mount names this directory, or might."""
        return not self.complete or generation in self.paths


def mounted(targets: Iterable[Target]) -> Mounted:
    """Return which generations of targets on this machine are mounted somewhere. Raises nothing."""
    directories = {target.directory for target in targets}
    if is_service():  # whatever it sees of /proc in its units: that is not all
        return _asked(directories) if SOCKET.exists() else Mounted(frozenset(), complete=False)
    return look(directories)


# --- looking ----------------------------------------------------------------------------------


class _Mount(NamedTuple):
    """A line of mountinfo (proc(5)): what of which file system is mounted, and where."""

    device: str
    root: str
    point: str
    kind: str
    options: str


def look(directories: Iterable[Path], proc: Path = _PROC) -> Mounted:
    """Read the mount tables of all processes.

    Args:
        directories: of targets.
    """
    places = _places(directories, proc)
    named: set[Path] = set()
    seen: set[bytes] = set()
    complete = places is not None and _sees_all(proc)
    for table in _tables(proc):
        if table is None:
            complete = False
        elif table not in seen:
            seen.add(table)
            for mount in _mounts(table):
                named.update(_generation(mount, places or {}))
    return Mounted(frozenset(named), complete)


def _tables(proc: Path) -> Iterator[bytes | None]:
    """The mount table of each thread of each process; None for one that is not shown to us."""
    for process in _numbers(proc):
        for thread in _numbers(process / "task"):
            try:
                yield (thread / "mountinfo").read_bytes()
            except OSError as error:
                if error.errno not in _GONE:
                    yield None


def _numbers(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if each.name.isdigit()]
    except OSError:
        return []


def _mounts(table: bytes) -> Iterator[_Mount]:
    # Any user may mount at a name with what str.splitlines() takes for an end of line, too.
    for line in filter(None, os.fsdecode(table).split("\n")):
        mount, _, source = line.partition(" - ")
        _, _, device, root, point, *_ = mount.split(" ")
        kind, _, options = source.split(" ", 2)
        yield _Mount(device, _plain(root), _plain(point), kind, options)


def _plain(path: str) -> str:
    """Return a path as it is: the kernel writes space, tab, newline and backslash in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _places(directories: Iterable[Path], proc: Path) -> dict[tuple[str, str], Path] | None:
    """Where the generations are, in their file systems; None if that cannot be told.

    As we see them, in a sandbox perhaps, and as process 1 does.
    """
    try:
        own = [*_mounts((proc / "self/mountinfo").read_bytes())]
        first = [*_mounts((proc / "1/mountinfo").read_bytes())]
    except OSError:
        return None
    found = {}
    for directory in directories:
        place = Path(os.path.realpath(directory)) / GENERATIONS
        for mounts in (own, first):
            if (covering := _covering(place, mounts)) is not None:
                inside = Path(covering.root) / place.relative_to(covering.point)
                found[covering.device, str(inside)] = directory / GENERATIONS
    return found


def _covering(place: Path, mounts: list[_Mount]) -> _Mount | None:
    """Return the mount that a path is on: the deepest, and of several there the last one."""
    above = [mount for mount in mounts if place.is_relative_to(mount.point)]
    return (
        max(enumerate(above), key=lambda each: (len(each[1].point), each[0]))[1] if above else None
    )


def _generation(mount: _Mount, places: dict[tuple[str, str], Path]) -> Iterator[Path]:
    parts = Path(mount.root).parts
    for depth in range(1, len(parts)):
        there = places.get((mount.device, str(Path(*parts[:depth]))))
        if there is not None:
            yield there / parts[depth]


def _sees_all(proc: Path) -> bool:
    """Tell whether processes of others are shown to us (``hidepid=`` of proc(5))."""
    try:
        own = [*_mounts((proc / "self/mountinfo").read_bytes())]
        status = (proc / "self/status").read_text()
    except OSError:
        return False
    shown = [mount.options for mount in own if mount.kind == "proc" and mount.point == "/proc"]
    hidden = re.search(r"\bhidepid=(?!0|off)", shown[-1] if shown else "")
    held = re.search(r"(?m)^CapEff:\s*([0-9a-f]+)$", status)
    return not hidden or bool(held and int(held[1], 16) >> _CAP_SYS_PTRACE & 1)


# --- asking, and answering --------------------------------------------------------------------


def _asked(directories: set[Path]) -> Mounted:
    nothing = Mounted(frozenset(), complete=False)
    try:
        told = local_socket.exchange(SOCKET, b"", _LOOK_SECONDS, _MAX_ANSWER)
        members = strict_json.decode_object(
            told, "The answer", max_size=_MAX_ANSWER, error=ConfigurationError
        )
        complete = members.boolean("complete")
        looked_at = members.texts("directories", max_items=_MAX_PATHS, max_length=4096)
        paths = members.texts("paths", max_items=_MAX_PATHS, max_length=4096)
    except (OSError, ConfigurationError):
        return nothing
    ours = {directory / GENERATIONS for directory in directories}
    named = frozenset(path for each in paths if (path := Path(each)).parent in ours)
    return Mounted(named, complete and directories <= set(map(Path, looked_at)))


def answer(targets: Iterable[Target]) -> bytes:
    """Return what the unit says: of these targets, whoever asks."""
    directories = {target.directory for target in targets}
    return _told(look(directories), directories)


def _told(found: Mounted, directories: Iterable[Path]) -> bytes:
    return strict_json.encode(
        {
            "complete": found.complete,
            "directories": sorted(map(str, directories)),
            "paths": sorted(map(str, found.paths)),
        }
    )


NOT_KNOWN: Final = _told(Mounted(frozenset(), complete=False), ())
"""What the unit says where it may not read the targets."""
