"""``target add | list``: where certificates are installed on this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from internal_puller.commands.granted import find_granted
from internal_puller.commands.shared_options import taking
from internal_puller.commands.tables import print_table
from internal_puller.commands.target_roots import check_root, with_kept_root
from internal_puller.install.hints import current_of, hint_lines
from internal_puller.install.layout import active_generation
from internal_puller.install.presets import check_target, resolve
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.presets.catalogue import NAMES, beside
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.protocols import usual_port
from internal_puller.settings.targets import (
    FORMATS,
    KEY_ALGORITHMS,
    Target,
    load_targets,
    save_targets,
)
from internal_puller.settings.targets_file import check_distinct
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ConfigurationError
from shared.contract.identifiers import DnsName
from shared.contract.wire import Grant
from shared.host.terminal import emit, emit_json, explain

target = typer.Typer(
    help="Where certificates are installed.", no_args_is_help=True, rich_markup_mode=None
)


@dataclass(frozen=True)
class TargetOptions:
    """The options that ``target add`` and ``target change`` take alike, declared once."""

    name: Annotated[
        list[str] | None, typer.Option(help="A name that this server needs; may be repeated.")
    ]
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join(NAMES)}; or a name in presets.d; repeated where several "
            "servers read the files."
        ),
    ]
    directory: Annotated[Path | None, typer.Option(help="Where the files go.")]
    format: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(FORMATS)}; repeated.")]
    layout: Annotated[
        str | None,
        typer.Option(help="link, or copy: one combined.pem, for a server that follows no links."),
    ]
    combined_order: Annotated[
        str | None, typer.Option(help="Of combined.pem: leaf-first or key-first; the preset's.")
    ]
    owner: Annotated[str | None, typer.Option(help="User that owns the files.")]
    group: Annotated[str | None, typer.Option(help="Group of the files.")]
    mode: Annotated[str | None, typer.Option(help="Of files without the key, such as 0644.")]
    key_mode: Annotated[str | None, typer.Option(help="Of files with the key: 0600.")]
    test_command: Annotated[
        str | None, typer.Option(help="Tests the server's configuration; empty: none.")
    ]
    reload_command: Annotated[
        str | None,
        typer.Option(
            help="Reloads the server; empty: none. Quoted as in a shell, but run without one."
        ),
    ]
    server: Annotated[
        str | None,
        typer.Option(
            help="Name of the server of --test-command and --reload-command; targets with one "
            "name are installed together."
        ),
    ]
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="Where to see it served: [[PROXY+]SCHEME://]ADDRESS[:PORT][/NAME], the scheme "
            "being tls (the default), smtp, imap, postgresql …; repeated; 'none'."
        ),
    ]
    probe_timeout: Annotated[float | None, typer.Option(help="Seconds until it is to be served.")]
    root: Annotated[Path | None, typer.Option(help="PEM file with the root of a CA of your own.")]
    keep: Annotated[int | None, typer.Option(help="Generations kept on disk.")]
    pkcs12_password_file: Annotated[Path | None, typer.Option(help="Makes bundle.p12 too.")]
    pkcs12_algorithms: Annotated[
        str | None, typer.Option(help="modern, or legacy: 3DES and SHA-1, for old Java, Windows.")
    ]
    key_origin: Annotated[
        str | None, typer.Option(help="any, or puller: only keys made on this machine.")
    ]
    key_algorithm: Annotated[
        str | None, typer.Option(help=f"Of keys made here: {', '.join(KEY_ALGORITHMS)}.")
    ]
    unit: Annotated[
        str | None, typer.Option(help="The server's unit, where it is not the preset's usual one.")
    ]
    ssh: Annotated[
        str | None, typer.Option(help="Install on another machine: USER@HOST or USER@HOST:PORT.")
    ]
    ssh_key: Annotated[Path | None, typer.Option(help="Private key file for --ssh.")]
    ssh_known_hosts: Annotated[
        Path | None, typer.Option(help="File with the host key of that machine.")
    ]
    ssh_config: Annotated[
        Path | None, typer.Option(help="ssh configuration to reach it by; else what ssh reads.")
    ]
    remote_directory: Annotated[
        Path | None, typer.Option(help="Where the files go there; else the same path as here.")
    ]

    def names(self) -> tuple[str, ...]:
        return parsed(self.name)

    def members(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return what was given, as members of a target that needs these names."""
        members = {
            "directory": self.directory and self.directory.absolute(),
            "preset": self.preset and tuple(self.preset),
            "server": self.server,
            "formats": self.format and tuple(self.format),
            "layout": self.layout,
            "combined_order": self.combined_order,
            "owner": self.owner,
            "group": self.group,
            "mode": _mode(self.mode),
            "key_mode": _mode(self.key_mode),
            "test_command": _command("--test-command", self.test_command),
            "reload_command": _command("--reload-command", self.reload_command),
            "probe": _points(self.probe, names[0]),
            "probe_timeout": self.probe_timeout,
            "roots": self.root and self.root.absolute(),
            "keep": self.keep,
            "key_origin": self.key_origin,
            "key_algorithm": self.key_algorithm,
            "pkcs12_password_file": self.pkcs12_password_file
            and self.pkcs12_password_file.absolute(),
            "pkcs12_algorithms": self.pkcs12_algorithms,
            "unit": self.unit,
            "ssh": self.ssh,
            "ssh_key": self.ssh_key and self.ssh_key.absolute(),
            "ssh_known_hosts": self.ssh_known_hosts and self.ssh_known_hosts.absolute(),
            "ssh_config": self.ssh_config and self.ssh_config.absolute(),
            "remote_directory": self.remote_directory,
        }
        return {member: value for member, value in members.items() if value is not None}


