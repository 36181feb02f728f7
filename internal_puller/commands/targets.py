"""``target add | list | remove``: where certificates are installed on this machine."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from internal_puller.commands.tables import print_table
from internal_puller.config import Settings, load_settings
from internal_puller.direct.settings import load_direct
from internal_puller.install.layout import active_generation
from internal_puller.install.presets import check_target, resolve
from internal_puller.pending import PendingKeys
from internal_puller.puller import NO_CONTACT, connect
from internal_puller.state import StateDirectory
from internal_puller.targets import (
    FORMATS,
    KEY_ALGORITHMS,
    PRESETS,
    PROTOCOLS,
    ProbePoint,
    Target,
    load_targets,
    save_targets,
)
from shared.errors import ConfigurationError, NameRefused, PolicyError
from shared.host.kept_file import keep
from shared.identifiers import DnsName
from shared.wire import Grant

target = typer.Typer(
    help="Where certificates are installed.", no_args_is_help=True, rich_markup_mode=None
)

_HINTS = {
    "nginx": "ssl_certificate {0}/fullchain.pem; ssl_certificate_key {0}/privkey.pem;",
    "apache": "SSLCertificateFile {0}/fullchain.pem and SSLCertificateKeyFile {0}/privkey.pem",
    "haproxy": "bind :443 ssl crt {0}/combined.pem",
    "caddy": "tls {0}/fullchain.pem {0}/privkey.pem",
    "postfix": "smtpd_tls_chain_files = {0}/combined.pem",
    "dovecot": "ssl_cert = <{0}/fullchain.pem and ssl_key = <{0}/privkey.pem",
    "postgresql": "ssl_cert_file = '{0}/fullchain.pem' and ssl_key_file = '{0}/privkey.pem'",
    "tomcat": 'certificateKeystoreFile="{0}/bundle.p12"',
    "systemd": "{0}/fullchain.pem and {0}/privkey.pem",
    "none": "{0}/fullchain.pem and {0}/privkey.pem",
}


@target.command("add")
def add(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="A granted certificate, or a name in one.")],
    *,
    name: Annotated[
        list[str] | None, typer.Option(help="A name that this server needs; may be repeated.")
    ] = None,
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = "none",
    directory: Annotated[Path | None, typer.Option(help="Where the files go.")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help=f"Of {', '.join(FORMATS)}; repeated.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="User that owns the files.")] = None,
    group: Annotated[str | None, typer.Option(help="Group of the files.")] = None,
    mode: Annotated[
        str | None, typer.Option(help="Of files without the key, such as 0644.")
    ] = None,
    key_mode: Annotated[str | None, typer.Option(help="Of files with the key: 0600.")] = None,
    test_command: Annotated[
        str | None, typer.Option(help="Tests the server's configuration; empty: none.")
    ] = None,
    reload_command: Annotated[
        str | None,
        typer.Option(
            help="Reloads the server; empty: none. Quoted as in a shell, but run without one."
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="Where to see it served: [smtp://]ADDRESS[:PORT][/NAME]; repeated; 'none'."
        ),
    ] = None,
    probe_timeout: Annotated[float, typer.Option(help="Seconds until it is to be served.")] = 15.0,
    root: Annotated[
        Path | None, typer.Option(help="PEM file with the root of a CA of your own.")
    ] = None,
    keep: Annotated[int, typer.Option(help="Generations kept on disk.")] = 3,
    pkcs12_password_file: Annotated[Path | None, typer.Option(help="Makes bundle.p12 too.")] = None,
    key_origin: Annotated[
        str, typer.Option(help="any, or puller: only keys made on this machine.")
    ] = "any",
    key_algorithm: Annotated[
        str | None, typer.Option(help=f"Of keys made here: {', '.join(KEY_ALGORITHMS)}.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="With --preset systemd: what is reloaded or restarted.")
    ] = None,
    ssh: Annotated[
        str | None, typer.Option(help="Install on another machine: USER@HOST or USER@HOST:PORT.")
    ] = None,
    ssh_key: Annotated[Path | None, typer.Option(help="Private key file for --ssh.")] = None,
    ssh_known_hosts: Annotated[
        Path | None, typer.Option(help="File with the host key of that machine.")
    ] = None,
    remote_directory: Annotated[
        Path | None, typer.Option(help="Where the files go there; else the same path as here.")
    ] = None,
) -> None:
    """Say where and how a certificate is installed. The same directory again replaces it."""
    settings = load_settings(context.obj)
    grant, names = _find(settings, certificate, tuple(name or ()))
    place = directory or settings.targets_file.parent / "tls" / grant.certificate
    new = Target(
        certificate=grant.certificate,
        names=names,
        directory=place.absolute(),
        preset=preset,
        formats=tuple(formats or ()),
        owner=owner,
        group=group,
        mode=_mode(mode, 0o644),
        key_mode=None if key_mode is None else _mode(key_mode, 0o600),
        test_command=_command("--test-command", test_command),
        reload_command=_command("--reload-command", reload_command),
        probe=_points(probe, names[0]),
        probe_timeout=probe_timeout,
        roots=root and root.absolute(),
        keep=keep,
        key_origin=key_origin,
        key_algorithm=key_algorithm,
        pkcs12_password_file=pkcs12_password_file and pkcs12_password_file.absolute(),
        unit=unit,
        ssh=ssh,
        ssh_key=ssh_key and ssh_key.absolute(),
        ssh_known_hosts=ssh_known_hosts and ssh_known_hosts.absolute(),
        remote_directory=remote_directory,
    )
    show_added(add_target(settings, new))


def check_preset(preset: str, root: Path | None) -> None:
    """Find out before anything is done whether a preset can be used on this machine.

    Raises:
        ConfigurationError: there is no such preset, or its program is missing.
    """
    name = "www.example.com"
    sample = Target(name, (name,), Path("/nonexistent"), preset=preset, roots=root)
    _check_root(sample)
    resolve(sample)


def preset_target(settings: Settings, grant: Grant, preset: str, root: Path | None) -> Target:
    """Return the target for a grant with nothing but a preset."""
    place = settings.targets_file.parent / "tls" / grant.certificate
    return Target(
        grant.certificate,
        grant.names,
        place.absolute(),
        preset=preset,
        roots=root and root.absolute(),
    )


def add_target(settings: Settings, new: Target) -> Target:
    """Write it down, in place of one with the same directory.

    Raises:
        ConfigurationError: it cannot be used here.
    """
    new = _with_kept_root(settings, new)
    check_target(new)
    others = [one for one in load_targets(settings.targets_file) if one.directory != new.directory]
    save_targets(settings.targets_file, [*others, new])
    return new


def show_added(new: Target) -> None:
    """Say where it goes, and what the server has to name."""
    current = (new.remote_directory or new.directory) / "current"
    where = f" at {new.ssh}" if new.ssh else ""
    sys.stdout.write(
        f"{new.certificate} will be installed in {current.parent}{where}.\n"
        f"Let the server use: {_HINTS[new.preset].format(current)}\nNext: internal-puller pull\n"
    )


@target.command("change")
def change(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="Certificate, or the target's directory.")],
    *,
    add_name: Annotated[
        list[str] | None, typer.Option(help="A name that the server needs too; may be repeated.")
    ] = None,
    remove_name: Annotated[
        list[str] | None, typer.Option(help="A name that it needs no more; may be repeated.")
    ] = None,
    key_origin: Annotated[
        str | None, typer.Option(help="any, or puller: only keys made on this machine.")
    ] = None,
    key_algorithm: Annotated[
        str | None, typer.Option(help=f"Of keys made here: {', '.join(KEY_ALGORITHMS)}.")
    ] = None,
) -> None:
    """Change which names and keys a target takes; for everything else, add it again.

    A target that has had a key made on this machine takes no other, so that nobody outside can
    bring one in: --key-origin any is the word that it may, once, go back to the agent's.
    """
    settings = load_settings(context.obj)
    targets = load_targets(settings.targets_file)
    mine = _matching(targets, certificate)
    given = {"key_origin": key_origin, "key_algorithm": key_algorithm}
    changes = {name: value for name, value in given.items() if value is not None}
    more, fewer = _parsed(add_name), _parsed(remove_name)
    if not (changes or more or fewer):
        raise ConfigurationError(
            "There is nothing to change.", do="See internal-puller target change --help."
        )
    new = {
        one.directory: dataclasses.replace(_with_names(one, more, fewer), **changes)  # type: ignore[arg-type]
        for one in mine
    }
    save_targets(settings.targets_file, [new.get(one.directory, one) for one in targets])
    for one in new.values():
        names = {"names": ", ".join(one.names)} if more or fewer else {}
        what = "; ".join(f"{name} {value}" for name, value in {**names, **changes}.items())
        sys.stdout.write(f"{one.certificate} in {one.directory}: {what}\n")
    sys.stdout.write("Next: internal-puller pull\n")


def _parsed(names: list[str] | None) -> tuple[str, ...]:
    return tuple(str(DnsName.parse(one)) for one in names or ())


def _with_names(one: Target, more: tuple[str, ...], fewer: tuple[str, ...]) -> Target:
    """Return the target with other names; points that look for a name that goes, go with it."""
    unknown = [name for name in fewer if name not in one.names]
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]} is no name of the target in {one.directory}; it needs "
            f"{', '.join(one.names):.500}."
        )
    names = tuple(dict.fromkeys(name for name in (*one.names, *more) if name not in fewer))
    gone = {DnsName(name).probe_name for name in fewer}
    points = one.probe and tuple(point for point in one.probe if point.sni not in gone)
    if one.probe and not points:
        raise ConfigurationError(
            f"Nothing would be probed any more in {one.directory}: every point of it looks for a "
            "name that goes.",
            do="Add the target again, with --name and --probe.",
        )
    return dataclasses.replace(one, names=names, probe=points)


@target.command("list")
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
        rows.append((one.certificate, str(one.directory), one.preset, installed))
    titles = ("certificate", "directory", "preset", "installed")
    if as_json:
        json.dump([dict(zip(titles, row, strict=True)) for row in rows], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        print_table(titles, rows)
    for each in errors:
        sys.stderr.write(each.explain() + "\n")
    raise typer.Exit(ConfigurationError.exit_code if errors else 0)


@target.command("remove")
def remove(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="Certificate, or the target's directory.")],
) -> None:
    """Forget a target. Its files stay, and its server goes on serving them."""
    settings = load_settings(context.obj)
    targets = load_targets(settings.targets_file)
    gone = _matching(targets, certificate)
    left = [one for one in targets if one not in gone]
    save_targets(settings.targets_file, left)
    for name in {one.certificate for one in gone} - {one.certificate for one in left}:
        PendingKeys(settings.state_directory, name).clear()
    for one in gone:
        sys.stdout.write(f"Removed. The files stay in {one.directory}.\n")


def _matching(targets: Sequence[Target], text: str) -> list[Target]:
    found = [one for one in targets if text in (one.certificate, str(one.directory))]
    if not found:
        raise ConfigurationError(f"There is no target {text!r:.200}.")
    return found


def _find(settings: Settings, asked: str, needed: tuple[str, ...]) -> tuple[Grant, tuple[str, ...]]:
    """Return the grant that is meant, and the names that are needed here."""
    names = tuple(str(DnsName.parse(one)) for one in needed)
    granted = _granted(settings)
    found = _among(granted, asked, names)
    if found is not None:
        return found
    try:
        granted = _granted_by_now(settings) or granted
    except NO_CONTACT as error:
        raise _not_granted(
            asked, granted, f" Whether there is more is not known: {error.what}"
        ) from error
    found = _among(granted, asked, names)
    if found is None:
        raise _not_granted(asked, granted)
    return found


def _among(
    granted: tuple[Grant, ...], asked: str, names: tuple[str, ...]
) -> tuple[Grant, tuple[str, ...]] | None:
    for grant in granted:
        if grant.certificate == asked:
            return grant, names or grant.names
    try:
        name = DnsName.parse(asked)
    except NameRefused:
        return None
    for grant in granted:
        if any(DnsName(one).covers(name) for one in grant.names):
            return grant, names or (str(name),)
    return None


def _granted(settings: Settings) -> tuple[Grant, ...]:
    """Return what this machine may install: what it gets itself, and what its agent grants."""
    state = StateDirectory.open(settings.state_directory)
    direct = load_direct(settings.direct_file)
    if direct is None:
        return state.require_enrolment().granted
    own = tuple(Grant(one.certificate, one.names) for one in direct.certificates)
    enrolment = state.enrolment()
    return own + (enrolment.granted if enrolment else ())


def _granted_by_now(settings: Settings) -> tuple[Grant, ...]:
    """Ask the agent: since this machine was enrolled more may have been granted.

    Raises:
        TransportError: it cannot be asked.
        ClockWrong: nor can it be while our clocks differ by more than 300 s.
    """
    state = StateDirectory.open(settings.state_directory)
    if state.enrolment() is None:
        return ()
    client = connect(settings, state)
    try:
        return tuple(Grant(one.certificate, one.names) for one in client.listing().offers)
    finally:
        client.close()


def _not_granted(asked: str, granted: tuple[Grant, ...], more: str = "") -> PolicyError:
    return PolicyError(
        f"{asked!r:.200} is not granted to this machine; granted: "
        f"{', '.join(grant.certificate for grant in granted) or 'nothing'}.{more}",
        do=f"Grant it on the agent: external-agent puller grant {socket.gethostname()} NAME; or, "
        "in direct mode: internal-puller direct add NAME.",
    )


def _mode(text: str | None, default: int) -> int:
    if text is None:
        return default
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
    r"(?:(?P<protocol>[a-z0-9]+)://)?"
    r"(?P<address>\[[0-9a-fA-F:.]+\]|[^:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?(?:/(?P<sni>.+))?"
)


def _points(texts: list[str] | None, name: str) -> tuple[ProbePoint, ...] | None:
    if texts is None:
        return None
    if texts == ["none"]:
        return ()
    return tuple(_point(text, name) for text in texts)


def _point(text: str, name: str) -> ProbePoint:
    match = _POINT.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"--probe {text!r:.200} is not [PROTOCOL://]ADDRESS[:PORT][/NAME]."
        )
    sni = match["sni"] or DnsName(name).probe_name
    protocol = match["protocol"] or "tls"
    port = int(match["port"] or PROTOCOLS.get(protocol, 443))
    return ProbePoint(match["address"].strip("[]"), port, sni, protocol)


def _with_kept_root(settings: Settings, new: Target) -> Target:
    if new.roots is None:
        return new
    _check_root(new)
    copy = settings.targets_file.parent / "roots" / f"{new.certificate}.pem"
    kept = keep(new.roots, copy, say=lambda sentence: sys.stdout.write(f"{sentence}\n"))
    return dataclasses.replace(new, roots=kept)


def _check_root(new: Target) -> None:
    if new.roots is not None:
        from internal_puller.roots import anchors_of

        anchors_of([new])
