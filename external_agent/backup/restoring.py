"""Puts a backup into an empty place: the settings file comes last, so that it means an agent."""

from __future__ import annotations

import contextlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from external_agent.backup.archive import (
    DATABASE,
    ROOTS,
    SETTINGS,
    STATE,
    Archive,
    Statement,
    is_certificates,
    opened,
    root_member,
    unusable,
)
from external_agent.backup.database_copy import database_file, inspect
from external_agent.backup.named_files import named_files
from external_agent.records.rows import Voided
from external_agent.relay import relay_tls
from external_agent.settings import keys
from external_agent.settings.config import Settings, settings_from
from external_agent.store.open import open_store
from external_agent.store.schema import HEAD
from shared.contract.errors import ConfigurationError, RelayError


@dataclass(frozen=True, slots=True)
class Restored:
    """
    Attributes:
        made_at: when the backup was taken, unix seconds.
        release: of the program that made it.
        voided: tokens that were good when the backup was taken, and are not any more.
    """

    settings: Settings
    made_at: int
    release: str
    voided: Voided


def restore(path: Path, config: Path, *, now: int, actor: str) -> Restored:
    """Make this machine the agent of a backup.

    Args:
        config: where the settings file goes.
        now: unix seconds.
        actor: as the audit trail calls whoever does it.

    Raises:
        ConfigurationError: the archive is damaged, of a later release, or something is in its way.
        StoreUnavailable: the database in it is damaged.
    """
    with opened(path) as archive:
        _refuse_newer(path, archive.statement.schema, archive.statement.release)
        files = archive.files()
        settings = _settings(path, files[SETTINGS])
        missing = [name for name in keys.FILES if STATE + name not in files]
        if missing:
            raise unusable(path, f"{', '.join(missing)} is missing")
        database = database_file(settings.database_url)
        _refuse_existing(config, settings, database)
        roots = _roots(path, settings, files)
        try:
            made = _Made()
            try:
                _put_files(files, settings.state_directory, made)
                _put_roots(roots, made)
                _put_database(path, archive, database, made)
                voided = _void_tokens(archive.statement, settings, now=now, actor=actor)
                made.write(config, files[SETTINGS], last=True)
            except BaseException:
                made.undo()
                raise
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename or database} cannot be written: {error.strerror}."
            ) from error
    return Restored(settings, archive.statement.made_at, archive.statement.release, voided)


class _Made:
    """What this run has made, to be taken away again."""

    def __init__(self) -> None:
        self._paths: list[Path] = []

    def directory(self, path: Path) -> None:
        if not os.path.lexists(path):
            self._paths.append(path)
        keys.make_directory(path)

    def file(self, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._paths.append(path)
        return descriptor

    def write(self, path: Path, content: bytes, *, last: bool = False) -> None:
        """Write a file durably; the last one appears as a whole."""
        there = path.with_name(f".{path.name}.{os.getpid()}") if last else path
        there.parent.mkdir(parents=True, exist_ok=True)
        self._paths.append(there)
        keys.write_secret(there, content)
        if last:
            there.rename(path)

    def undo(self) -> None:
        for path in reversed(self._paths):
            with contextlib.suppress(OSError):
                if path.is_dir():
                    path.rmdir()
                else:
                    for end in ("", "-journal", "-wal", "-shm"):
                        path.with_name(path.name + end).unlink(missing_ok=True)


def _put_files(files: dict[str, bytes], state: Path, made: _Made) -> None:
    made.directory(state)
    for name, content in files.items():
        if name.startswith(STATE):
            there = state / name.removeprefix(STATE)
            if there.parent != state:
                made.directory(state / relay_tls.DIRECTORY)
            made.write(there, content)
    keys.load_keys(state)


def _roots(path: Path, settings: Settings, files: dict[str, bytes]) -> dict[Path, bytes]:
    """Return the files of roots that are to be made.

    Raises:
        ConfigurationError: one is not named in the settings, or holds anything else; or another
            file has its name.
    """
    named = {
        member: root for root in named_files(settings, "ca_root") if (member := root_member(root))
    }
    found = {}
    for name in (one for one in files if one.startswith(f"{ROOTS}/")):
        if name not in named or not is_certificates(files[name]):
            raise unusable(path, f"{name!r:.80} is no file of roots that its settings name")
        root = named[name]
        if not os.path.lexists(root):
            found[root] = files[name]
        elif not root.is_file() or root.read_bytes() != files[name]:
            raise _in_the_way(root)
    return found


def _put_roots(roots: dict[Path, bytes], made: _Made) -> None:
    for root, content in roots.items():
        made.write(root, content)
        root.chmod(0o644)


def _put_database(path: Path, archive: Archive, database: Path, made: _Made) -> None:
    descriptor = made.file(database)
    try:
        archive.copy_database(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _refuse_newer(path, inspect(database), archive.statement.release)


def _void_tokens(backup: Statement, settings: Settings, *, now: int, actor: str) -> Voided:
    store = open_store(settings.database_url)
    try:
        return store.note_restored(backup.made_at, backup.release, now=now, actor=actor)
    finally:
        store.close()


def _settings(path: Path, content: bytes) -> Settings:
    source = f"{SETTINGS} of {path}"
    try:
        data = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise unusable(path, f"its settings do not parse ({error})") from error
    try:
        return settings_from(data, source=source)
    except RelayError as error:
        raise ConfigurationError(
            error.what, do="Restore with the release that made the backup, then upgrade."
        ) from error


def _refuse_newer(path: Path, schema: str, release: str) -> None:
    if schema > HEAD:
        raise ConfigurationError(
            f"The {DATABASE} of {path} has schema {schema}, which is newer than this release "
            f"knows ({HEAD}).",
            do=f"Install release {release} or a later one, which made it, and restore with that.",
        )


def _refuse_existing(config: Path, settings: Settings, database: Path) -> None:
    state = settings.state_directory
    beside = [database.with_name(database.name + end) for end in ("", "-journal", "-wal", "-shm")]
    in_state = sorted(state.iterdir()) if state.is_dir() else []
    there = [one for one in (config, *beside, *in_state) if os.path.lexists(one)]
    if there:
        raise _in_the_way(there[0])


def _in_the_way(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} exists already, and a restore replaces nothing.",
        do="Stop the agent and move its settings file and state directory away, and roots beside "
        "it; keep them until the restored one has proved itself.",
    )
