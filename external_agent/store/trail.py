"""Queries over the audit trail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from external_agent.facts.audit import FIRST, Chain
from external_agent.records.rows import EventRow, TamperedEvent, TrailEnd
from external_agent.store.queries import (
    EVENT_HEAD,
    EVENT_TAIL,
    Queries,
    add_link,
    event_row,
)
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
            return add_link(
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

    def trail_end(self) -> TrailEnd:
        with self._database.read() as connection:
            return _fact(connection, EVENT_HEAD) or TrailEnd(0, FIRST)

    def verify_events(self, known: TrailEnd | None = None) -> TamperedEvent | None:
        with self._database.read() as connection:
            tail = _fact(connection, EVENT_TAIL) or TrailEnd(0, FIRST)
            chain = Chain(tail.seq, tail.hash)
            said = TrailEnd(0, FIRST)
            for row in _all_events(connection):
                if known == TrailEnd(chain.seq, chain.previous):
                    known = None
                fault = chain.fault(_members(row))
                if fault is not None:
                    return TamperedEvent(chain.seq + 1, fault)
                if row.kind == "events-deleted":
                    said = _said(row)
            end = TrailEnd(chain.seq, chain.previous)
            if _fact(connection, EVENT_HEAD) != end:
                return TamperedEvent(end.seq + 1, "the newest events are missing")
            if said != tail:
                return TamperedEvent(tail.seq, "the oldest events are missing")
            if known not in (None, end):
                return TamperedEvent(known.seq, "the chain does not lead through the known one")
            return None


def _said(row: Row[Any]) -> TrailEnd:
    """Return where the chain begins by the word of the event that says so."""
    details = json.loads(row.details)
    return TrailEnd(details.get("up_to", 0), details.get("hash", FIRST))


def _fact(connection: Connection, key: str) -> TrailEnd | None:
    found = connection.execute(select(facts).where(facts.c.key == key)).one_or_none()
    return None if found is None else TrailEnd(found.number, found.text or FIRST)


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


def _members(row: Row[Any]) -> dict[str, object]:
    members = dict(row._mapping)
    try:
        members["details"] = json.loads(row.details)
    except ValueError:
        members["details"] = None
    return members
