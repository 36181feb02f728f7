"""What the service that pulls may see and write: less than whoever types `doctor`."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from internal_puller.install.layout import staging_name
from internal_puller.install.remote_openssh import Machine, has_own_settings
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target
from shared.contract.diagnosis import Finding, Verdict
from shared.contract.errors import RelayError
from shared.host import systemctl
from shared.host.kept_file import is_unseen

_UNITS = ("internal-puller.service", "internal-puller-run.service")
_STATE = Path("/var/lib")
_CONCERNS = ("LoadState", "ProtectSystem", "ProtectHome", "PrivateTmp", "ReadWritePaths")
_SHOWN = ",".join((*_CONCERNS, "StateDirectory", "Environment", "User"))


@dataclass(frozen=True)
class Service:
    """
    Attributes:
        unit: its name.
        writable: all that it may write below; ``None`` is everything.
        is_blind: it sees no homes and no /tmp but its own.
        account: whose name it runs under; empty is root.
        variables: names of the environment variables that its unit sets, in lower case.
    """

    unit: str
    writable: tuple[Path, ...] | None
    is_blind: bool
    variables: frozenset[str]
    account: str = ""

    def may_write(self, place: Path) -> bool:
        real = place.resolve()
        return self.writable is None or any(real.is_relative_to(one) for one in self.writable)

    def owns(self, place: Path) -> bool:
        """Tell whether a directory is the account's; one that is not there is made for it."""
        ids = self._ids()
        return ids is None or not place.exists() or place.stat().st_uid == ids[0]

    def reads(self, path: Path) -> bool:
        """Tell whether the account may read a file by owner, group and mode; so does no root."""
        ids = self._ids()
        if ids is None or not path.exists():
            return True
        uid, groups = ids
        places = [(path, stat.S_IRUSR), *((one, stat.S_IXUSR) for one in path.resolve().parents)]
        for place, bit in places:
            status = place.stat()
            shift = 0 if status.st_uid == uid else 3 if status.st_gid in groups else 6
            if not status.st_mode & bit >> shift:
                return False
        return True

    def _ids(self) -> tuple[int, list[int]] | None:
        """Return user and groups of the account; ``None``: root, or an unknown one."""
        try:
            found = pwd.getpwnam(self.account) if self.account else None
        except KeyError:
            return None
        if found is None or found.pw_uid == 0:
            return None
        return found.pw_uid, os.getgrouplist(found.pw_name, found.pw_gid)


def find_service() -> Service | None:
    """Return the service that pulls here; ``None`` where systemd knows of none."""
    if not systemctl.is_there():
        return None
    stays = systemctl.state_of(_UNITS[1]) == "active"
    return _read(_UNITS[1] if stays else _UNITS[0])


def _read(unit: str) -> Service | None:
    done = systemctl.ask("show", "-p", _SHOWN, unit)
    lines = () if done is None or done.returncode else done.stdout.splitlines()
    shown = {key: value for key, _, value in (line.partition("=") for line in lines)}
    if shown.get("LoadState") != "loaded":
        return None
    writable = (
        *(Path(one.lstrip("-+")) for one in _words(shown, "ReadWritePaths")),
        *(_STATE / one.partition(":")[0] for one in _words(shown, "StateDirectory")),
    )
    return Service(
        unit,
        tuple(one.resolve() for one in writable)
        if shown.get("ProtectSystem") == "strict"
        else None,
        shown.get("ProtectHome") in ("yes", "tmpfs") or shown.get("PrivateTmp") == "yes",
        frozenset(one.partition("=")[0].lower() for one in _words(shown, "Environment")),
        shown.get("User", ""),
    )


def _words(shown: dict[str, str], key: str) -> list[str]:
    try:
        return shlex.split(shown.get(key, ""))
    except ValueError:
        return []


