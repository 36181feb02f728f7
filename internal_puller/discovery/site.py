"""What is found in a server's configuration, whichever server it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.contract.errors import ConfigurationError

ANYWHERE: Final = (("", 443),)


@dataclass(frozen=True, slots=True)
class Setting:
    """One directive: where it stands, and its value.

    Attributes:
        line: from 1.
    """

    file: Path
    line: int
    directive: str
    value: str


@dataclass(frozen=True, slots=True)
class Site:
    """One place of a configuration that serves TLS.

    Attributes:
        preset: of the target that would fit.
        names: as they stand there, without those that are patterns.
        certificate, key: what is read now; for HAProxy ``key`` is ``None``: one file holds both.
        listens: address, as it stands there, and port; an address that is none is any.
    """

    preset: str
    names: tuple[str, ...]
    certificate: Setting
    key: Setting | None
    listens: tuple[tuple[str, int], ...] = ANYWHERE
    notes: tuple[str, ...] = field(default=())

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(sorted({port for _, port in self.listens}))

    @property
    def points(self) -> tuple[tuple[str, int], ...]:
        """Where this machine can look at it: an address, or loopback for any."""
        found: dict[tuple[str, int], None] = {}
        for address, port in self.listens:
            bare = address.rpartition("@")[2]  # HAProxy: ipv4@10.0.0.5
            everywhere = bare in ("", "*", "_default_", "0.0.0.0")  # noqa: S104 - compared
            found["127.0.0.1" if everywhere else bare, port] = None
        six = [(address, port) for address, port in found if address in ("[::]", "::")]
        for address, port in six:  # nginx: without IPv4, unless that is there, too
            del found[address, port]
            if ("127.0.0.1", port) not in found:
                found["[::1]", port] = None
        return tuple(found)


_PORT = re.compile(r":(\d{1,5})\Z")


def split_port(word: str) -> tuple[str, int] | None:
    """Return address and port of ``[ADDRESS]:PORT``; None if there is no port."""
    match = _PORT.search(word)
    return (word[: match.start()], int(match[1])) if match else None


def output_of(argv: Sequence[str], seconds: float = 30.0) -> str:
    """Return what a command that only reads prints.

    Raises:
        ConfigurationError: it is not there, or the configuration is not good.
    """
    import subprocess

    from shared.host.commands import environment, find_program

    program = find_program(tuple(argv))
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            env=environment({}),
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{' '.join(argv)} could not be run: {error}.") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfigurationError(
            f"{' '.join(argv)} ended with exit code {done.returncode}: {' | '.join(said[-3:])}",
            do="Mend the configuration first.",
        )
    return done.stdout.decode("utf-8", "replace")


def read_text(file: Path) -> str:
    """Return a configuration file's text.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from error
