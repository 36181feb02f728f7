"""The database as queries see it: transactions that read one state, or write beside nobody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Protocol

from sqlalchemy import Connection, update

from external_agent.store.tables import facts

CHANGES = "changes"
before_change: ContextVar[Callable[[Connection], None]] = ContextVar(
    "before_change", default=lambda connection: None
)
"""Called by :meth:`Database.write` in each transaction, before anything else: whoever acts for
somebody decides there again whether they still may (``access.acting_for``)."""


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


def count_change(connection: Connection) -> None:
    """Let others see that something changed."""
    connection.execute(
        update(facts).where(facts.c.key == CHANGES).values(number=facts.c.number + 1)
    )
