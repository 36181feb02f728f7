"""Runs an operator's command: no shell, a fixed environment, bounded, nothing left behind."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.contract import plain_text
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE_SECONDS: Final = 2.0
OVERHANG_SECONDS: Final = 10.0
TAIL_BYTES: Final = 4096
_NOT_RUN: Final = frozenset({126, 127})
"""How a shell, env or sudo ends that cannot run the program it was given (POSIX, 2.8.2)."""
_CRASHES: Final = frozenset({"ABRT", "BUS", "FPE", "ILL", "SEGV", "SYS", "TRAP"})
"""Signals of a program's own making; by another one somebody else ended it."""
_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Args:
        ok: it ended by itself with exit code 0.
        how: the same in words: "ended with exit code 1".
        tail: the last of its output, for a person: lines of plain text, whatever the command wrote,
            here or on another machine.
        ended: it was run and came to its own end, so that ``ok`` is its word; else nothing is
            known of what it was asked.
    """

    ok: bool
    how: str
    tail: str
    ended: bool = True

    def __post_init__(self) -> None:
        for name in ("how", "tail"):
            object.__setattr__(self, name, plain_text.lines(getattr(self, name)))

    def describe(self) -> str:
        """Return how it ended and its last lines of output."""
        lines = [line.strip() for line in self.tail.splitlines() if line.strip()][-3:]
        return f"{self.how}: {' | '.join(lines)}" if lines else self.how


def ended_with(code: int, tail: str) -> CommandResult:
    """Return the result of a command that gave this exit code."""
    how = f"ended with exit code {code}"
    return CommandResult(code == 0, how, tail, ended=code not in _NOT_RUN)


def ended_by(name: str, tail: str) -> CommandResult:
    """Return the result of a command that a signal ended.

    Args:
        name: of the signal, without SIG.
    """
    return CommandResult(False, f"was ended by signal {name}", tail, ended=name in _CRASHES)


def not_ended(how: str, tail: str = "") -> CommandResult:
    """Return the result of a command that was not run, or not to its end."""
    return CommandResult(False, how, tail, ended=False)


def find_program(argv: tuple[str, ...]) -> str:
    """Return the file that a command runs.

    Raises:
        ConfigurationError: there is none; nothing was run.
    """
    found = shutil.which(argv[0], path=SEARCH_PATH)
    if found is None or not Path(found).is_absolute():
        raise ConfigurationError(
            f"The command {argv[0]!r} does not exist or cannot be executed.",
            do=f"Give its absolute path, or put it into one of {SEARCH_PATH}.",
        )
    return found


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return all that a command sees; nothing of our own environment."""
    return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", **extra}


def run(
    argv: tuple[str, ...], timeout: float, extra: Mapping[str, str], stdin: bytes = b""
) -> CommandResult:
    """Run a command to its end or its time-out; then none of its descendants is left.

    Args:
        argv: program and arguments, as they are.
        timeout: seconds; then TERM, and ``GRACE_SECONDS`` later KILL, to every descendant.
        extra: environment variables beside PATH and LANG.
        stdin: what it reads, to the end.

    Raises:
        ConfigurationError: the program does not exist.
    """
    program = find_program(argv)
    try:
        given = _file_with(stdin) if stdin else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return not_ended(f"could not start: {error}")
    report_read, report_write = os.pipe()
    with os.fdopen(report_read, "rb") as report:
        try:
            supervisor = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(_SUPERVISOR),
                    str(report_write),
                    str(timeout),
                    str(GRACE_SECONDS),
                    program,
                    *argv[1:],
                ],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment(extra),
                pass_fds=(report_write,),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # such as an environment that is too large
            return not_ended(f"could not start: {error}")
        finally:
            os.close(report_write)
            os.close(given)
        with supervisor:
            verdict, tail = _watch(supervisor, report.fileno(), timeout)
    return _result(verdict, timeout, tail)


def _file_with(content: bytes) -> int:
    """Return a descriptor that reads this: a file without a name, so that nobody waits to write."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _watch(supervisor: subprocess.Popen[bytes], report: int, timeout: float) -> tuple[bytes, bytes]:
    """Collect the verdict and the end of the output; daemons may hold the output open."""
    assert supervisor.stdout is not None
    output = supervisor.stdout.fileno()
    os.set_blocking(output, False)
    verdict = tail = b""
    deadline = time.monotonic() + timeout + GRACE_SECONDS + OVERHANG_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(report, selectors.EVENT_READ)
        selector.register(output, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ready = {key.fd for key, _ in selector.select(left)}
            if output in ready:
                chunk = _read_some(output)
                tail = (tail + chunk)[-TAIL_BYTES:]
                if not chunk:
                    selector.unregister(output)
            elif report in ready:
                chunk = os.read(report, 4096)
                verdict += chunk
                if not chunk:
                    break
        else:
            os.killpg(supervisor.pid, signal.SIGKILL)
    return verdict, tail


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def _result(verdict: bytes, timeout: float, tail: bytes) -> CommandResult:
    text = tail.decode("utf-8", "replace")
    try:
        found = json.loads(verdict.partition(b"\n")[0])
    except ValueError:
        return not_ended("was ended with its supervisor", text)
    if "exit" in found:
        return ended_with(found["exit"], text)
    if "signal" in found:
        return ended_by(_name_of(found["signal"]), text)
    if "errno" in found:
        return not_ended(f"could not start: {os.strerror(found['errno'])}", text)
    return not_ended(f"did not end within {timeout:g} s and was killed", text)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # of real time
        return str(number)