def service_findings(service: Service, target: Target, subject: str) -> Iterator[Finding]:
    """Say what a pull by the service could not do that one by hand can."""
    unit, place = service.unit, target.directory
    if not service.may_write(place.parent):
        what = f"{unit} may not write to {place} and beside it, from where one rename puts files "
        what += "in place: it installs nothing there, whoever else can."
        yield Finding("target", Verdict.PROBLEM, subject, what, _room_for(service, target))
    staging = place.parent / staging_name(place)
    for one in (place, staging):
        if not service.owns(one):
            what = f"{one} does not belong to {service.account}, as which {unit} installs."
            do = "If it is for this target alone: "
            do += f"find {one} -type d -exec chown {service.account} {{}} +"
            yield Finding("target", Verdict.PROBLEM, subject, what, do)
    named = {
        "roots": target.roots,
        "pkcs12_password_file": target.pkcs12_password_file,
        "ssh_key": target.ssh_key,
        "ssh_known_hosts": target.ssh_known_hosts,
        "ssh_config": target.ssh_config,
    }
    yield from _unread(service, named, subject)
    yield from _unseen(service, named, subject)
    missing = [name for name in ("ssh_key", "ssh_known_hosts") if named[name] is None]
    if target.ssh is not None and _has_own_ssh_settings(target):
        missing.append("ssh_config")
    if target.ssh is not None and missing:
        what = f"{' and '.join(missing)} of this user were looked at; {unit} has an account, and "
        what += "a home, of its own."
        do = "Put them below /etc/split-horizon-relay, and name them in targets.toml."
        yield Finding("target", Verdict.WARNING, subject, what, do)


def _room_for(service: Service, target: Target) -> str:
    """Return how the service gets a directory to write below, which holds nothing of others.

    Over files there it has CAP_CHOWN.
    """
    place, account = target.directory, service.account
    edit = f"systemctl edit {service.unit}, and there: [Service] ReadWritePaths="
    if service.owns(place.parent):
        return f"{edit}{place.parent}"
    return (
        f"install -d -o {account} -g {account} {place}; {edit}{place}; then: internal-puller "
        f"target change {target.certificate} --directory {place / target.certificate}"
    )


def _has_own_ssh_settings(target: Target) -> bool:
    user, host, _ = target.ssh_parts
    try:
        return has_own_settings(Machine(user, host, target.ssh_port, config=target.ssh_config))
    except RelayError:
        return False  # whoever connects says so


def setting_findings(service: Service, settings: Settings, proxy: str | None) -> Iterator[Finding]:
    """Say which settings hold for whoever types this and not for the service.

    Args:
        proxy: what this user's environment and the settings lead through, without credentials.
    """
    named = {"targets_file": settings.targets_file, "direct_file": settings.direct_file}
    yield from _unread(service, {**named, "roots_file": settings.roots_file}, "puller.toml")
    yield from _unseen(service, {"roots_file": settings.roots_file}, "puller.toml")
    written = (settings.state_directory, settings.lock.parent)
    for place in dict.fromkeys(one for one in written if not service.may_write(one)):
        what = f"{service.unit} may not write to {place}, where it keeps what it learns: it "
        what += "installs nothing, whoever else can."
        do = f"systemctl edit {service.unit}, and there: [Service] ReadWritePaths={place}"
        yield Finding("service", Verdict.PROBLEM, "puller.toml", what, do)
    own = service.variables & {"https_proxy", "all_proxy"}
    if proxy is not None and not settings.proxy and not own:
        what = f"The proxy {proxy} stands in this user's environment; {service.unit} has its own, "
        what += "without it."
        do = f'Write it into puller.toml: proxy = "{proxy}"'
        yield Finding("relay", Verdict.WARNING, "puller.toml", what, do)


def _unseen(service: Service, named: dict[str, Path | None], subject: str) -> Iterator[Finding]:
    for name, path in named.items():
        if service.is_blind and path is not None and is_unseen(path):
            what = f"{name} is {path}, which {service.unit} does not see: homes and temporary "
            what += "files are hidden from it."
            do = "Put it below /etc/split-horizon-relay, and name it there."
            yield Finding("service", Verdict.WARNING, subject, what, do)


def _unread(service: Service, named: dict[str, Path | None], subject: str) -> Iterator[Finding]:
    for name, path in named.items():
        if path is not None and not is_unseen(path) and not service.reads(path):
            what = f"{name} is {path}, which {service.unit} may not read: it runs as "
            what += f"{service.account}."
            do = f"chown root:{service.account} {path} && chmod 0640 {path}"
            yield Finding("service", Verdict.PROBLEM, subject, what, do)
