"""A cgroup of its own for a machine that is booted beside others.

Where systemd runs a host, it gives each machine a unit. Elsewhere all machines would make theirs in
the cgroup that we are in: the units of two have one name there, and now and then one does not start
because the other machine has just removed its cgroup (status 219).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.line import wait_until

_END_SECONDS = 30.0
# A shell goes into each, and is then what is to run: no process of that has been anywhere else.
_ENTER = """
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || :; shift; done
shift
exec "$@"
"""


@contextlib.contextmanager
def own_cgroup(name: str) -> Iterator[list[str]]:
    """Make a cgroup in every hierarchy where that is possible; gone at the end, with all below it.

    Yields:
        What a command is prefixed with, to run there.
    """
    places: list[Path] = []
    try:
        for parent in _parents():
            with contextlib.suppress(OSError):  # read-only, or not ours
                places.append(_made(parent / name))
        yield ["sh", "-uc", _ENTER, "sh", *map(str, places), "--"]
    finally:
        for place in places:
            wait_until(partial(_is_removed, place), _END_SECONDS, what=f"an empty {place}")


def _parents() -> Iterator[Path]:
    """The cgroup that we are in, of each hierarchy that is mounted where we see it."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    ours = [line.split(":", 2)[1:] for line in lines]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        root, mounted = mount.split()[3:5]
        kind, _, options = source.split(" ", 2)
        for controllers, path in ours:
            is_it = (
                kind == "cgroup2"
                if not controllers
                else kind == "cgroup" and set(controllers.split(",")) <= set(options.split(","))
            )
            if is_it and Path(path).is_relative_to(root):
                yield Path(mounted) / Path(path).relative_to(root)


def _made(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    for name in (
        "cpuset.cpus",
        "cpuset.mems",
    ):  # of version 1: nothing may enter before they are set
        if (place / name).exists():
            (place / name).write_text((place.parent / name).read_text())
    return place


def _is_removed(place: Path) -> bool:
    """Remove a cgroup and all below it; False while a process is still in one of them."""
    try:
        for folder, _, _ in os.walk(place, topdown=False):
            Path(folder).rmdir()
    except OSError:
        return False
    return True
