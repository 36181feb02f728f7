"""How a machine is reached: what a target says of it, and what the ssh configuration says.

What can be used of the configuration is used; what would lead somewhere else without it is refused
in words.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from internal_puller.install.remote_openssh import Machine, account, home, require_trusted, told
from shared.contract.errors import ConfigurationError, StageFailed
from shared.host.trusted_file import PUBLIC, SECRET, check_trusted

CONNECT_SECONDS: Final = 20.0
LONGEST_CONNECT: Final = 60.0
_MOST_MACHINES: Final = 8
_JUMP: Final = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@/]+)@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:@/\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?"
)
_TOKEN: Final = re.compile(r"%(.)")
_NAMED: Final = {
    "ssh_key": "Name a file that can: internal-puller target change NAME --ssh-key FILE",
    "ssh_known_hosts": "Name a file that can: internal-puller target change NAME "
    "--ssh-known-hosts FILE",
}


@dataclass(frozen=True)
class Reach:
    """All that a connection to one machine is made with.

    Attributes:
        keys: private key files; some may have a passphrase unless ``is_own_key``.
        agent: socket of a key agent; ``None`` asks none.
        jumps: machines on the way, as ``ProxyJump`` names them, the first one first.
        command: ``ProxyCommand``, for a shell; empty for none.
        connect_seconds, alive_seconds: ``alive_seconds`` 0 asks never.
        has_control_path: ssh would go over a connection that is open already; we do not.
    """

    machine: Machine
    host: str
    port: int
    user: str
    keys: tuple[Path, ...]
    certificates: tuple[Path, ...]
    is_own_key: bool
    agent: str | None
    known_hosts: tuple[Path, ...]
    alias: str | None
    family: int
    source: str | None
    jumps: tuple[str, ...]
    command: str
    connect_seconds: float
    alive_seconds: float
    alive_most: int
    has_control_path: bool

    def __str__(self) -> str:
        return str(self.machine)


def way_to(machine: Machine) -> tuple[Reach, ...]:
    """Return how each machine on the way is reached, the last one being ``machine``.

    What the target names, a key and host keys, holds for each; a key that the ssh configuration
    names for one on the way is tried there, too.

    Raises:
        StageFailed: a file is missing or others could change it, a setting cannot be honoured, or
            the way does not end.
    """
    check_files(machine)
    way: list[Reach] = []
    following = machine
    given: tuple[str, ...] | None = None
    while True:
        reach = _reach(following, is_last=not way)
        jumps = reach.jumps if given is None else given
        way.insert(0, reach)
        if not jumps:
            return tuple(way)
        if len(way) == _MOST_MACHINES:
            raise StageFailed(
                f"The way to {machine} leads through more than {_MOST_MACHINES - 1} machines.",
                do="See that no ProxyJump of the ssh configuration leads back to where it began.",
            )
        following = _hop(machine, jumps[-1])
        given = jumps[:-1] or None  # the first one's own configuration says what is before it


def _hop(machine: Machine, text: str) -> Machine:
    match = _JUMP.fullmatch(text)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 65536):
        raise StageFailed(
            f"ProxyJump {text!r:.200}, on the way to {machine}, names no machine.",
            do="Write it as [USER@]HOST[:PORT].",
        )
    port = int(match["port"]) if match["port"] else None
    host = match["host"].strip("[]")
    return Machine(match["user"], host, port, machine.key, machine.known_hosts, machine.config)


def _reach(machine: Machine, *, is_last: bool) -> Reach:
    found = _Settings(machine, told(machine))
    found.refuse_what_is_not_supported()
    named = () if machine.key is None else (machine.key,)
    others = () if named and is_last else found.keys()
    for path in others:
        _check(path, "IdentityFile", SECRET)
    known_hosts = found.known_hosts()
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    return Reach(
        machine=machine,
        host=found.one("hostname") or machine.host,
        port=machine.port or int(found.one("port") or 22),
        user=machine.user or found.one("user") or account().pw_name,
        keys=(*named, *others),
        certificates=() if named and is_last else found.files("certificatefile"),
        is_own_key=bool(named) and not others,
        agent=None if named else found.agent(),
        known_hosts=known_hosts,
        alias=found.one("hostkeyalias"),
        family=family.get(found.one("addressfamily") or "", socket.AF_UNSPEC),
        source=found.one("bindaddress"),
        jumps=tuple(one for one in (found.one("proxyjump") or "").split(",") if one),
        command=found.expanded(found.one("proxycommand") or ""),
        connect_seconds=min(found.seconds("connecttimeout") or CONNECT_SECONDS, LONGEST_CONNECT),
        alive_seconds=found.seconds("serveraliveinterval"),
        alive_most=int(found.seconds("serveralivecountmax") or 3),
        has_control_path=found.one("controlpath") is not None,
    )


def check_files(machine: Machine) -> None:
    """Refuse files that the target names, and an ssh configuration, that are not ours alone.

    Raises:
        StageFailed: one is missing, or others could change it, or read the key.
    """
    require_trusted(machine)
    if machine.key is not None:
        _check(machine.key, "ssh_key", SECRET)
    if machine.known_hosts is not None:
        _check(machine.known_hosts, "ssh_known_hosts", PUBLIC)


def _check(path: Path, setting: str, mask: int) -> None:
    """Refuse what ssh would refuse, too: a key that others read, hosts that others write."""
    try:
        check_trusted(path, f"{setting} file", mask=mask)
    except ConfigurationError as error:
        raise StageFailed(error.what, do=error.do or _NAMED.get(setting, "")) from error


class _Settings:
    """What ``ssh -G`` printed of one machine."""

    def __init__(self, machine: Machine, told: dict[str, list[str]]) -> None:
        self._machine, self._told = machine, told

    def one(self, name: str) -> str | None:
        """Return a value; ``None`` where there is none."""
        value = self._told.get(name, ["none"])[0]
        return None if value.lower() in ("none", "") else value

    def seconds(self, name: str) -> float:
        value = self.one(name)
        return float(value) if value is not None and value.isdigit() else 0.0

    def files(self, name: str) -> tuple[Path, ...]:
        """Return those that are there, each value being one file."""
        places = (self._place(value) for value in self._told.get(name, ()) if value != "none")
        return tuple(place for place in places if os.access(place, os.F_OK))

    def keys(self) -> tuple[Path, ...]:
        return self.files("identityfile")

    def known_hosts(self) -> tuple[Path, ...]:
        own = self._machine.known_hosts
        if own is not None:
            return (own,)
        names = ("userknownhostsfile", "globalknownhostsfile")
        listed = [value for name in names for value in (self.one(name) or "").split()]
        places = [self._place(value) for value in listed]
        found = tuple(place for place in places if os.access(place, os.F_OK))
        if not found:
            first = places[0] if places else home() / ".ssh" / "known_hosts"
            raise StageFailed(
                f"There is no ssh_known_hosts file {first}, so the host key of {self._machine} "
                "cannot be compared.",
                do="Write one with ssh-keyscan, compare the fingerprint on the machine itself, "
                "and name it: internal-puller target change NAME --ssh-known-hosts FILE",
            )
        for place in found:
            _check(place, "ssh_known_hosts", PUBLIC)
        return found

    def agent(self) -> str | None:
        """Return the socket of the agent that ssh would ask."""
        if self._told.get("identitiesonly") == ["yes"]:
            return None
        value = self._told.get("identityagent", ["SSH_AUTH_SOCK"])[0]
        if value == "none":
            return None
        if value == "SSH_AUTH_SOCK":
            return os.environ.get("SSH_AUTH_SOCK") or None
        if value.startswith("$"):
            return os.environ.get(value.strip("${}")) or None
        return str(self._place(value))

    def _place(self, text: str) -> Path:
        text = self.expanded(text)
        return home() / text.removeprefix("~/") if text.startswith("~/") else Path(text)

    def expanded(self, text: str) -> str:
        """Return a value with its ``%`` tokens filled in (ssh_config(5), TOKENS)."""
        machine = self._machine
        user = machine.user or self.one("user") or account().pw_name
        tokens = {
            "%": "%",
            "d": str(home()),
            "h": self.one("hostname") or machine.host,
            "i": str(os.geteuid()),
            "k": self.one("hostkeyalias") or machine.host,
            "L": socket.gethostname().partition(".")[0],
            "l": socket.gethostname(),
            "n": machine.host,
            "p": str(machine.port or self.one("port") or 22),
            "r": user,
            "u": account().pw_name,
        }

        def fill(match: re.Match[str]) -> str:
            if match[1] not in tokens:
                raise StageFailed(
                    f"{match[0]} in {text!r:.200} of the ssh configuration for {machine} is not "
                    "supported here.",
                    do=f"Write {match[0]} out there.",
                )
            return tokens[match[1]]

        return _TOKEN.sub(fill, text)

    def refuse_what_is_not_supported(self) -> None:
        """Refuse what another machine, or another key, would be reached without."""
        own = self._machine
        table = (
            ("ProxyUseFdpass", True, "Use a ProxyCommand that passes data, such as: nc %h %p"),
            ("BindInterface", True, "Use BindAddress with an address of that interface."),
            (
                "KnownHostsCommand",
                own.known_hosts is None,
                "Write the host key into a file: internal-puller target change NAME "
                "--ssh-known-hosts FILE",
            ),
            (
                "PKCS11Provider",
                own.key is None,
                "Use a key file: internal-puller target change NAME --ssh-key FILE",
            ),
        )
        for name, counts, do in table:
            value = self.one(name.lower())
            if counts and value not in (None, "no"):
                raise StageFailed(
                    f"{name} {value} of the ssh configuration for {own} is not supported here.",
                    do=do,
                )
