"""What a target does where it does not say otherwise, for the servers we know."""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from internal_puller.install import as_root, layout
from internal_puller.install.durable import Directory, Ownership
from internal_puller.install.formats import read_password
from internal_puller.install.generations import Accounts
from internal_puller.install.groups import servers_of
from internal_puller.settings.targets import ProbePoint
from shared.contract.errors import ConfigurationError
from shared.host import commands, systemctl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from internal_puller.install.remote import Remote
    from internal_puller.install.server import Server
    from internal_puller.settings.targets import Target
    from shared.host.commands import CommandResult

Argv = tuple[str, ...]
WILDCARD_STAND_IN: Final = "any"
PEM_FILES: Final = ("fullchain", "chain", "cert", "privkey")


@dataclass(frozen=True)
class Preset:
    """Defaults for one server; ``reload`` is asked whether systemd runs.

    ``probe`` is protocol and port at this host; None is nowhere.
    """

    formats: tuple[str, ...]
    test: Argv
    reload: Callable[[bool], Argv]
    probe: tuple[str, int] | None = ("tls", 443)


def _reload_nginx(systemd: bool) -> Argv:
    return ("systemctl", "reload", "nginx") if systemd else ("nginx", "-s", "reload")


def _reload_apache(systemd: bool) -> Argv:
    if not systemd:
        return ("apachectl", "graceful")
    debian = Path("/etc/apache2").is_dir()
    return ("systemctl", "reload", "apache2" if debian else "httpd")


def _reload_haproxy(systemd: bool) -> Argv:
    return (
        "systemctl" if systemd else "service",
        *(("reload", "haproxy") if systemd else ("haproxy", "reload")),
    )


def _reload_caddy(systemd: bool) -> Argv:
    """``--force``: to Caddy a configuration that has not changed is no reason to read files."""
    del systemd
    return ("caddy", "reload", "--config", "/etc/caddy/Caddyfile", "--force")


def _reload_tomcat(systemd: bool) -> Argv:
    """A restart: Tomcat reads a key store when it starts."""
    names = ("tomcat11", "tomcat10", "tomcat9", "tomcat")
    units = (Path("/lib/systemd/system"), Path("/etc/systemd/system"))
    name = next((n for n in names if any((u / f"{n}.service").exists() for u in units)), "tomcat")
    return ("systemctl", "restart", name) if systemd else ("service", name, "restart")


def _reload_by(name: str, without: Argv) -> Callable[[bool], Argv]:
    return lambda systemd: ("systemctl", "reload", name) if systemd else without


def _reload_nothing(systemd: bool) -> Argv:
    del systemd
    return ()


PRESETS: Final = {
    "nginx": Preset(PEM_FILES, ("nginx", "-t"), _reload_nginx),
    "apache": Preset(PEM_FILES, ("apachectl", "configtest"), _reload_apache),
    "haproxy": Preset(
        (*PEM_FILES, "combined"),
        ("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"),
        _reload_haproxy,
    ),
    "caddy": Preset(
        PEM_FILES, ("caddy", "validate", "--config", "/etc/caddy/Caddyfile"), _reload_caddy
    ),
    "postfix": Preset(
        (*PEM_FILES, "combined"),
        ("postconf", "-n"),  # `postfix check` changes its group, which a service may not
        _reload_by("postfix", ("postfix", "reload")),
        ("smtp", 25),
    ),
    "dovecot": Preset(
        PEM_FILES,
        ("doveconf", "-n"),
        _reload_by("dovecot", ("doveadm", "reload")),
        ("tls", 993),
    ),
    "postgresql": Preset(
        PEM_FILES,
        (),
        _reload_by("postgresql", ("service", "postgresql", "reload")),
        ("postgresql", 5432),
    ),
    "tomcat": Preset((*PEM_FILES, "pkcs12"), (), _reload_tomcat, ("tls", 8443)),
    "systemd": Preset(PEM_FILES, (), _reload_nothing, None),
    "none": Preset(PEM_FILES, (), _reload_nothing, None),
}


