"""A Debian root in a directory, entered by chroot in a mount namespace of its own."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.line import Done

_ENTER = """
mount -t proc proc "$1/proc"
mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
mount -t tmpfs tmpfs "$1/run"
exec chroot "$@"
"""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONUNBUFFERED": "1",
    "SYSTEMD_OFFLINE": "1",  # units are enabled, and nothing is started
}


def ended(argv: list[str], environment: dict[str, str], stdin: str = "") -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    return Done(argv, done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Root:
    """
    Attributes:
        base: where it is in our file system.
    """

    base: Path

    def __truediv__(self, name: str) -> Path:
        return self.base / name.lstrip("/")

    def argv(self, *command: str) -> list[str]:
        enter = ("sh", "-euc", _ENTER, "sh", str(self.base))
        return ["unshare", "--mount", "--propagation", "private", *enter, *command]

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command; its explanations are piped."""
        return subprocess.Popen(
            self.argv(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )

    def run(self, *command: str, stdin: str = "", expect: int = 0) -> Done:
        """Run a command to its end."""
        done = ended(self.argv(*command), ENVIRONMENT, stdin)
        assert done.code == expect, f"{command} ended with {done.code}:\n{done.out}{done.err}"
        return done
