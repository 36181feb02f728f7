"""Deletes what is too old to be of use: events, receipts, attempts that failed.

The audit trail stays a chain: where it begins is kept (``EVENT_TAIL``), and said by an event of its
own, so that a beginning cut off by hand does not pass for one cut off by us.
"""

from __future__ import annotations

from itertools import takewhile

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.sql import Subquery

from external_agent.records.model import AttemptState
from external_agent.records.rows import Deleted
from external_agent.store.queries import EVENT_TAIL, Queries, append_event
from external_agent.store.tables import events, facts, generations, receipts

_MOST_EVENTS = 5000
_HOUSEKEEPING = "housekeeping"


class RetentionQueries(Queries):
    """``RetentionStore``."""

    def housekeeping_at(self) -> int:
        with self._database.read() as connection:
            query = select(facts.c.number).where(facts.c.key == _HOUSEKEEPING)
            return int(connection.execute(query).scalar() or 0)

    def delete_older_than(self, before: int, *, now: int) -> Deleted:
        with self._database.write(bump=False) as connection:
            done = Deleted(
                events=_delete_events(connection, before, now),
                receipts=_delete_receipts(connection, before),
                attempts=_delete_attempts(connection, before),
            )
            _keep_fact(connection, _HOUSEKEEPING, now, "")
            return done


def _delete_events(connection: Connection, before: int, now: int) -> int:
    """Cut off the beginning of the chain, as far as every event there is old enough."""
    page = (
        select(events.c.seq, events.c.at, events.c.hash).order_by(events.c.seq).limit(_MOST_EVENTS)
    )
    old = list(takewhile(lambda row: row.at < before, connection.execute(page)))
    if not old:
        return 0
    last = old[-1]
    connection.execute(delete(events).where(events.c.seq <= last.seq))
    _keep_fact(connection, EVENT_TAIL, last.seq, last.hash)
    append_event(
        connection,
        "events-deleted",
        now=now,
        actor="agent",
        details={"up_to": last.seq, "hash": last.hash},
    )
    return len(old)


def _delete_receipts(connection: Connection, before: int) -> int:
    """Keep the newest of each puller and certificate, and the newest that says ``installed``."""
    newest, installed = _newest_receipts(None), _newest_receipts("installed")
    found = connection.execute(
        delete(receipts).where(
            receipts.c.received_at < before,
            receipts.c.id.not_in(select(newest.c.id)),
            receipts.c.id.not_in(select(installed.c.id)),
        )
    )
    return found.rowcount


def _newest_receipts(outcome: str | None) -> Subquery:
    query = select(func.max(receipts.c.id).label("id"))
    if outcome is not None:
        query = query.where(receipts.c.outcome == outcome)
    return query.group_by(receipts.c.certificate, receipts.c.puller).subquery()


def _delete_attempts(connection: Connection, before: int) -> int:
    """Issued generations stay: no key that was certified once may be certified again."""
    over = [str(AttemptState.FAILED), str(AttemptState.ABANDONED)]
    found = connection.execute(
        delete(generations).where(generations.c.state.in_(over), generations.c.prepared_at < before)
    )
    return found.rowcount


def _keep_fact(connection: Connection, key: str, number: int, text: str) -> None:
    changed = connection.execute(
        update(facts).where(facts.c.key == key).values(number=number, text=text)
    )
    if not changed.rowcount:
        connection.execute(insert(facts).values(key=key, number=number, text=text))
