"""Takes a backup, also while the agent runs: the archive is there as a whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from external_agent.backup.archive import (
    MOST_OCTETS,
    SETTINGS,
    STATE,
    is_certificates,
    may_be_in_state,
    opened,
    root_member,
    write_archive,
)
from external_agent.backup.database_copy import copy_database, database_file
from external_agent.backup.named_files import named_files
from external_agent.relay import relay_tls
from external_agent.release import release
from external_agent.settings import keys
from external_agent.settings.config import Settings
from shared.contract.errors import ConfigurationError, LooseFileMode, StoreUnavailable

_TRIES = 5
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class Taken:
    """
    Attributes:
        size: octets of the archive.
        elsewhere: files that the settings name and that are not in it.
    """

    size: int
    elsewhere: tuple[Path, ...]


def take(settings: Settings, config: Path, target: Path, *, now: int) -> Taken:
    """Write the archive ``target`` with mode 0600.

    Args:
        config: the settings file.
        now: unix seconds.

    Raises:
        ConfigurationError: ``target`` exists, cannot be written, or a key file cannot be read.
        LooseFileMode: a key file is open to others.
        StoreUnavailable: the database cannot be copied.
    """
    database = database_file(settings.database_url)
    if os.path.lexists(target):
        raise _exists(target)
    named = sorted(set(named_files(settings)))
    inside = [path for path in named if _name_in_state(path, settings.state_directory)]
    roots = _roots(path for path in named_files(settings, "ca_root") if path not in inside)
    try:
        text = config.read_bytes()
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        where = error.filename or target.parent
        raise ConfigurationError(f"{where} cannot be used: {error.strerror}.") from error
    try:
        copy, archive = scratch / "database", scratch / "archive"
        _create(copy)
        for _ in range(_TRIES):
            secrets = _secrets(settings.state_directory, inside)
            schema = copy_database(database, copy)
            if secrets == _secrets(settings.state_directory, inside):
                break
        else:
            raise StoreUnavailable("The key files changed each time that they were copied.")
        _create(archive)
        with archive.open("r+b") as file:
            write_archive(
                file,
                {
                    SETTINGS: text,
                    **{STATE + name: content for name, content in secrets.items()},
                    **dict(roots.values()),
                },
                copy,
                release=release(),
                schema=schema,
                made_at=now,
            )
            file.flush()
            os.fsync(file.fileno())
        _read_back(archive, target)
        size = archive.stat().st_size
        _publish(archive, target)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    taken = {*inside, *roots}
    return Taken(size, tuple(path for path in named if path not in taken and path.exists()))


def _roots(paths: Iterable[Path]) -> dict[Path, tuple[str, bytes]]:
    """Return each file of roots with its member: without it the restored agent reaches no CA.

    One that holds anything else, or is called as no member is, is left out.
    """
    found = {}
    for path in paths:
        name = root_member(path)
        if name is not None and path.is_file() and path.stat().st_size <= MOST_OCTETS:
            content = path.read_bytes()
            if is_certificates(content):
                found[path] = name, content
    return found


def _name_in_state(path: Path, state: Path) -> str | None:
    """Return what a file is called in the state directory, if it is one that a backup takes."""
    if not path.is_relative_to(state.absolute()) or not path.is_file():
        return None
    name = str(path.relative_to(state.absolute()))
    return name if may_be_in_state(name) else None


def _secrets(state: Path, named: list[Path]) -> dict[str, bytes]:
    names = [*keys.FILES]
    if (state / keys.NEXT_ACCOUNT_KEY_FILE).exists():
        names.append(keys.NEXT_ACCOUNT_KEY_FILE)
    relay = state / relay_tls.DIRECTORY
    if relay.is_dir():
        found = [f"{relay.name}/{path.name}" for path in relay.iterdir()]
        names += [name for name in found if may_be_in_state(name)]  # or no restore takes it
    names += [name for path in named if (name := _name_in_state(path, state))]
    return {name: _content(state / name) for name in sorted(set(names))}


def _content(path: Path) -> bytes:
    """Return a file; one that others may read is taken only if it holds nothing but certificates.

    Raises:
        LooseFileMode: it holds something else.
    """
    try:
        return keys.read_secret(path)
    except LooseFileMode:
        content = path.read_bytes()
        if is_certificates(content):
            return content
        raise


def _read_back(archive: Path, target: Path) -> None:
    """Read all of it as a restore will.

    Raises:
        ConfigurationError: a restore would refuse it.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with opened(archive) as written:
            written.files()
            written.copy_database(nowhere)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{target} was not made, because no restore would take it: "
            f"{error.what.replace(str(archive), 'the archive')}",
            do="Look at the file that it names; or, if it names none, at the disk.",
        ) from error
    finally:
        os.close(nowhere)


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _publish(archive: Path, target: Path) -> None:
    """Give the finished archive its name; whoever has that name already keeps it."""
    try:
        os.link(archive, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise _exists(target) from None
        archive.rename(target)
    with contextlib.suppress(OSError):  # some file systems cannot
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exists(target: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{target} exists already, and a backup replaces nothing.",
        do="Name another file; one for each day is usual.",
    )
