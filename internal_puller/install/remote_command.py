"""A command on another machine: its end or its time-out, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import shlex
from typing import TYPE_CHECKING, Final

from internal_puller.install import remote_words
from internal_puller.install.remote_connection import library
from shared.host.commands import (
    GRACE_SECONDS,
    TAIL_BYTES,
    CommandResult,
    ended_by,
    ended_with,
    not_ended,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncssh

    from internal_puller.install.remote_connection import Connection

Argv = tuple[str, ...]
_SHELL: Final = "exec sh -s"
"""All that the account's own shell has to understand: csh and fish quote otherwise."""
_NOISE: Final = 16384
_POLL: Final = 0.2


def script_of(argv: Argv, variables: Mapping[str, str], mark: str) -> str:
    """Return what ``sh`` reads there: it says its number, which leads the group, and becomes it."""
    told = [f"{name}={shlex.quote(value)}; export {name}" for name, value in variables.items()]
    return "\n".join(
        (
            "exec 2>&1",
            "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH",
            *told,
            f"echo {mark} $$",
            f"exec {shlex.join(argv)} </dev/null",
            "",
        )
    )


async def run(
    connection: Connection, argv: Argv, seconds: float, variables: Mapping[str, str]
) -> CommandResult:
    """Run a command there, whatever the account's shell is.

    Args:
        seconds: then it and its process group get TERM and, soon after, KILL. The end of a
            connection does not end a command, and OpenSSH passes no signal on to those of root.
            What runs there as somebody else (`sudo`) is not ours to end.

    Raises:
        StageFailed: something else answered than a shell.
    """
    mark = f"relay-{secrets.token_hex(8)}"
    running = _Running(await connection.begin(_start), mark)
    try:
        async with asyncio.timeout(seconds):
            await running.give(script_of(argv, variables, mark))
            await running.end()
    except TimeoutError:
        if running.number:
            await _end(connection, running.number)
            return not_ended(f"did not end within {seconds:g} s", running.tail)
    if not running.number:
        printed = await running.said()
        raise remote_words.no_command(connection.machine, printed, running.result.how)
    if not running.has_ended:  # how it ends nobody will say: that is no failure of it
        raise remote_words.lost(connection.machine, argv[0])
    running.leave()
    return running.result


async def noise_of(connection: Connection, seconds: float) -> str:
    """Return what login files there print before a command; empty for none, or if not known."""
    mark = f"relay-{secrets.token_hex(8)}"
    running = _Running(await connection.begin(_start), mark)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await running.give(script_of(("true",), {}, mark))
            await running.end()
    return running.noise if running.number else ""


async def _start(connection: asyncssh.SSHClientConnection) -> asyncssh.SSHClientProcess[str]:
    return await connection.create_process(_SHELL, errors="replace", env={}, send_env=[])


async def _end(connection: Connection, number: int) -> None:
    kill, group = "kill -s", f"-- -{number}"  # the one form that dash, too, takes for a group
    words = f"{kill} TERM {group}; sleep {GRACE_SECONDS:g}; {kill} KILL {group}"
    with contextlib.suppress(OSError, library().Error):
        ending = _Running(await connection.begin(_start), "")
        async with asyncio.timeout(GRACE_SECONDS + 10):
            await ending.give(f"{words}\n")
            await ending.end()


class _Running:
    """What is known of a command while it runs."""

    def __init__(self, process: asyncssh.SSHClientProcess[str], mark: str) -> None:
        self._process, self._mark = process, mark
        self._before = ""
        self.number = 0
        self.tail = ""

    @property
    def noise(self) -> str:
        """What came before the command began, one line."""
        return " ".join(self._before.split())

    @property
    def has_ended(self) -> bool:
        """Whether it is known how it ended."""
        return self._process.exit_status is not None or self._process.exit_signal is not None

    @property
    def result(self) -> CommandResult:
        """How it ended, as far as that is known."""
        if self._process.exit_signal:
            return ended_by(self._process.exit_signal[0], self.tail)
        if self._process.exit_status is None:
            return not_ended("did not end", self.tail)
        return ended_with(self._process.exit_status, self.tail)

    async def said(self) -> str:
        """Return what was printed although no command began, one line."""
        errors = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL):
                errors = str(await self._process.stderr.read(_NOISE))
        return " ".join(f"{self._before} {errors}".split())

    async def give(self, script: str) -> None:
        with contextlib.suppress(OSError):  # it ended before it read: its output says why
            self._process.stdin.write(script)
            self._process.stdin.write_eof()

    def leave(self) -> None:
        """Leave what it began to itself: nothing of its output is waited for."""
        self._process.close()

    async def end(self) -> None:
        """Read to the end of the command; what it leaves behind may hold its output open."""
        had_ended = False
        while True:
            try:
                async with asyncio.timeout(_POLL):
                    chunk = str(await self._process.stdout.read(8192))
            except TimeoutError:
                if had_ended:
                    return  # a whole turn ago: what it wrote itself came before that
                had_ended = self.has_ended
                continue
            if not chunk:
                break
            self._take(chunk)
        await self._process.wait_closed()

    def _take(self, chunk: str) -> None:
        if self.number:
            self.tail = (self.tail + chunk)[-TAIL_BYTES:]
            return
        self._before = (self._before + chunk)[-_NOISE:]
        found = re.search(rf"{self._mark} ([0-9]+)\n", self._before)
        if found and int(found[1]) > 1:
            self.number, self.tail = int(found[1]), self._before[found.end() :]
            self._before = self._before[: found.start()]