@dataclass(frozen=True)
class Plan:
    """A target with nothing left open."""

    target: Target
    formats: tuple[str, ...]
    accounts: Accounts
    test_command: Argv
    reload_command: Argv
    probe: tuple[ProbePoint, ...]
    password: bytes | None
    remote: Remote | None = None
    servers: tuple[Server, ...] = ()

    def run(self, argv: Argv, extra: Mapping[str, str]) -> CommandResult:
        """Run a command where the server is; ``extra`` is for its environment, on this machine.

        Raises:
            ConfigurationError: the program does not exist.
            StageFailed: the other machine cannot be reached.
        """
        if self.remote is not None:
            return self.remote.run(argv, self.target.command_timeout)
        return commands.run(argv, self.target.command_timeout, extra)

    def command(self, step: str) -> Argv:
        """Return the command of a step, ``test`` or ``reload``; empty if there is none."""
        return {"test": self.test_command, "reload": self.reload_command}[step]

    def run_step(self, step: str, generation: int) -> CommandResult:
        """Run the command of a step with what it may want to know; raises as ``run``.

        The service, which is not root, has it run.
        """
        if self.remote is None and as_root.is_asked():
            own = self.target
            return as_root.ask(own.directory, step, generation, own.command_timeout)
        current = self.target.directory / layout.CURRENT
        known = {
            "RELAY_CERTIFICATE": self.target.certificate,
            "RELAY_GENERATION": str(generation),
            "RELAY_DIRECTORY": str(current),
            "RELAY_KEY_FILE": str(current / "privkey.pem"),
        }
        return self.run(self.command(step), known)


def resolve(target: Target) -> Plan:
    """Fill in the preset, look the accounts up and find the commands.

    Raises:
        ConfigurationError: an account, a command or the password file is missing.
    """
    preset = PRESETS[target.preset]
    test, reload = target.test_command, target.reload_command
    if test is None:
        test = preset.test
    if reload is None and target.unit is not None:
        reload = ("systemctl", "reload-or-restart", target.unit)
    elif reload is None:
        reload = preset.reload(target.ssh is not None or systemctl.is_there())
    for argv in (test, reload):
        if argv and target.ssh is None:
            _require_program(target, argv)
    uid = -1 if target.owner is None else _user_id(target.owner)
    gid = -1 if target.group is None else _group_id(target.group)
    plan = Plan(
        target=target,
        formats=_formats(target, preset),
        accounts=Accounts(
            Ownership(uid, gid, target.mode), Ownership(uid, gid, target.private_mode)
        ),
        test_command=test,
        reload_command=reload,
        probe=probe_points(target),
        password=read_password(target.pkcs12_password_file),
        remote=_remote(target),
    )
    return replace(plan, servers=servers_of(plan))


def _remote(target: Target) -> Remote | None:
    if target.ssh is None:
        return None
    from internal_puller.install.remote import Remote  # it needs a library of its own

    user, host, port = target.ssh_parts
    place = PurePosixPath(str(target.remote_directory or target.directory))
    return Remote(user, host, port, place, target.ssh_key, target.ssh_known_hosts)


def _require_program(target: Target, argv: Argv) -> None:
    try:
        commands.find_program(argv)
    except ConfigurationError as error:
        given = argv in (target.test_command, target.reload_command)
        raise ConfigurationError(
            error.what if given else f"{error.what} The preset {target.preset} needs it.",
            do=error.do
            if given
            else f"Install {target.preset}, choose another preset, or say how: --test-command, "
            "--reload-command.",
        ) from error


def _formats(target: Target, preset: Preset) -> tuple[str, ...]:
    if target.formats:
        return target.formats
    return (*preset.formats, "pkcs12") if target.pkcs12_password_file else preset.formats


def probe_points(target: Target) -> tuple[ProbePoint, ...]:
    """Return where the target is probed: as it says, or every name where the server listens."""
    if target.probe is not None:
        return target.probe
    usual = PRESETS[target.preset].probe
    if usual is None:
        return ()
    protocol, port = usual
    address = "127.0.0.1" if target.ssh is None else target.ssh_parts[1]
    return tuple(ProbePoint(address, port, stand_in(name), protocol) for name in target.names)


def stand_in(name: str) -> str:
    """Return a name to ask for: of a wildcard, one that it covers."""
    return f"{WILDCARD_STAND_IN}.{name[2:]}" if name.startswith("*.") else name


def check_target(target: Target) -> None:
    """Raise ``ConfigurationError`` if an install could not even begin; makes the directory."""
    resolve(target)
    with Directory.open(target.directory, create=True):
        pass


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
