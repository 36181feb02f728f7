"""``target add | change | list | remove``: where certificates are installed on this machine."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from internal_puller.commands.tables import print_table
from internal_puller.install.layout import active_generation
from internal_puller.install.lock import installation_lock
from internal_puller.install.presets import check_target, resolve
from internal_puller.pull.turn import LOCK_WAIT
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.targets import (
    FORMATS,
    KEY_ALGORITHMS,
    PRESETS,
    PROTOCOLS,
    ProbePoint,
    Target,
    load_targets,
    save_targets,
)
from internal_puller.settings.targets_file import check_distinct
from internal_puller.sources.agent.contact import NO_CONTACT, connect
from internal_puller.sources.direct.settings import load_direct
from internal_puller.state.pending import PendingKeys
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ConfigurationError, NameRefused, PolicyError
from shared.contract.identifiers import DnsName
from shared.contract.wire import Grant
from shared.host.kept_file import is_copied, keep
from shared.host.terminal import emit, emit_json, explain

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


@dataclass(frozen=True)
class TargetOptions:
    """The options that ``target add`` and ``target change`` take alike, declared once."""

    name: Annotated[
        list[str] | None, typer.Option(help="A name that this server needs; may be repeated.")
    ]
    preset: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRESETS)}.")]
    directory: Annotated[Path | None, typer.Option(help="Where the files go.")]
    format: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(FORMATS)}; repeated.")]
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
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="Where to see it served: [smtp://]ADDRESS[:PORT][/NAME]; repeated; 'none'."
        ),
    ]
    probe_timeout: Annotated[float | None, typer.Option(help="Seconds until it is to be served.")]
    root: Annotated[Path | None, typer.Option(help="PEM file with the root of a CA of your own.")]
    keep: Annotated[int | None, typer.Option(help="Generations kept on disk.")]
    pkcs12_password_file: Annotated[Path | None, typer.Option(help="Makes bundle.p12 too.")]
    key_origin: Annotated[
        str | None, typer.Option(help="any, or puller: only keys made on this machine.")
    ]
    key_algorithm: Annotated[
        str | None, typer.Option(help=f"Of keys made here: {', '.join(KEY_ALGORITHMS)}.")
    ]
    unit: Annotated[
        str | None, typer.Option(help="With --preset systemd: what is reloaded or restarted.")
    ]
    ssh: Annotated[
        str | None, typer.Option(help="Install on another machine: USER@HOST or USER@HOST:PORT.")
    ]
    ssh_key: Annotated[Path | None, typer.Option(help="Private key file for --ssh.")]
    ssh_known_hosts: Annotated[
        Path | None, typer.Option(help="File with the host key of that machine.")
    ]
    remote_directory: Annotated[
        Path | None, typer.Option(help="Where the files go there; else the same path as here.")
    ]

    def names(self) -> tuple[str, ...]:
        return _parsed(self.name)

    def members(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return what was given, as members of a target that needs these names."""
        members = {
            "directory": self.directory and self.directory.absolute(),
            "preset": self.preset,
            "formats": self.format and tuple(self.format),
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
            "unit": self.unit,
            "ssh": self.ssh,
            "ssh_key": self.ssh_key and self.ssh_key.absolute(),
            "ssh_known_hosts": self.ssh_known_hosts and self.ssh_known_hosts.absolute(),
            "remote_directory": self.remote_directory,
        }
        return {member: value for member, value in members.items() if value is not None}


_DEFAULTS: Final = {one.name: one.default for one in fields(Target) if one.default is not MISSING}
_MEMBER_OF: Final = {"format": "formats", "root": "roots"}
"""Options that are called otherwise than what they set in a target."""
UNSET: Final = tuple(
    option
    for option in (one.name.replace("_", "-") for one in fields(TargetOptions))
    if option not in ("name", "directory")
)


def _taking_options(**shown: object) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command have the options of ``TargetOptions``; ``shown`` are defaults that differ."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(TargetOptions, include_extras=True)
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=shown.get(name),
                annotation=hints[name],
            )
            for name in (one.name for one in fields(TargetOptions))
        ]
        own = inspect.signature(command, eval_str=True).parameters.values()

        def called(**given: Any) -> None:
            found = {one.name: given.pop(one.name) for one in options}
            command(**given, options=TargetOptions(**found))

        called.__doc__ = command.__doc__
        called.__annotations__ = {}
        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(one for one in own if one.name != "options"), *options]
        )
        return called

    return decorate


