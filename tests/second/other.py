"""The second implementation as processes: Node, with what its lock names installed by npm."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

HERE = Path(__file__).parent
SECONDS = 120


@cache
def libraries() -> None:
    """Install them at the first call; skip where npm or its registry is missing."""
    with (HERE / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # while one process installs, another reads half a file
        if not (HERE / "node_modules" / ".package-lock.json").exists():
            _install()


def _install() -> None:
    try:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=HERE, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the second implementation's libraries could not be installed: {error}")
        pytest.skip(f"the second implementation's libraries could not be installed: {error}")


def run(script: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the scripts to its end."""
    libraries()
    return subprocess.run(
        ["node", str(HERE / script), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


class OtherPuller:
    """The second implementation's puller, with its state in a directory."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def call(self, *arguments: str, stdin: str = "") -> Any:
        """Return what a command prints; it may be ``{"error": type, "reason": …}``."""
        done = run("puller.js", str(self.state), *arguments, stdin=stdin)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command, such as one that waits."""
        libraries()
        command = ["node", str(HERE / "puller.js"), str(self.state), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class OtherAgent:
    """The second implementation's agent, from `with` to its end.

    Args:
        certificates: their names; with ``=puller`` behind it where the puller makes the key.
    """

    def __init__(self, *certificates: str) -> None:
        libraries()
        self._process = subprocess.Popen(
            ["node", str(HERE / "agent.js"), *certificates],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        first = self._line()
        self.token: str = first["token"]
        self.root_pem: str = first["root"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=30)

    def call(self, command: str) -> Any:
        """`issue CERTIFICATE`, `token` or `state`."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the second implementation's agent ended"
        return json.loads(line)
