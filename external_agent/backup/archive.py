"""The archive of a backup: a tar whose first member says what else is in it.

Members: ``split-horizon-relay-backup.json`` (the statement), ``settings.toml``, the key files
under ``state/``, roots of CAs that the settings name under ``roots/`` with their whole paths, and
``database.sqlite3``. Nothing is believed that the statement does not say.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.contract import strict_json
from shared.contract.errors import ConfigurationError

FORMAT = 1
STATEMENT = "split-horizon-relay-backup.json"
SETTINGS = "settings.toml"
STATE = "state/"
ROOTS = "roots"
DATABASE = "database.sqlite3"
MOST_OCTETS = 1 << 20
"""Of each file but the database."""
_MOST_FILES = 200
_MOST_DATABASE = 1 << 42
_STATE_FILE = re.compile(r"state/(?:relay-tls/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_ROOT_FILE = re.compile(r"roots(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){1,12}")
_LONGEST_NAME = 600
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """
    Attributes:
        size: octets.
        sha256: hex.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Statement:
    """
    Attributes:
        release: of the program that made the backup.
        schema: revision of the database.
        made_at: unix seconds.
    """

    release: str
    schema: str
    made_at: int
    members: tuple[Member, ...]

    def to_bytes(self) -> bytes:
        members = [
            {"name": one.name, "size": one.size, "sha256": one.sha256} for one in self.members
        ]
        return strict_json.encode(
            {
                "format": FORMAT,
                "release": self.release,
                "schema": self.schema,
                "made_at": self.made_at,
                "members": members,
            }
        )


def may_be_in_state(name: str) -> bool:
    """Tell whether an archive takes a file that has this path in the state directory."""
    return _STATE_FILE.fullmatch(STATE + name) is not None


def root_member(path: Path) -> str | None:
    """Return what a file of roots is called in an archive; ``None`` for one that it does not take.

    Args:
        path: absolute.
    """
    name = ROOTS + str(path)
    return name if _ROOT_FILE.fullmatch(name) and len(name) <= _LONGEST_NAME else None


def is_certificates(content: bytes) -> bool:
    """Tell whether a file holds certificates in PEM, and no key."""
    return content.lstrip().startswith(_CERTIFICATE) and b"PRIVATE KEY" not in content


def write_archive(
    file: IO[bytes],
    files: Mapping[str, bytes],
    database: Path,
    *,
    release: str,
    schema: str,
    made_at: int,
) -> None:
    """Write the whole archive.

    Args:
        files: every member but statement and database.
        database: a file that nobody writes to.

    Raises:
        OSError: it cannot be written.
    """
    with database.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        size = source.tell()
        members = [
            *(
                Member(name, len(content), hashlib.sha256(content).hexdigest())
                for name, content in sorted(files.items())
            ),
            Member(DATABASE, size, digest),
        ]
        statement = Statement(release, schema, made_at, tuple(members)).to_bytes()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, STATEMENT, len(statement), io.BytesIO(statement), made_at)
            for name, content in sorted(files.items()):
                _add(tar, name, len(content), io.BytesIO(content), made_at)
            source.seek(0)
            _add(tar, DATABASE, size, source, made_at)


def _add(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes], at: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, at
    tar.addfile(member, content)


class Archive:
    """An archive whose statement is acceptable; its members come in the order they were written."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self._path, self._tar = path, tar
        self.statement = _read_statement(path, self._content(self._next(STATEMENT), MOST_OCTETS))

    def files(self) -> dict[str, bytes]:
        """Read every member but the database, which comes last.

        Raises:
            ConfigurationError: one is missing, of another size, or was changed.
        """
        found = {}
        for one in self.statement.members[:-1]:
            content = self._content(self._next(one.name), MOST_OCTETS)
            self._check(one, len(content), hashlib.sha256(content).hexdigest())
            found[one.name] = content
        return found

    def copy_database(self, descriptor: int) -> None:
        """Write the database to an open file; :meth:`files` comes before.

        Raises:
            ConfigurationError: it is missing, of another size, or was changed. OSError.
        """
        wanted = self.statement.members[-1]
        source = self._tar.extractfile(self._next(wanted.name))
        assert source is not None  # a regular file
        digest, size = hashlib.sha256(), 0
        with os.fdopen(descriptor, "wb", closefd=False) as target:
            while piece := source.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                target.write(piece)
        self._check(wanted, size, digest.hexdigest())
        if self._tar.next() is not None:
            raise unusable(self._path, "it holds more than it says")

    def _next(self, name: str) -> tarfile.TarInfo:
        member = self._tar.next()
        if member is None or member.name != name or not member.isreg():
            raise unusable(self._path, f"the file {name} is not where it belongs")
        return member

    def _content(self, member: tarfile.TarInfo, most: int) -> bytes:
        source = self._tar.extractfile(member) if member.size <= most else None
        if source is None:
            raise unusable(self._path, f"{member.name} is larger than it can be")
        return source.read()

    def _check(self, wanted: Member, size: int, digest: str) -> None:
        if (wanted.size, wanted.sha256) != (size, digest):
            raise unusable(self._path, f"{wanted.name} is not what was put into it")


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an archive and check what it says of itself.

    Raises:
        ConfigurationError: it cannot be read, is none, or is of a later format.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            yield Archive(path, tar)
    except tarfile.TarError as error:
        raise unusable(path, f"it is damaged, or no tar file ({error})") from error
    except EOFError as error:
        raise unusable(path, "its end is missing") from error
    except IsADirectoryError as error:
        raise unusable(path, "it is a directory") from error
    except FileNotFoundError as error:
        if error.filename != str(path):
            raise
        raise ConfigurationError(f"There is no file {path}.") from error


def unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is no backup that can be restored: {why}.",
        do="Give a file that external-agent backup wrote, or an older one of them.",
    )


def _read_statement(path: Path, content: bytes) -> Statement:
    told = strict_json.decode_object(
        content, f"The statement of {path}", max_size=MOST_OCTETS, error=ConfigurationError
    )
    if (number := told.integer("format")) != FORMAT:
        raise ConfigurationError(
            f"{path} has format {number}; this release reads format {FORMAT}.",
            do=f"Restore it with the release that made it: {told.text('release', max_length=40)}.",
        )
    statement = Statement(
        told.text("release", max_length=40),
        told.text("schema", max_length=40),
        told.integer("made_at"),
        told.objects("members", _read_member, max_items=_MOST_FILES),
    )
    told.nothing_left()
    names = [one.name for one in statement.members]
    if len(set(names)) != len(names) or SETTINGS not in names or names[-1:] != [DATABASE]:
        raise unusable(path, "its list of members is not one of a backup")
    for one in statement.members:
        most = _MOST_DATABASE if one.name == DATABASE else MOST_OCTETS
        known = one.name in (SETTINGS, DATABASE) or _may_be_there(one.name)
        if not known or one.size > most:
            raise unusable(path, f"{one.name!r:.80} is not what a backup holds")
    return statement


def _may_be_there(name: str) -> bool:
    return bool(_STATE_FILE.fullmatch(name) or _ROOT_FILE.fullmatch(name))


def _read_member(told: strict_json.Members) -> Member:
    return Member(
        told.text("name", max_length=_LONGEST_NAME), told.integer("size"), told.hex_digest("sha256")
    )
