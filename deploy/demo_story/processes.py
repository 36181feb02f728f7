"""The demo's processes: started in one place, ended together, their words kept for a failure."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_RUN_SECONDS = 60
_LISTEN = "0A"  # a state in /proc/net/tcp


class StoryFailed(Exception):
    """A step did not end as it should; the text says which and why."""


class Processes:
    """Runs commands of this environment with one set of variables.

    Args:
        directory: everything is written below it.
        variables: added to the environment.
    """

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        self.directory = directory
        self._variables = os.environ | variables
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> Path:
        """Start a process that stays, and return the file with what it says."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._variables,
                start_new_session=True,
            )
        return log

    def set(self, **variables: str) -> None:
        """Add variables for what is started from now on."""
        self._variables = self._variables | variables

    def end(self, name: str) -> None:
        """End one process that stays."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)

    def run(
        self, *command: str, given: str = "", accept: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end.

        Raises:
            StoryFailed: it ended with another status than one of ``accept``, or not in time.
        """
        try:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                text=True,
                env=self._variables,
                timeout=_RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            words = f"{' '.join(command[2:6])} … did not end within {_RUN_SECONDS} s."
            raise StoryFailed(words) from None
        if done.returncode not in accept:
            words = f"{done.stdout}{done.stderr}".strip()
            raise StoryFailed(f"{' '.join(command[2:6])} … ended with {done.returncode}:\n{words}")
        return done

    def wait(self, what: str, look: Callable[[], T | None], *, seconds: float = 30) -> T:
        """Return what ``look`` finds as soon as it finds something.

        Raises:
            StoryFailed: not within ``seconds``, or a process has ended.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            self._all_alive()
            time.sleep(0.05)
        raise StoryFailed(f"{what} did not happen within {seconds:.0f} s.\n{self._last_words()}")

    def _all_alive(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                raise StoryFailed(
                    f"{name} ended with {process.returncode}.\n{self._last_words(name)}"
                )

    def _last_words(self, only: str = "") -> str:
        return "\n".join(
            f"--- {name}\n" + "\n".join(_tail(self.directory / f"{name}.log"))
            for name in self._running
            if only in ("", name)
        )

    def listening_sockets(self, name: str) -> int:
        """Return on how many TCP sockets a process listens (Linux), to show that it is none."""
        own = set()
        for descriptor in Path(f"/proc/{self._running[name].pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                own.add(str(descriptor.readlink()))
        tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
        rows = [row.split() for table in tables for row in table.read_text().splitlines()[1:]]
        return sum(row[3] == _LISTEN and f"socket:[{row[9]}]" in own for row in rows)

    def stop(self) -> None:
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self._running.values()):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tail(path: Path, lines: int = 12) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Return ports that nobody listens on at this moment."""
    sockets = [socket.create_server((address, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)
