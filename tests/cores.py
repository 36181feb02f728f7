"""Core dumps of running processes, taken by gdb, with all of their memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil

from tests.lab.peers import clean_environment, require


def dump(pid: int, directory: Path) -> Path:
    """Write everything that a process can address into a file; the process goes on.

    What it asked to be left out of core dumps (MADV_DONTDUMP, the coredump filter, PR_SET_DUMPABLE)
    is in it too. Needs root, or a process of ours.
    """
    target = directory / f"core.{pid}"
    done = subprocess.run(
        [
            *(require("gdb"), "-q", "-nx", "-batch", "-iex", "set auto-solib-add off"),
            *("-iex", "set debuginfod enabled off", "-p", str(pid)),
            *("-ex", "set use-coredump-filter off", "-ex", "set dump-excluded-mappings on"),
            *("-ex", f"generate-core-file {target}"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    if not target.exists():
        raise RuntimeError(f"gdb wrote no core of {pid}: {done.stdout}{done.stderr}")
    return target


def family(pid: int) -> list[int]:
    """Return a process and everything that descends from it."""
    parent = psutil.Process(pid)
    return [pid, *(child.pid for child in parent.children(recursive=True))]
