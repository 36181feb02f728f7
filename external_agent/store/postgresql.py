"""PostgreSQL, for several agents over one store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from external_agent.store.database import before_change, count_change
from shared.contract.errors import ConfigurationError, StoreUnavailable

CONNECTIONS: Final = 8
"""As many as there are threads that ask the store at once."""
SPREAD_SECONDS: Final = 3.0
"""Each agent looks once a second for what the others wrote."""
_WRITERS: Final = 0x73_68_72_31
"""Key of the advisory lock that writers take: ``shr1``."""
_STATEMENT_SECONDS: Final = 30
# libpq: a server that is gone without a word is noticed in seconds, not when TCP gives up.
_LOST_PEER: Final = {
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class PostgresqlDatabase:
    """``Database`` over a PostgreSQL server.

    Every transaction that writes takes one advisory lock first, so that they follow one another as
    they do on SQLite, whichever agent they are of: the rules of tokens, leases, generations and the
    event chain rest on that and on nothing else.
    """

    def __init__(self, url: str, *, busy_seconds: float) -> None:
        """
        Args:
            busy_seconds: how long to wait for others that write, or for a connection.

        Raises:
            ConfigurationError: psycopg is missing, the URL holds a password, or the database does
                not sort by code points.
            StoreUnavailable: the server cannot be reached.
        """
        parsed = _without_password(make_url(url))
        options = (
            f"-c lock_timeout={int(busy_seconds * 1000)} "
            f"-c statement_timeout={_STATEMENT_SECONDS * 1000} "
            f"-c idle_in_transaction_session_timeout={2 * _STATEMENT_SECONDS * 1000}"
        )
        try:
            self._engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_size=CONNECTIONS,
                max_overflow=0,
                pool_timeout=busy_seconds,
                pool_pre_ping=True,
                hide_parameters=True,
                isolation_level="READ COMMITTED",
                connect_args={
                    "application_name": "external-agent",
                    "connect_timeout": max(2, int(busy_seconds)),
                    **_LOST_PEER,
                    "options": options,
                },
            )
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "A PostgreSQL database needs the Python package psycopg, which is not installed.",
                do="Install the extra postgresql: requirements/agent-postgresql.txt.",
            ) from error
        self._shown = parsed.set(query={}, username=None).render_as_string(hide_password=True)
        try:
            with self._translated(), self._engine.connect() as connection:
                version = connection.execute(text("SHOW server_version")).scalar()
                self._check_order(connection)
        except BaseException:
            self._engine.dispose()
            raise
        self.spread_seconds = SPREAD_SECONDS
        self.description = f"PostgreSQL {version}, {self._shown}"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that sees one state."""
        with self._translated(), self._engine.connect() as plain:
            connection = plain.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, *, bump: bool = True) -> Iterator[Connection]:
        """One transaction that nobody else writes beside; durable when it returns.

        What is read after the lock is what the writer before has committed: READ COMMITTED takes a
        new snapshot for each statement.
        """
        with self._translated(), self._engine.connect() as connection, connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITERS})
            before_change.get()(connection)
            yield connection
            if bump:
                count_change(connection)

    def close(self) -> None:
        self._engine.dispose()

    def _check_order(self, connection: Connection) -> None:
        """Pages go by the order of ids, which here is that of code points everywhere."""
        # An upper case letter before a lower one, a hyphen that counts: not so in a language.
        query = "SELECT 'B' < 'a' AND 'a-b' < 'aa' AND 'a-b' < 'a.a' AND '~' < U&'\\00e9'"
        if connection.execute(text(query)).scalar() is not True:
            raise ConfigurationError(
                f"The database {self._shown} sorts text by a language, not by code points.",
                do="Make it so: createdb --template template0 --locale C.UTF-8 --owner … NAME",
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(f"The database {self._shown} is too busy.") from error
        except DBAPIError as error:
            reason = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
            raise StoreUnavailable(f"The database {self._shown}: {reason:.300}.") from error
        except SQLAlchemyError as error:
            reason = type(error).__name__
            raise StoreUnavailable(f"The database {self._shown}: {reason}.") from error


def _without_password(parsed: URL) -> URL:
    if parsed.password or any("password" in key.lower() for key in parsed.query):
        raise ConfigurationError(
            "The database URL holds a password, which the settings are no place for.",
            do="Use peer authentication on a Unix socket, or a password file (PGPASSFILE).",
        )
    return parsed
