"""Files that an administrator wrote or named: read only if no other account could change them.

Settings name commands and paths, roots say who is believed, keys who we are. All are looked at in
the same way: owner and mode of the file, and of every directory and link on the way to it (as
OpenSSH looks at ``authorized_keys``). Only the standard library: the quiet path of ``pull`` comes
through here.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Final

from shared.contract.errors import ConfigurationError, LooseFileMode

SECRET: Final = 0o077
"""Mode bits that a file of secrets must not have; the service's own group may read it."""
PUBLIC: Final = 0o022
"""Mode bits that no file may have."""
ACCOUNTS: Final = ("external-agent", "internal-puller")
"""Accounts of our services (deploy/systemd/sysusers.conf); root believes what is theirs, too."""
MOST_OCTETS: Final = 1 << 20
_MOST_LINKS: Final = 40


def read_trusted(
    path: Path, what: str, *, mask: int = PUBLIC, commands: bool = False, most: int = MOST_OCTETS
) -> bytes:
    """Return the content of a file.

    Args:
        what: how errors call it, such as ``TSIG key file``.
        mask: :data:`SECRET` or :data:`PUBLIC`.
        commands: it names commands, which root may run: then only root and the account that reads
            it may own it, and none of our services.
        most: octets.

    Raises:
        ConfigurationError: missing, unreadable, too large, not a regular file.
        LooseFileMode: another account could change it, or read it if it is secret.
    """
    content = find_trusted(path, what, mask=mask, commands=commands, most=most)
    if content is None:
        raise ConfigurationError(f"There is no {what} {path}.")
    return content


def find_trusted(
    path: Path, what: str, *, mask: int = PUBLIC, commands: bool = False, most: int = MOST_OCTETS
) -> bytes | None:
    """Return the content of a file that may be missing; otherwise as :func:`read_trusted`."""
    check = _Check(path, what, mask, commands)
    try:
        descriptor = check.open()
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"The {what} {path} cannot be read: {error.strerror}.") from error
    if len(content) > most:
        raise ConfigurationError(f"The {what} {path} is larger than {most} octets.")
    return content


def check_trusted(path: Path, what: str, *, mask: int = PUBLIC) -> None:
    """Look at a file that a library opens by its name. Raises as :func:`read_trusted`."""
    read_trusted(path, what, mask=mask, most=MOST_OCTETS * 16)


class _Check:
    """Walks to one file, and looks at everything on the way."""

    def __init__(self, path: Path, what: str, mask: int, commands: bool) -> None:
        self._path, self._what, self._mask = path, what, mask
        self._accounts = () if commands else ACCOUNTS

    def open(self) -> int:
        """Return a descriptor of the file. Raises ``OSError`` and as :func:`read_trusted`."""
        place = self._walk()
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"The {self._what} {self._path} is not a regular file.")
            self._check_owner(place, status, "")
            self._check_file(place, status)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _walk(self) -> str:
        """Return the file's place, links followed; each directory and link was looked at."""
        left = [part for part in os.path.abspath(self._path.parent).split("/") if part]  # noqa: PTH100 - what Path.resolve would follow unseen
        left.append(self._path.name)
        place, links = "/", 0
        self._check_directory(place, os.stat(place))  # noqa: PTH116
        while left:
            part = left.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                place = os.path.dirname(place)  # noqa: PTH120
                continue
            following = os.path.join(place, part)  # noqa: PTH118
            status = os.lstat(following)
            if stat.S_ISLNK(status.st_mode):
                self._check_owner(following, status, "the link ")
                links += 1
                if links > _MOST_LINKS:
                    raise ConfigurationError(f"{self._path} leads through too many links.")
                target = os.readlink(following)  # noqa: PTH115
                left[:0] = target.split("/")
                place = "/" if target.startswith("/") else place
                continue
            if any(left):
                self._check_directory(following, status)
            place = following
        return place

    def _check_directory(self, place: str, status: os.stat_result) -> None:
        self._check_owner(place, status, "its directory ")
        if status.st_mode & stat.S_ISVTX:
            return  # in a place like /tmp only its owner moves a file away; each owner is looked at
        loose = status.st_mode & PUBLIC
        if loose == stat.S_IWGRP and _is_private(status.st_gid, status.st_uid):
            return
        if loose:
            self._refuse(
                f"its directory {place} has mode {stat.S_IMODE(status.st_mode):04o}",
                f"chmod go-w {shlex.quote(place)}",
            )

    def _check_owner(self, place: str, status: os.stat_result, kind: str) -> None:
        if status.st_uid in (0, os.geteuid()):
            return
        owner = _account(status.st_uid)
        if os.geteuid() == 0 and owner in self._accounts:
            return
        wanted = "root" if os.geteuid() == 0 else _account(os.geteuid())
        self._refuse(
            f"{kind + place if kind else 'it'} belongs to the account {owner}",
            f"chown {'-h ' if stat.S_ISLNK(status.st_mode) else ''}{wanted} {shlex.quote(place)}",
        )

    def _check_file(self, place: str, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode)
        if mode & PUBLIC:
            self._refuse(f"it has mode {mode:04o}", f"chmod go-w {shlex.quote(place)}")
        group = stat.S_IRGRP if _is_of_service(status.st_gid) else 0
        if mode & self._mask & ~group:
            kept = 0o600 | (group if status.st_gid else 0)  # the service goes on reading it
            raise LooseFileMode(
                f"The {self._what} {self._path} has mode {mode:04o}, so others can reach it.",
                do=f"chmod {kept:04o} {shlex.quote(place)}",
            )

    def _refuse(self, why: str, command: str) -> None:
        raise LooseFileMode(
            f"The {self._what} {self._path} can be changed by other users: {why}.", do=command
        )


def _is_private(gid: int, owner: int) -> bool:
    """Tell whether a group holds nobody but root, or nobody but the owner (user private groups)."""
    return _only_members(gid, ("root", _account(owner)))


def _is_of_service(gid: int) -> bool:
    """Tell whether a group holds nobody but one of our services, or root (LoadCredential=)."""
    return _only_members(gid, ("root", *ACCOUNTS))


def _only_members(gid: int, names: tuple[str, ...]) -> bool:
    import grp

    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name in names and set(group.gr_mem) <= {group.gr_name}


def _account(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
