"""Queries over the audit trail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from external_agent.domain.audit import FIRST, event_hash
from external_agent.store.queries import EVENT_HEAD, Queries, append_event, event_row
from external_agent.store.rows import EventRow, TamperedEvent
from external_agent.store.tables import events, facts

_PAGE = 1000


class TrailQueries(Queries):
    """``EventStore``."""

    def append_event(
        self,
        kind: str,
        *,
        now: int,
        actor: str,
        certificate: str | None = None,
        puller: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> EventRow:
        with self._database.write() as connection:
            return append_event(
                connection,
                kind,
                now=now,
                actor=actor,
                certificate=certificate,
                puller=puller,
                details=details,
            )

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        query = select(events).where(events.c.seq > after).order_by(events.c.seq).limit(limit)
        with self._database.read() as connection:
            return [event_row(row) for row in connection.execute(query)]

    def latest_events(self, limit: int = 50) -> list[EventRow]:
        query = select(events).order_by(events.c.seq.desc()).limit(limit)
        with self._database.read() as connection:
            return [event_row(row) for row in connection.execute(query)][::-1]

    def verify_events(self) -> TamperedEvent | None:
        with self._database.read() as connection:
            head = connection.execute(select(facts).where(facts.c.key == EVENT_HEAD)).one_or_none()
            seq, previous = 0, FIRST
            for row in _all_events(connection):
                fault = _fault(row, seq + 1, previous)
                if fault is not None:
                    return TamperedEvent(seq + 1, fault)
                seq, previous = row.seq, row.hash
            if head is None or (head.number, head.text or FIRST) != (seq, previous):
                return TamperedEvent(seq + 1, "the newest events are missing")
            return None


def _all_events(connection: Connection) -> Iterator[Row[Any]]:
    after: int | None = None
    while True:
        query = select(events).order_by(events.c.seq).limit(_PAGE)
        page = connection.execute(
            query if after is None else query.where(events.c.seq > after)
        ).all()
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].seq


def _fault(row: Row[Any], seq: int, previous: str) -> str | None:
    """Say how one event breaks the chain, if it does."""
    if row.seq != seq:
        return "an event is missing, or one was put in"
    if row.previous_hash != previous:
        return "its link to the event before is broken"
    try:
        details = json.loads(row.details)
        digest = event_hash(
            seq=row.seq,
            at=row.at,
            kind=row.kind,
            actor=row.actor,
            certificate=row.certificate,
            puller=row.puller,
            details=details,
            previous_hash=row.previous_hash,
        )
    except (ValueError, TypeError):
        return "its content is not readable"
    return None if digest == row.hash else "its content was changed"
