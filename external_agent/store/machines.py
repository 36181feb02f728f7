"""Which installations asked with a puller's key; what follows is decided by ``facts.machines``."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from external_agent.facts.machines import LATELY, remembered, two_machines
from external_agent.records.rows import MachineRow
from external_agent.store.queries import append_event
from external_agent.store.tables import machines, pullers
from shared.contract.wire import Machine


def machines_where(
    connection: Connection, condition: ColumnElement[bool]
) -> defaultdict[str, tuple[MachineRow, ...]]:
    """Return what is remembered, by puller."""
    found: defaultdict[str, tuple[MachineRow, ...]] = defaultdict(tuple)
    for row in connection.execute(select(machines).where(condition)):
        found[row.puller] += (
            MachineRow(row.installation, row.host, row.first_seen, row.last_seen),
        )
    return found


def machines_of(connection: Connection, puller: str) -> tuple[MachineRow, ...]:
    return machines_where(connection, machines.c.puller == puller)[puller]


def note_machine(connection: Connection, puller: Row[Any], machine: Machine, now: int) -> None:
    """Remember who asked, with an event when it shows that there are two.

    Args:
        puller: its row, read in this transaction.
    """
    before = machines_of(connection, puller.id)
    after = remembered(before, machine, now)
    connection.execute(delete(machines).where(machines.c.puller == puller.id))
    connection.execute(
        insert(machines),
        [
            {
                "puller": puller.id,
                "installation": one.installation,
                "host": one.host,
                "first_seen": one.first_seen,
                "last_seen": one.last_seen,
            }
            for one in after
        ],
    )
    pair = two_machines(after, now)
    noted = puller.copy_noted_at
    if pair is None or two_machines(before, now) is not None:
        return
    if noted is None or not 0 <= now - noted < LATELY:
        mine = pullers.c.id == puller.id
        connection.execute(update(pullers).where(mine).values(copy_noted_at=now))
        append_event(
            connection,
            "two-machines",
            now=now,
            actor="relay",
            puller=puller.id,
            details={"hosts": [one.host for one in pair]},
        )