@target.command("add")
@_taking_options(
    preset=Target.preset,
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
    grant, names = _find(settings, certificate, options.names())
    new = Target(
        **{
            "certificate": grant.certificate,
            "names": names,
            "directory": _usual_directory(settings, grant.certificate),
            **options.members(names),
        }
    )
    show_added(add_target(settings, new))
    if new.certificate in StateDirectory.open(settings.state_directory).own_keys():
        emit(f"{takes_own_keys_only(new.certificate)}")


def _usual_directory(settings: Settings, certificate: str) -> Path:
    return (settings.targets_file.parent / "tls" / certificate).absolute()


def check_preset(settings: Settings, preset: str, root: Path | None) -> None:
    """Find out before anything is done whether a preset can be used on this machine.

    Raises:
        ConfigurationError: there is no such preset, or its program is missing.
    """
    name = "www.example.com"
    sample = Target(name, (name,), Path("/nonexistent"), preset=preset, roots=root)
    _check_root(settings, sample)
    resolve(sample)


def preset_target(settings: Settings, grant: Grant, preset: str, root: Path | None) -> Target:
    """Return the target for a grant with nothing but a preset."""
    return Target(
        grant.certificate,
        grant.names,
        _usual_directory(settings, grant.certificate),
        preset=preset,
        roots=root and root.absolute(),
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
    _check_root(settings, new)
    check_target(new)
    new = _with_kept_root(settings, new, targets)
    save_targets(settings.targets_file, [*targets, new])
    return new


def show_added(new: Target) -> None:
    """Say where it goes, and what the server has to name."""
    current = _current(new)
    where = f" at {new.ssh}" if new.ssh else ""
    emit(
        f"{new.certificate} will be installed in {current.parent}{where}.",
        f"Let the server use: {_HINTS[new.preset].format(current)}",
        "Next: internal-puller pull",
    )


def _current(one: Target) -> Path:
    return (one.remote_directory or one.directory) / "current"


def takes_own_keys_only(certificate: str) -> str:
    """Say what was learned of a certificate, and what takes it back."""
    return (
        f"Only keys made on this machine are taken for {certificate}, as there was one before; to "
        f"take the agent's keys again: internal-puller target change {certificate} "
        "--key-origin any"
    )


@target.command("change")
@_taking_options()
def change(
    context: typer.Context,
    certificate: Annotated[
        str, typer.Argument(help="Certificate (all its targets), or one target's directory.")
    ],
    *,
    add_name: Annotated[
        list[str] | None, typer.Option(help="A name that the server needs too; may be repeated.")
    ] = None,
    remove_name: Annotated[
        list[str] | None, typer.Option(help="A name that it needs no more; may be repeated.")
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(help=f"Set back to the default, repeated: {', '.join(UNSET)}."),
    ] = None,
    options: TargetOptions,
) -> None:
    """Change a target. What is not given stays as it is; see --unset for what is to go.

    A target that has had a key made on this machine takes no other, so that nobody outside can
    bring one in: --key-origin any is the word that it may, once, go back to the agent's.
    """
    settings = load_settings(context.obj)
    targets = load_targets(settings.targets_file)
    mine = _matching(targets, certificate)
    others = [one for one in targets if one not in mine]
    if not (
        unset or add_name or remove_name or any(one is not None for one in vars(options).values())
    ):
        raise ConfigurationError(
            "There is nothing to change.", do="See internal-puller target change --help."
        )
    changed = {}
    for one in mine:
        names = _names(one, options.names(), _parsed(add_name), _parsed(remove_name))
        members = _with_defaults(options.members(names), unset or ())
        new = _with_names(one, names, looked_at="probe" in members)
        changed[one.directory] = dataclasses.replace(new, **members)
    check_distinct((*others, *changed.values()))
    for one in mine:
        _check_changed(settings, one, changed[one.directory])
    if options.root is not None:
        changed = {
            directory: _with_kept_root(settings, one, others) for directory, one in changed.items()
        }
    save_targets(settings.targets_file, [changed.get(one.directory, one) for one in targets])
    told = [_show_changed(one, changed[one.directory]) for one in mine]
    if options.key_origin == "any" or "key-origin" in (unset or ()):
        told.append(_take_other_keys_again(settings, {one.certificate for one in mine}))
    if any(told):
        emit("Next: internal-puller pull")


def _with_defaults(given: Mapping[str, Any], unset: Sequence[str]) -> dict[str, Any]:
    """Return what is given, and the default of each option that is unset."""
    members = dict(given)
    for option in unset:
        if option not in UNSET:
            raise ConfigurationError(f"--unset {option!r:.60} is none of {', '.join(UNSET)}.")
        member = _MEMBER_OF.get(option, option.replace("-", "_"))
        if member in given:
            raise ConfigurationError(f"--{option} and --unset {option} exclude each other.")
        members[member] = _DEFAULTS[member]
    return members


def _check_changed(settings: Settings, old: Target, new: Target) -> None:
    """Find out whether it can be used, if anything but names and keys is another thing now."""
    quiet: dict[str, Any] = {
        "names": new.names,
        "key_origin": new.key_origin,
        "key_algorithm": new.key_algorithm,
    }
    if dataclasses.replace(old, **quiet) == dataclasses.replace(new, probe=old.probe):
        return
    _check_root(settings, new)
    check_target(new)


def _show_changed(old: Target, new: Target) -> bool:
    """Say what is another thing now; ``False`` if nothing is."""
    what = [
        f"{one.name} {_told(one.name, getattr(new, one.name))}"
        for one in fields(Target)
        if getattr(new, one.name) != getattr(old, one.name)
    ]
    emit(f"{new.certificate} in {old.directory}: {'; '.join(what) or 'no change'}")
    before, after = (_current(one) for one in (old, new))
    if before != after:
        emit(f"The files in {before.parent} stay.")
    if before != after or old.preset != new.preset:
        emit(f"Let the server use: {_HINTS[new.preset].format(after)}")
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


def _take_other_keys_again(settings: Settings, certificates: set[str]) -> bool:
    """Last, so that whatever ends the command before leaves the stricter rule.

    Returns:
        Whether the rule held for one of them.
    """
    if not settings.state_directory.exists():
        return False
    state = StateDirectory.open(settings.state_directory)
    with installation_lock(settings.lock, wait=LOCK_WAIT):
        held = sorted(certificates & state.own_keys())
        for certificate in held:
            state.forget_own_keys(certificate)
            emit(f"{certificate}: the agent's keys are taken again.")
    return bool(held)


def _parsed(names: list[str] | None) -> tuple[str, ...]:
    return tuple(str(DnsName.parse(one)) for one in names or ())


def _names(
    one: Target, all_of_them: tuple[str, ...], more: tuple[str, ...], fewer: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names that a target needs from now on."""
    if all_of_them and (more or fewer):
        raise ConfigurationError(
            "--name gives all names of the target; --add-name and --remove-name do not go with it."
        )
    unknown = [name for name in fewer if name not in one.names]
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]} is no name of the target in {one.directory}; it needs "
            f"{', '.join(one.names):.500}."
        )
    names = all_of_them or (*one.names, *more)
    found = tuple(dict.fromkeys(name for name in names if name not in fewer))
    if not found:
        raise ConfigurationError(f"Target {one.certificate}: names is empty.")
    return found


def _with_names(one: Target, names: tuple[str, ...], *, looked_at: bool) -> Target:
    """Return the target with other names; points that look for a name that goes, go with it.

    Args:
        looked_at: other points are given with them.
    """
    gone = {DnsName(name).probe_name for name in one.names if name not in names}
    points = one.probe and tuple(point for point in one.probe if point.sni not in gone)
    if one.probe and not points and not looked_at:
        raise ConfigurationError(
            f"Nothing would be probed any more in {one.directory}: every point of it looks for a "
            "name that goes.",
            do="Say where to look from now on, in the same command: --probe ADDRESS:PORT/NAME.",
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
        emit_json([dict(zip(titles, row, strict=True)) for row in rows])
    else:
        print_table(titles, rows)
    for each in errors:
        explain(each)
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
        emit(f"Removed. The files stay in {one.directory}.")


def _matching(targets: Sequence[Target], text: str) -> list[Target]:
    found = [one for one in targets if text in (one.certificate, str(one.directory))]
    if not found:
        raise ConfigurationError(f"There is no target {text!r:.200}.")
    return found


def _find(settings: Settings, asked: str, names: tuple[str, ...]) -> tuple[Grant, tuple[str, ...]]:
    """Return the grant that is meant, and the names that are needed here."""
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


def _with_kept_root(settings: Settings, new: Target, others: Sequence[Target]) -> Target:
    """Return it with its root where the service finds it; copies for others are left alone."""
    if new.roots is None:
        return new
    _check_root(settings, new)
    kept = keep(new.roots, _copy_of_root(settings, new, others), say=emit)
    return dataclasses.replace(new, roots=kept)


def _copy_of_root(settings: Settings, new: Target, others: Sequence[Target] = ()) -> Path:
    """Return where a copy goes: those of other targets are left alone."""
    copies = settings.targets_file.parent / "roots"
    taken = {one.roots for one in others}
    numbered = (f"{new.certificate}-{number}.pem" for number in itertools.count(2))
    names = itertools.chain((f"{new.certificate}.pem",), numbered)
    return next(copies / name for name in names if copies / name not in taken)


def _check_root(settings: Settings, new: Target) -> None:
    """Refuse roots that cannot be used; of a file that is copied now, only what is in it counts."""
    if new.roots is not None:
        from internal_puller.install.roots import roots_in

        copied = is_copied(new.roots, _copy_of_root(settings, new))
        roots_in(new.roots, trusted=not copied)
