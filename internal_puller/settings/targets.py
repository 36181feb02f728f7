"""Targets: where a certificate is installed on this host, how, and how the result is seen."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from internal_puller.settings.nearest import nearest
from internal_puller.settings.presets.catalogue import BUILT_IN, Catalogue
from internal_puller.settings.presets.preset import (
    COMBINED_ORDERS,
    LEAF_FIRST,
    NO_PAIR,
    UNIT_NAME,
    holds_pair,
)
from internal_puller.settings.probe_point import NAME, ProbePoint
from shared.contract.errors import ConfigurationError, PolicyError
from shared.contract.identifiers import check_certificate_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internal_puller.settings.presets.preset import Preset

FORMATS: Final = (
    *("fullchain", "chain", "cert", "privkey", "combined", "pkcs12"),
    *("cert-der", "privkey-der"),
)
LAYOUTS: Final = ("link", "copy")
PKCS12_ALGORITHMS: Final = ("modern", "legacy")
ONE_FILE: Final = ("combined",)
"""The formats of layout ``copy``."""
KEY_ORIGINS: Final = ("any", "puller")
KEY_ALGORITHMS: Final = ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096")

_SSH = re.compile(
    r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_KINDS = (".service", ".target", ".socket")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?")
_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,63}")


@dataclass(frozen=True)
class Target:
    """One place of installation. Checked when made: ``ConfigurationError`` says what is wrong.

    Args:
        certificate: id of the certificate, as granted by the agent.
        names: DNS names (A-labels, lower case) that this server needs the certificate to cover.
        directory: absolute path; generations and the ``current`` link live in it.
        preset: the server that reads the files, where commands, formats and probes come from; or
            several, which read the same files.
        server: name of the server that ``test_command`` and ``reload_command`` are about. Targets
            of one name are installed together, so they have the same commands.
        formats: files to write; empty means the preset's.
        layout: ``link`` (``current`` is a link, beside it fixed links into it) or ``copy`` (one
            file at a fixed path, replaced), for a server that cannot follow links.
        combined_order: ``leaf-first`` or ``key-first``; None means what the preset demands.
        owner, group: names of the account that owns the files; None leaves them as they are born.
        mode, key_mode: permission bits of files without and with the private key; ``key_mode``
            None means 0600, or 0640 when a group is given.
        test_command, reload_command: argument lists, run without a shell; None means the
            preset's, empty means none.
        command_timeout, probe_timeout: seconds.
        probe: None means the preset's, empty means that nothing is probed.
        roots: PEM file of the roots that the chain must end in, for a CA of one's own.
        keep: generations kept on disk, the active one included.
        key_origin: ``any``, or ``puller`` when only keys made on this machine may be installed.
        key_algorithm: of keys made on this machine; None means the setting of the same name.
        pkcs12_password_file: its first line protects ``bundle.p12``.
        unit: of systemd, that of the server; the preset ``systemd`` needs it, for others it is
            for one that is called otherwise than usual.
        pkcs12_algorithms: ``modern`` or ``legacy``, which old Java and Windows read.
        unit: of systemd, for the preset of that name.
        ssh: ``USER@HOST`` or ``USER@HOST:PORT`` of the machine where it is installed; None is
            this one. Then ``directory`` holds the generations here, and the commands run there.
        ssh_key: private key file for it; None takes what this user has.
        ssh_known_hosts: file with its host key; None is this user's.
        ssh_config: ssh configuration to reach it by; None is what ssh reads, this user's own first.
        remote_directory: where the files go there; None is the same path as here.
        catalogue: where the presets are looked up; no setting.
    """

    certificate: str
    names: tuple[str, ...]
    directory: Path
    preset: str | tuple[str, ...] = "none"
    server: str | None = None
    formats: tuple[str, ...] = ()
    layout: str = "link"
    combined_order: str | None = None
    owner: str | None = None
    group: str | None = None
    mode: int = 0o644
    key_mode: int | None = None
    test_command: tuple[str, ...] | None = None
    reload_command: tuple[str, ...] | None = None
    command_timeout: float = 30.0
    probe: tuple[ProbePoint, ...] | None = None
    probe_timeout: float = 15.0
    roots: Path | None = None
    keep: int = 3
    key_origin: str = "any"
    key_algorithm: str | None = None
    pkcs12_password_file: Path | None = None
    pkcs12_algorithms: str = "modern"
    unit: str | None = None
    ssh: str | None = None
    ssh_key: Path | None = None
    ssh_known_hosts: Path | None = None
    ssh_config: Path | None = None
    remote_directory: Path | None = None
    catalogue: Catalogue = field(default=BUILT_IN, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) and len(self.preset) == 1:  # one way to say it
            object.__setattr__(self, "preset", self.preset[0])
        self._check_names()
        self._check_choices()
        self._check_formats()
        self._check_paths()
        self._check_numbers()
        self._check_commands()
        self._check_ssh()

    @property
    def presets(self) -> tuple[Preset, ...]:
        """The servers that read the files, one or several."""
        names = (self.preset,) if isinstance(self.preset, str) else self.preset
        return tuple(self.catalogue.find(name) for name in names)

    @property
    def preset_text(self) -> str:
        """The name of its preset, or the names."""
        return self.preset if isinstance(self.preset, str) else " and ".join(self.preset)

    @property
    def has_own_commands(self) -> bool:
        """Whether it says itself how its server is tested or reloaded."""
        return self.test_command is not None or self.reload_command is not None

    @property
    def all_formats(self) -> tuple[str, ...]:
        """The files to write: its own, or those of its presets, each once."""
        if self.formats:
            return self.formats
        if self.layout == "copy":
            return ONE_FILE
        formats = [one for preset in self.presets for one in preset.formats]
        if self.pkcs12_password_file:
            formats.append("pkcs12")
        return tuple(dict.fromkeys(formats))

    @property
    def combined(self) -> tuple[str, ...]:
        """What ``combined.pem`` holds, in its order."""
        if self.combined_order is not None:
            return COMBINED_ORDERS[self.combined_order]
        return next((one.combined for one in self.presets if one.combined), LEAF_FIRST)

    @property
    def ssh_parts(self) -> tuple[str, str, int]:
        """User, host and port of ``ssh``, which is set."""
        match = _SSH.fullmatch(self.ssh or "")
        assert match is not None
        return match["user"], match["host"].strip("[]"), int(match["port"] or 22)

    @property
    def ssh_port(self) -> int | None:
        """Port of ``ssh``, which is set; ``None`` leaves it to the ssh configuration."""
        match = _SSH.fullmatch(self.ssh or "")
        assert match is not None
        return int(match["port"]) if match["port"] else None

    @property
    def private_mode(self) -> int:
        """Permission bits of files that hold the private key."""
        if self.key_mode is not None:
            return self.key_mode
        return 0o640 if self.group else 0o600

    @property
    def shape(self) -> str:
        """What decides which files there are, and whose: a change of it needs new ones."""
        parts = (self.all_formats, self.combined, self.owner, self.group, self.mode)
        written = (self.private_mode, self.layout, self.pkcs12_algorithms)
        return repr((*parts, *written, str(self.pkcs12_password_file or "")))

    def _refuse(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"Target {self.certificate}: {what}.")

    def _check_names(self) -> None:
        try:
            check_certificate_id(self.certificate)
        except PolicyError as error:
            raise ConfigurationError(error.what) from error
        if not self.names:
            raise self._refuse("names is empty")
        for name in self.names:
            if len(name) > 253 or not NAME.fullmatch(name):
                raise self._refuse(f"{name!r} is no DNS name in lower-case A-labels")
        for account in (self.owner, self.group):
            if account is not None and not _ACCOUNT.fullmatch(account):
                raise self._refuse(f"{account!r} is no account name")

    def _check_choices(self) -> None:
        self._check_presets()
        _check_choice(self._refuse, "key_origin", self.key_origin, KEY_ORIGINS)
        _check_choice(self._refuse, "layout", self.layout, LAYOUTS)
        _check_choice(self._refuse, "pkcs12_algorithms", self.pkcs12_algorithms, PKCS12_ALGORITHMS)
        if self.combined_order is not None:
            orders = tuple(COMBINED_ORDERS)
            _check_choice(self._refuse, "combined_order", self.combined_order, orders)
        if self.key_algorithm is not None:
            _check_choice(self._refuse, "key_algorithm", self.key_algorithm, KEY_ALGORITHMS)

    def _check_formats(self) -> None:
        for name in self.formats:
            _check_choice(self._refuse, "formats", name, FORMATS)
        if self.formats and not holds_pair(self.formats):
            raise self._refuse(NO_PAIR)
        if "pkcs12" in self.all_formats and self.pkcs12_password_file is None:
            wants = [one.name for one in self.presets if "pkcs12" in one.formats]
            what = "pkcs12 format" if self.formats else f"preset {wants[0]}"
            raise self._refuse(f"the {what} needs pkcs12_password_file")
        self._check_unit()
        if self.pkcs12_algorithms != "modern" and self.pkcs12_password_file is None:
            raise self._refuse("pkcs12_algorithms goes with pkcs12_password_file")
        if self.layout == "copy":
            self._check_copy()

    def _check_unit(self) -> None:
        if self.unit is None:
            return
        if not UNIT_NAME.fullmatch(self.unit):
            raise self._refuse(f"{self.unit!r:.80} is no name of a systemd unit")
        if not self.unit.endswith(_KINDS):
            raise self._refuse(
                f"unit {self.unit!r:.80} has no kind: write it whole, such as {self.unit}.service"
            )

    def _check_copy(self) -> None:
        if self.formats not in ((), ONE_FILE):
            raise self._refuse(
                "layout copy takes the format combined alone: of two files that are replaced one "
                "after the other a server reads a mixed pair, of one file that it opens once never"
            )
        if self.pkcs12_password_file is not None:
            raise self._refuse("layout copy makes no bundle.p12: pkcs12_password_file is for link")
        if self.owner is not None:
            raise self._refuse(
                "layout copy goes with group, not with owner: what was given to another account "
                "could not be read to be copied"
            )
        if self.ssh is not None:
            raise self._refuse("layout copy is for this machine; on another one use link")

    def _check_presets(self) -> None:
        try:
            presets = self.presets
        except ConfigurationError as error:
            raise type(error)(f"Target {self.certificate}: {error.what}", do=error.do) from error
        names = [one.name for one in presets]
        if not presets or len(set(names)) < len(names):
            raise self._refuse("preset is a name, or a list of names, each once")
        orders = {one.combined for one in presets if one.combined}
        if len(orders) > 1 and self.combined_order is None:
            raise self._refuse(
                f"{self.preset_text} want combined.pem in different orders; make a target for each"
            )
        if len(presets) > 1:
            given = ("test_command", "reload_command", "unit")
            one = next((key for key in given if getattr(self, key) is not None), None)
            if one or any(not preset.reload for preset in presets):
                raise self._refuse(
                    f"{one} is of one server, not of several presets"
                    if one
                    else "the preset none does not go with others"
                )
        needs = next((one.name for one in presets if one.needs_unit), None)
        if needs and self.unit is None:
            raise self._refuse(f"the preset {needs} needs unit")
        if self.server is None:
            return
        if not _SERVER.fullmatch(self.server):
            raise self._refuse(f"server {self.server!r:.80} is not a name such as mail-1")
        if not self.has_own_commands:
            raise self._refuse(
                "server goes with test_command and reload_command; a preset is one server by itself"
            )

    def _check_paths(self) -> None:
        paths = {
            "directory": self.directory,
            "roots": self.roots,
            "pkcs12_password_file": self.pkcs12_password_file,
            "ssh_key": self.ssh_key,
            "ssh_known_hosts": self.ssh_known_hosts,
            "ssh_config": self.ssh_config,
            "remote_directory": self.remote_directory,
        }
        for setting, path in paths.items():
            if path is None:
                continue
            if not path.is_absolute() or ".." in path.parts:
                raise self._refuse(f"{setting} = {str(path)!r} is no absolute path without '..'")
            if not _printable(str(path)):
                raise self._refuse(f"{setting} = {str(path)!r} has characters that are no text")
        if self.directory == Path("/"):
            raise self._refuse("directory is the root of the file system")

    def _check_numbers(self) -> None:
        if not 1 <= self.keep <= 100:
            raise self._refuse("keep is not between 1 and 100")
        for setting, seconds in (
            ("command_timeout", self.command_timeout),
            ("probe_timeout", self.probe_timeout),
        ):
            if not 0 < seconds <= 3600:
                raise self._refuse(f"{setting} is not between 0 and 3600 seconds")
        if self.mode & ~0o664:
            raise self._refuse(f"mode {self.mode:04o} is more than 0664")
        if self.private_mode & ~0o640:
            raise self._refuse(f"key_mode {self.private_mode:04o} is more than 0640")

    def _check_commands(self) -> None:
        for setting, argv in (
            ("test_command", self.test_command),
            ("reload_command", self.reload_command),
        ):
            if argv and (not argv[0] or any("\0" in part for part in argv)):
                raise self._refuse(f"{setting} is no list of arguments that can be run")

    def _check_ssh(self) -> None:
        if self.ssh is None:
            if self.ssh_key or self.ssh_known_hosts or self.ssh_config or self.remote_directory:
                raise self._refuse(
                    "ssh_key, ssh_known_hosts, ssh_config and remote_directory go with ssh"
                )
            return
        if not _SSH.fullmatch(self.ssh) or not _is_host(self.ssh_parts[1]):
            raise self._refuse(f"ssh {self.ssh!r:.200} is not USER@HOST or USER@HOST:PORT")
        if not 0 < self.ssh_parts[2] < 65536:
            raise self._refuse(f"ssh {self.ssh!r:.200} has no port between 1 and 65535")
        if self.owner is not None or self.group is not None:
            raise self._refuse(
                "owner and group are not for another machine: there the files belong to the user "
                "that ssh names"
            )


def _check_choice(refuse: object, setting: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        assert callable(refuse)
        near = nearest(value, choices)
        raise refuse(f"{setting} {value!r:.60} is none of {', '.join(choices)}{near}")


def _is_host(text: str) -> bool:
    return ":" in text or all(0 < len(label) < 64 for label in text.removesuffix(".").split("."))


def _printable(text: str) -> bool:
    return text.isprintable() and text == text.encode("utf-8", "replace").decode("utf-8")


def load_targets(path: Path) -> tuple[Target, ...]:
    """Read the targets file; a missing file means no targets.

    Raises:
        ConfigurationError: not TOML, an unknown key, a wrong type or value, two targets with one
            directory; or the file can be written by other users, who could then name commands.
    """
    from internal_puller.settings import targets_file

    return targets_file.load(path)


def save_targets(path: Path, targets: Iterable[Target]) -> None:
    """Write the targets file, whole or not at all; comments of an operator are kept.

    Raises:
        ConfigurationError: it cannot be written, or what is there cannot be read.
    """
    from internal_puller.settings import targets_file

    targets_file.save(path, tuple(targets))