@taking(
    TargetOptions,
    preset=[Target.preset],
    probe_timeout=Target.probe_timeout,
    keep=Target.keep,
    key_origin=Target.key_origin,
)
def add(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="A granted certificate, or a name in one.")],
    *,
    options: TargetOptions,
) -> None:
    """Say where and how a certificate is installed. It replaces nothing: see target change.

    If there is a target in that directory already, nothing is written, and it ends with 3.
    """
    settings = load_settings(context.obj)
    grant, names = find_granted(settings, certificate, options.names())
    new = Target(
        **{
            "certificate": grant.certificate,
            "names": names,
            "directory": _usual_directory(settings, grant.certificate),
            "catalogue": beside(settings.targets_file),
            **options.members(names),
        }
    )
    show_added(add_target(settings, new))
    if new.certificate in StateDirectory.open(settings.state_directory).own_keys():
        emit(f"{takes_own_keys_only(new.certificate)}")


def _usual_directory(settings: Settings, certificate: str) -> Path:
    return (settings.targets_file.parent / "tls" / certificate).absolute()


def check_preset(settings: Settings, preset: Sequence[str], root: Path | None) -> None:
    """Find out before anything is done whether presets can be used on this machine.

    Raises:
        ConfigurationError: there is no such preset, or its program is missing.
    """
    name = "www.example.com"
    sample = preset_target(settings, Grant(name, (name,)), preset, root)
    check_root(settings, sample)
    resolve(sample)


def preset_target(
    settings: Settings, grant: Grant, preset: Sequence[str], root: Path | None
) -> Target:
    """Return the target for a grant with nothing but its presets."""
    return Target(
        grant.certificate,
        grant.names,
        _usual_directory(settings, grant.certificate),
        preset=tuple(preset),
        roots=root and root.absolute(),
        catalogue=beside(settings.targets_file),
    )


def add_target(settings: Settings, new: Target) -> Target:
    """Write it down beside those that are there.

    Raises:
        ConfigurationError: it cannot be used here, or there is one in its directory; then nothing
            was written.
    """
    targets = load_targets(settings.targets_file)
    there = next((one for one in targets if one.directory == new.directory), None)
    if there is not None:
        mine = [one for one in targets if one.certificate == there.certificate]
        word = shlex.quote(str(there.directory)) if len(mine) > 1 else there.certificate
        raise ConfigurationError(
            f"There is a target for {there.certificate} in {there.directory} already.",
            do=f"To change it: internal-puller target change {word} with the same options; to "
            f"replace it, first: internal-puller target remove {word}.",
        )
    check_distinct((*targets, new))
    check_root(settings, new)
    check_target(new)
    new = with_kept_root(settings, new, targets)
    save_targets(settings.targets_file, [*targets, new])
    return new


