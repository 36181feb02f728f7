"""One agent for each module; every test finds it as it was at first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import delete, insert, select

from external_agent.store.database import CHANGES
from external_agent.store.open import SqlStore
from external_agent.store.tables import facts, metadata
from tests.unit.external_agent.harness import CERTIFICATE, OTHER, START, RunningAgent, running_agent


class Snapshot:
    """Every row of a store, to be put back."""

    def __init__(self, store: SqlStore) -> None:
        self._database = store._database
        with self._database.read() as connection:
            self._rows = {
                table: [dict(row._mapping) for row in connection.execute(select(table))]
                for table in metadata.sorted_tables
            }

    def restore(self) -> None:
        """Put the rows back; the counter of changes goes on, as it does for other processes."""
        with self._database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                kept = facts.c.key != CHANGES if table is facts else None
                wipe = delete(table)
                connection.execute(wipe if kept is None else wipe.where(kept))
            for table, rows in self._rows.items():
                for row in rows:
                    if table is not facts or row["key"] != CHANGES:
                        connection.execute(insert(table).values(row))


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with running_agent(tmp_path_factory.mktemp("shared"), CERTIFICATE, OTHER) as one:
        yield one


@pytest.fixture(scope="module")
def snapshot(shared_agent: RunningAgent) -> Snapshot:
    return Snapshot(shared_agent.store)


@pytest.fixture
def running(shared_agent: RunningAgent, snapshot: Snapshot) -> RunningAgent:
    """An agent that wants two certificates and knows nobody."""
    snapshot.restore()
    shared_agent.clock.now = START
    return shared_agent


@pytest.fixture
def own_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One that the test may stop."""
    with running_agent(tmp_path_factory.mktemp("own"), CERTIFICATE) as one:
        yield one
