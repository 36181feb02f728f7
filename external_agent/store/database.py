"""The database as queries see it: transactions that read one state, or write beside nobody."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from external_agent.store.tables import facts
from shared.contract.errors import ConfigurationError

CHANGES = "changes"


class Database(Protocol):
    """One database of whichever engine. Methods may raise ``StoreUnavailable``."""

    description: str
    spread_seconds: float
    """After so long every agent over this database has looked at what was written."""

    def read(self) -> AbstractContextManager[Connection]:
        """One transaction that sees one state."""

    def write(self, *, bump: bool = True) -> AbstractContextManager[Connection]:
        """One transaction that nobody else writes beside; durable when it returns.

        Args:
            bump: whether others are to see that something changed.
        """

    def close(self) -> None: ...


def open_database(url: str, *, busy_seconds: float) -> Database:
    """Return the database of a SQLAlchemy URL: ``sqlite:////FILE`` or ``postgresql://…``.

    Raises:
        ConfigurationError: another URL, or one with a password in it; LooseFileMode.
        StoreUnavailable: it cannot be opened.
    """
    try:
        backend = make_url(url).get_backend_name()
    except SQLAlchemyError as error:
        raise ConfigurationError("The database URL does not parse.") from error
    if backend == "postgresql":
        from external_agent.store.postgresql import PostgresqlDatabase

        return PostgresqlDatabase(url, busy_seconds=busy_seconds)
    from external_agent.store.sqlite import SqliteDatabase

    return SqliteDatabase(url, busy_seconds=busy_seconds)


def count_change(connection: Connection) -> None:
    """Let others see that something changed."""
    connection.execute(
        update(facts).where(facts.c.key == CHANGES).values(number=facts.c.number + 1)
    )