def show_added(new: Target) -> None:
    """Say where it goes, and what the server has to name."""
    where = f" at {new.ssh}" if new.ssh else ""
    emit(f"{new.certificate} will be installed in {current_of(new).parent}{where}.")
    emit(*hint_lines(new))
    emit("Next: internal-puller pull" if new.ssh is None else "Next: internal-puller doctor")


def takes_own_keys_only(certificate: str) -> str:
    """Say what was learned of a certificate, and what takes it back."""
    return (
        f"Only keys made on this machine are taken for {certificate}, as there was one before; to "
        f"take the agent's keys again: internal-puller target change {certificate} "
        "--key-origin any"
    )


def show_changed(old: Target, new: Target) -> bool:
    """Say what is another thing now; ``False`` if nothing is."""
    what = [
        f"{one.name} {_told(one.name, getattr(new, one.name))}"
        for one in fields(Target)
        if getattr(new, one.name) != getattr(old, one.name)
    ]
    emit(f"{new.certificate} in {old.directory}: {'; '.join(what) or 'no change'}")
    before, after = (current_of(one) for one in (old, new))
    if before != after:
        emit(f"The files in {before.parent} stay.")
    if before != after or old.preset != new.preset:
        emit(*hint_lines(new))
    return bool(what)


def _told(member: str, value: Any) -> str:
    if value is None or (member == "formats" and not value):
        return "as by default"
    if member == "probe":
        points = (f"{one.protocol}://{one.address}:{one.port}/{one.sni}" for one in value)
        return ", ".join(points) or "none"
    if member in ("test_command", "reload_command"):
        return shlex.join(value) or "none"
    if member in ("mode", "key_mode"):
        return f"{value:04o}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def parsed(names: list[str] | None) -> tuple[str, ...]:
    """Return names as they were given, checked."""
    return tuple(str(DnsName.parse(one)) for one in names or ())


def list_targets(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show the targets; exit 3 if one cannot be used."""
    rows = []
    errors = []
    for one in load_targets(load_settings(context.obj).targets_file):
        try:
            active = active_generation(one)
            installed = "-" if active is None else str(active)
        except ConfigurationError as error:
            installed = "UNUSABLE"
            errors.append(error)
        rows.append((one.certificate, str(one.directory), one.preset_text, installed))
    titles = ("certificate", "directory", "preset", "installed")
    if as_json:
        emit_json([dict(zip(titles, row, strict=True)) for row in rows])
    else:
        print_table(titles, rows)
    for each in errors:
        explain(each)
    raise typer.Exit(ConfigurationError.exit_code if errors else 0)


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ConfigurationError(f"{text!r:.40} is no file mode such as 0640.")
    return int(text, 8)


def _command(option: str, text: str | None) -> tuple[str, ...] | None:
    """Quoted as for a shell, kept as a list: no shell ever sees it."""
    if text is None:
        return None
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigurationError(f"{option} {text!r:.200}: {error}.") from error


_POINT = re.compile(
    r"(?:(?P<protocol>[A-Za-z0-9.+-]+)://)?"
    r"(?P<address>\[[0-9a-fA-F:.]+\]|[^:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?(?:/(?P<sni>.+))?"
)


def _points(texts: list[str] | None, name: str) -> tuple[ProbePoint, ...] | None:
    if texts is None:
        return None
    if "none" in texts:
        if len(texts) > 1:
            raise ConfigurationError("--probe none looks nowhere: give it alone, or leave it out.")
        return ()
    return tuple(_point(text, name) for text in texts)


def _point(text: str, name: str) -> ProbePoint:
    match = _POINT.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"--probe {text!r:.200} is not [[PROXY+]SCHEME://]ADDRESS[:PORT][/NAME]."
        )
    sni = match["sni"] or DnsName(name).probe_name
    protocol = match["protocol"] or "tls"
    try:
        port = int(match["port"] or usual_port(protocol))
        return ProbePoint(match["address"].strip("[]"), port, sni, protocol)
    except ConfigurationError as error:
        raise ConfigurationError(f"--probe {text!r:.200}: {error.what}", do=error.do) from error
