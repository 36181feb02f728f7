"""A consistent copy of the SQLite database while others write to it, and its inspection."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from shared.contract.errors import ConfigurationError, StoreUnavailable

SECONDS = 60.0
"""How long others may keep the database from being copied."""


def database_file(url: str) -> Path:
    """Return the file of an SQLite URL.

    Raises:
        ConfigurationError: another database, which has tools of its own for this.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("The database URL does not parse.") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigurationError(
            f"The database is {parsed.get_backend_name()}, not SQLite.",
            do="Back it up with its own tools (pg_dump); copy the settings file and the state "
            'directory besides. See "Backup and restore" in docs/operations.md.',
        )
    return Path(parsed.database).absolute()


def copy_database(source: Path, target: Path) -> str:
    """Copy by SQLite's backup API into an empty file, and return the copy's schema.

    Raises:
        StoreUnavailable: locked for too long, damaged, gone, or the disk is full.
    """
    uri = f"file:{quote(str(source))}?mode=rw"
    deadline = time.monotonic() + SECONDS

    def watch(_status: int, _remaining: int, _total: int) -> None:
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"The database {source} was locked for {SECONDS:.0f} s.")

    try:
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=min(5.0, SECONDS))) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new, progress=watch)
            new.execute("PRAGMA journal_mode=DELETE")  # so that it is one file
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The database {source} cannot be copied: {error}.") from error
    return inspect(target)


def inspect(path: Path) -> str:
    """Check a database that nobody uses, and return its schema.

    Raises:
        StoreUnavailable: it is damaged, or none of ours.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"The database {path} cannot be read: {error}.", do="Take an older backup."
        ) from error
    if verdict != "ok" or row is None:
        raise StoreUnavailable(
            f"The database {path} is damaged: {verdict}.", do="Take an older backup."
        )
    return str(row[0])
