"""What OpenSSH's own configuration says of a machine, once it is known that it is ours alone.

``ssh -G`` reads it, so that a host alias, ``Match`` or ``Include`` mean here what they mean to ssh.
It names commands, so it is held to what holds for every file that does, before ssh sees it.
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.contract import plain_text
from shared.contract.errors import ConfigurationError, StageFailed
from shared.host.commands import find_program
from shared.host.trusted_file import read_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SYSTEM: Final = Path("/etc/ssh/ssh_config")
_SECONDS: Final = 10.0
_DEEPEST: Final = 16  # as OpenSSH
_INCLUDE: Final = re.compile(r'\s*"?include"?(?:\s*=\s*|\s+)(.*)', re.IGNORECASE)


@dataclass(frozen=True)
class Machine:
    """What a target says of the machine that it is for.

    Attributes:
        port: ``None`` leaves it to the ssh configuration, and else it is 22.
        key: private key file; ``None`` takes those of the ssh configuration, and an agent.
        known_hosts: file with the host keys; ``None`` takes those of the ssh configuration.
        config: ssh configuration; ``None`` is what ssh reads: this user's, and the system's.
    """

    user: str | None
    host: str
    port: int | None = None
    key: Path | None = None
    known_hosts: Path | None = None
    config: Path | None = None

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{user}{host}" + ("" if self.port is None else f":{self.port}")


def told(machine: Machine) -> dict[str, list[str]]:
    """Have ssh read its configuration for a machine; without ssh there is none but the usual."""
    try:
        program = find_program(("ssh",))
    except ConfigurationError as error:
        if machine.config is None:
            return _usual()
        raise StageFailed(
            f"Reading {machine.config} needs the program ssh, which is not installed.",
            do="Install it: apt install openssh-client",
        ) from error
    options: list[str] = []
    for option, value in (("-F", machine.config), ("-p", machine.port), ("-l", machine.user)):
        if value is not None:
            options += [option, str(value)]
    try:
        done = subprocess.run(
            [program, "-G", *options, "--", machine.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StageFailed(
            f"ssh did not say within {_SECONDS:g} s how {machine} is reached.",
            do=f"Try it: ssh -G {shlex.join(options)} {shlex.quote(machine.host)}",
        ) from error
    if done.returncode != 0:
        why = plain_text.one_line(done.stderr.decode("utf-8", "replace").strip())
        raise StageFailed(
            f"ssh cannot read its configuration for {machine}: {why:.300}",
            do=f"Try it: ssh -G {shlex.join(options)} {shlex.quote(machine.host)}",
        )
    found: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name.lower(), []).append(value)
    return found


def has_own_settings(machine: Machine) -> bool:
    """Tell whether this user's own configuration changes how a machine is reached.

    Another account, such as the service's, reaches it otherwise. Raises ``StageFailed``.
    """
    if machine.config is not None or not os.access(home() / ".ssh" / "config", os.R_OK):
        return False
    without = replace(machine, config=SYSTEM if os.access(SYSTEM, os.R_OK) else Path(os.devnull))
    require_trusted(machine)
    return told(machine) != told(without)


def _usual() -> dict[str, list[str]]:
    return {
        "identityfile": [f"~/.ssh/id_{kind}" for kind in ("ed25519", "ecdsa", "rsa")],
        "userknownhostsfile": ["~/.ssh/known_hosts"],
        "globalknownhostsfile": ["/etc/ssh/ssh_known_hosts"],
    }


def require_trusted(machine: Machine) -> None:
    """Refuse a configuration, and what it includes, that another account could have written."""
    own = home() / ".ssh"
    try:
        if machine.config is not None:
            _look_through(machine.config, own, 0)
            return
        for path, base in ((own / "config", own), (SYSTEM, SYSTEM.parent)):
            if os.access(path, os.R_OK):
                _look_through(path, base, 0)
    except ConfigurationError as error:
        raise StageFailed(error.what, do=error.do or "See ssh_config(5).") from error


def _look_through(path: Path, base: Path, depth: int) -> None:
    content = read_trusted(path, "ssh configuration", commands=True)
    if depth == _DEEPEST:
        raise ConfigurationError(f"The ssh configuration {path} is included too deep.")
    for pattern in _included(content.decode("utf-8", "replace"), path):
        place = base / Path(pattern).expanduser()
        for found in glob.glob(str(place)):  # noqa: PTH207 - of an absolute pattern
            if Path(found).is_file():
                _look_through(Path(found), base, depth + 1)


def _included(text: str, path: Path) -> Iterator[str]:
    for match in filter(None, map(_INCLUDE.fullmatch, text.splitlines())):
        try:
            patterns: Sequence[str] = shlex.split(match[1], comments=True)
        except ValueError as error:
            raise ConfigurationError(f"{path}: Include {match[1]!r:.200}: {error}.") from error
        for pattern in patterns:
            if "%" in pattern or "${" in pattern:
                raise ConfigurationError(
                    f"{path}: Include {pattern!r:.200} cannot be looked at.",
                    do="Write the path out.",
                )
            yield pattern


def home() -> Path:
    """Return where ssh looks: the account's home, whatever ``HOME`` says."""
    return Path(account().pw_dir)


def account() -> pwd.struct_passwd:
    return pwd.getpwuid(os.geteuid())
