"""axe-core from npm, at the version that the lock beside this file names."""

from __future__ import annotations

import fcntl
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_SOURCE = _HERE / "node_modules" / "axe-core" / "axe.min.js"


@cache
def axe_source() -> str:
    """Return the script, installed at the first call; skip where npm or its registry is missing."""
    with (_HERE / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # while one process installs, another reads half a file
        if not _SOURCE.exists():
            _install()
        return _SOURCE.read_text()


def _install() -> None:
    try:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=_HERE, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"axe-core could not be installed: {error}")
        pytest.skip(f"axe-core could not be installed: {error}")
