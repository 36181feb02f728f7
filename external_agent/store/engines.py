"""Which engine a database URL means."""

from __future__ import annotations

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from external_agent.store.database import Database
from shared.contract.errors import ConfigurationError


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
