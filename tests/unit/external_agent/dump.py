"""Every row of every table, to be compared: what was refused has written nothing at all."""

from __future__ import annotations

from sqlalchemy import select

from external_agent.store.open import SqlStore
from external_agent.store.tables import metadata


def dump_of(store: SqlStore) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows by table, in one order."""
    with store._database.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }
