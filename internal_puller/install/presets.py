"""A target with nothing left open: what it leaves to its presets, its accounts and programs."""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from internal_puller.install.durable import Ownership
from internal_puller.install.formats import Rendering, read_password
from internal_puller.install.generations import Accounts
from internal_puller.install.places import prepare
from internal_puller.install.target_servers import servers_of
from internal_puller.settings.presets.catalogue import NAMES, known
from internal_puller.settings.probe_point import ProbePoint
from shared.contract.errors import ConfigurationError
from shared.host import commands
from shared.host.commands import CommandResult

if TYPE_CHECKING:
    from internal_puller.install.remote import Remote
    from internal_puller.install.server import Argv, Server
    from internal_puller.settings.targets import Target

WILDCARD_STAND_IN: Final = "any"


@dataclass(frozen=True)
class Plan:
    """A target with nothing left open."""

    target: Target
    servers: tuple[Server, ...]
    formats: tuple[str, ...]
    accounts: Accounts
    probe: tuple[ProbePoint, ...]
    password: bytes | None
    combined: tuple[str, ...]
    remote: Remote | None = None

    @property
    def test_command(self) -> Argv:
        """The first that a server of it has; empty if none has one."""
        return self.command("test")

    @property
    def rendering(self) -> Rendering:
        """How the files are written."""
        return Rendering(
            self.formats,
            self.password,
            self.target.pkcs12_algorithms,
            self.combined,
            given_away=self.target.owner is not None,
        )

    @property
    def reload_command(self) -> Argv:
        """The first that a server of it has; empty if none has one."""
        return self.command("reload")

    def command(self, step: str) -> Argv:
        """Return the command of a step, ``test`` or ``reload``; empty if there is none."""
        return next(iter(self._commands(step)), ())

    def _commands(self, step: str) -> list[Argv]:
        """Of every server that has one for this step."""
        found = (one.test if step == "test" else one.reload for one in self.servers)
        return [argv for argv in found if argv]

    def run_step(self, step: str, generation: int) -> CommandResult:
        """Run the commands of a step with what they may want to know.

        One after the other, as far as the first that fails.

        Raises:
            StageFailed: the other machine cannot be reached.
        """
        from internal_puller.install.control import control_of

        result = CommandResult(ok=True, how="has no command", tail="")
        for server in self.servers:
            control = control_of(server, [(self, generation)])
            result = (control.test() if step == "test" else control.reload()) or result
            if not result.ok:
                break
        return result


def resolve(target: Target) -> Plan:
    """Fill in the preset, look the accounts up and find the commands.

    Raises:
        ConfigurationError: an account, a command or the password file is missing.
    """
    unable = [one.name for one in target.presets if not one.reads_one_file]
    if target.layout == "copy" and unable:
        raise _cannot_copy(target, unable[0])
    servers = servers_of(target)
    for server in servers:
        for argv in (server.test, server.reload):
            if argv and target.ssh is None:
                _require_program(target, argv)
    uid = -1 if target.owner is None else _user_id(target.owner)
    gid = -1 if target.group is None else _group_id(target.group)
    return Plan(
        target=target,
        servers=servers,
        formats=target.all_formats,
        accounts=Accounts(
            Ownership(uid, gid, target.mode), Ownership(uid, gid, target.private_mode)
        ),
        probe=probe_points(target),
        password=read_password(target.pkcs12_password_file),
        combined=target.combined,
        remote=_remote(target),
    )


def _cannot_copy(target: Target, preset: str) -> ConfigurationError:
    able = ", ".join(n for n in NAMES if known(n).programs and known(n).reads_one_file)
    return ConfigurationError(
        f"Target {target.certificate}: the preset {preset} opens certificate and key one "
        "after the other, so layout copy could give it a mixed pair.",
        do=f"Use --layout link, or a preset that opens the one file combined.pem: {able}.",
    )


def _remote(target: Target) -> Remote | None:
    if target.ssh is None:
        return None
    from internal_puller.install.remote import Remote  # it needs a library of its own

    user, host, _ = target.ssh_parts
    place = PurePosixPath(str(target.remote_directory or target.directory))
    files = (target.ssh_key, target.ssh_known_hosts, target.ssh_config)
    return Remote(user, host, target.ssh_port, place, *files)


def _require_program(target: Target, argv: Argv) -> None:
    try:
        commands.find_program(argv)
    except ConfigurationError as error:
        given = argv in (target.test_command, target.reload_command)
        raise ConfigurationError(
            error.what if given else f"{error.what} The preset {target.preset_text} needs it.",
            do=error.do
            if given
            else f"Install {target.preset_text}, choose another preset, or say how: "
            "--test-command, --reload-command.",
        ) from error


def probe_points(target: Target) -> tuple[ProbePoint, ...]:
    """Return where the target is probed: as it says, or every name where the server listens."""
    if target.probe is not None:
        return target.probe
    usual = dict.fromkeys(point for preset in target.presets for point in preset.probe)
    address = "127.0.0.1" if target.ssh is None else target.ssh_parts[1]
    return tuple(
        ProbePoint(address, port, stand_in(name), protocol)
        for protocol, port in usual
        for name in target.names
    )


def stand_in(name: str) -> str:
    """Return a name to ask for: of a wildcard, one that it covers."""
    return f"{WILDCARD_STAND_IN}.{name[2:]}" if name.startswith("*.") else name


def check_target(target: Target) -> None:
    """Raise ``ConfigurationError`` if an install could not even begin; makes the directories."""
    resolve(target)
    prepare(target)


def _user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigurationError(f"There is no user {name!r} on this machine.") from None


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigurationError(f"There is no group {name!r} on this machine.") from None
