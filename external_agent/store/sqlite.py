"""One database: its connection, its durability, its transactions, and its errors in our words."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from external_agent.store.database import before_change, count_change
from shared.contract.errors import ConfigurationError, LooseFileMode, StoreUnavailable

LEAST_PATIENCE = 0.1  # seconds: another process's short write fails nobody who stood in a queue


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Tell whether this SQLite may corrupt a WAL database that several connections write.

    Versions 3.7.0 to 3.51.2, without the backports 3.44.6 and 3.50.7.
    """
    if version < (3, 7, 0) or version >= (3, 51, 3):
        return False
    fixed = {(3, 44): 6, (3, 50): 7}.get(version[:2])
    return fixed is None or version[2] < fixed


class SqliteDatabase:
    """``Database`` over a SQLite file behind one connection, used by one thread at a time.

    One connection for each process: on SQLite versions with the WAL-reset bug several writers in
    one process are the danger, and a queue in front of one connection is quicker than SQLite's
    own polling for its lock.
    """

    def __init__(self, url: str, *, busy_seconds: float) -> None:
        """
        Raises:
            ConfigurationError: not an SQLite URL with a file; LooseFileMode.
            StoreUnavailable: the file cannot be opened.
        """
        self._path = _file_of(url)
        self._queue, self._patience = threading.Lock(), busy_seconds
        self._identity = _create_private(self._path)
        rollback = has_wal_reset_bug(sqlite3.sqlite_version_info)
        self._pragmas = (
            f"PRAGMA journal_mode={'DELETE' if rollback else 'WAL'}",
            f"PRAGMA synchronous={'EXTRA' if rollback else 'FULL'}",
            "PRAGMA foreign_keys=ON",
        )
        self.spread_seconds = 0.0  # one agent: it tells itself at once
        self.description = (
            f"SQLite {sqlite3.sqlite_version}, journal_mode="
            + ("DELETE, synchronous=EXTRA" if rollback else "WAL, synchronous=FULL")
            + f", {self._path}"
        )
        self._engine = create_engine(
            f"sqlite:///{self._path}",
            poolclass=StaticPool,
            hide_parameters=True,
            connect_args={
                "check_same_thread": False,
                "timeout": busy_seconds,
                "isolation_level": None,
            },
        )
        event.listen(self._engine, "connect", self._on_connect)
        event.listen(self._engine, "begin", _on_begin)

    def _on_connect(self, connection: sqlite3.Connection, _record: object) -> None:
        for pragma in self._pragmas:
            connection.execute(pragma)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that sees one state.

        Raises:
            StoreUnavailable: see the class of the same name.
        """
        with self._turn() as patience, self._translated(), self._engine.connect() as plain:
            connection = plain.execution_options(relay_begin="BEGIN", relay_patience=patience)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, *, bump: bool = True) -> Iterator[Connection]:
        """One transaction that nobody else writes beside; durable when it returns.

        Args:
            bump: whether others are to see that something changed.
        """
        with self._turn() as patience, self._translated(), self._engine.connect() as plain:
            self._refuse_lost_file()
            connection = plain.execution_options(
                relay_begin="BEGIN IMMEDIATE", relay_patience=patience
            )
            with connection.begin():
                before_change.get()(connection)
                yield connection
                if bump:
                    count_change(connection)

    def close(self) -> None:
        with self._queue:
            self._engine.dispose()

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """Wait for the connection; yield the seconds left to wait for another process's lock.

        While another process holds the file, each in the queue would otherwise wait its full time
        after those before it, and the last would answer long after its caller has gone.
        """
        came = time.monotonic()
        with self._queue:
            waited = time.monotonic() - came
            yield max(self._patience - waited, min(self._patience, LEAST_PATIENCE))

    def _refuse_lost_file(self) -> None:
        """A deleted file would go on taking writes that nobody ever sees again."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise StoreUnavailable(f"The database {self._path} is gone.") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise StoreUnavailable(
                f"The database {self._path} is another file than the one opened.",
                do="Restart the agent.",
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise StoreUnavailable(f"The database {self._path}: {error.orig}.") from error
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"The database {self._path}: {type(error).__name__}.") from error


def _on_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if "relay_patience" in options:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={int(options['relay_patience'] * 1000)}")
    connection.exec_driver_sql(options.get("relay_begin", "BEGIN"))


def _file_of(url: str) -> Path:
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise ConfigurationError("The database URL does not parse.") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigurationError(
            "The database URL is not sqlite:///FILE.", do="Write it as sqlite:////var/lib/…"
        )
    return Path(parsed.database).absolute()


def _create_private(path: Path) -> tuple[int, int]:
    """Create the file with mode 0600 if it is not there; return (device, inode)."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(
            f"The database {path} cannot be opened: {error.strerror}."
        ) from error
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"The database {path} is not a regular file.")
    if found.st_mode & 0o077:
        raise LooseFileMode(f"The database {path} has mode {found.st_mode & 0o777:04o}.")
    return found.st_dev, found.st_ino
