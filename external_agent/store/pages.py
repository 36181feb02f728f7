"""Queries that list things page by page, for the operator API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from external_agent.records.rows import (
    AuthorityRow,
    ChallengeRow,
    ErrorNote,
    EventRow,
    GenerationRow,
    PullerRow,
    ReceiptRow,
)
from external_agent.store.queries import (
    Queries,
    event_row,
    generation_row,
    puller_row,
    read_error,
    receipt_row,
)
from external_agent.store.tables import (
    certificates,
    challenges,
    events,
    generations,
    grants,
    pullers,
    receipts,
)


class PageQueries(Queries):
    """``PageStore``."""

    def puller_page(
        self, *, after: str, limit: int, status: str | None = None, certificate: str | None = None
    ) -> list[PullerRow]:
        query = select(pullers).where(pullers.c.id > after).order_by(pullers.c.id).limit(limit)
        if status is not None:
            query = query.where(pullers.c.status == status)
        if certificate is not None:
            held = select(grants.c.puller).where(grants.c.certificate == certificate)
            query = query.where(pullers.c.id.in_(held))
        with self._database.read() as connection:
            return [puller_row(row) for row in connection.execute(query)]

    def grants_of(self, pullers: Sequence[str]) -> dict[str, tuple[str, ...]]:
        query = (
            select(grants.c.puller, grants.c.certificate)
            .join(certificates, certificates.c.id == grants.c.certificate)
            .where(grants.c.puller.in_(list(pullers)), certificates.c.removed_at.is_(None))
            .order_by(grants.c.certificate)
        )
        found: dict[str, tuple[str, ...]] = dict.fromkeys(pullers, ())
        with self._database.read() as connection:
            for row in connection.execute(query):
                found[row.puller] += (row.certificate,)
        return found

    def receipt_page(
        self,
        *,
        before: int | None,
        limit: int,
        certificate: str | None = None,
        puller: str | None = None,
    ) -> list[tuple[int, ReceiptRow]]:
        wanted = {receipts.c.certificate: certificate, receipts.c.puller: puller}
        query = _newest_first(select(receipts), receipts.c.id, before, limit, wanted)
        with self._database.read() as connection:
            return [(row.id, receipt_row(row)) for row in connection.execute(query)]

    def event_page(
        self,
        *,
        before: int | None,
        limit: int,
        certificate: str | None = None,
        puller: str | None = None,
        kind: str | None = None,
    ) -> list[EventRow]:
        wanted = {
            events.c.certificate: certificate,
            events.c.puller: puller,
            events.c.kind: kind,
        }
        query = _newest_first(select(events), events.c.seq, before, limit, wanted)
        with self._database.read() as connection:
            return [event_row(row) for row in connection.execute(query)]

    def generation_page(
        self, certificate: str, *, before: int | None, limit: int
    ) -> list[GenerationRow]:
        wanted: dict[Any, str | None] = {generations.c.certificate: certificate}
        query = _newest_first(select(generations), generations.c.generation, before, limit, wanted)
        with self._database.read() as connection:
            return [generation_row(row) for row in connection.execute(query)]

    def challenges_of(self, certificate: str) -> list[ChallengeRow]:
        query = (
            select(challenges.c.name, challenges.c.created_at, challenges.c.hits)
            .where(challenges.c.certificate == certificate)
            .order_by(challenges.c.name)
        )
        with self._database.read() as connection:
            return [ChallengeRow(*row) for row in connection.execute(query)]

    def authorities(self) -> list[AuthorityRow]:
        with self._database.read() as connection:
            issued = _last_successes(connection)
            wanted: dict[str, list[ErrorNote | None]] = {}
            query = select(certificates).where(certificates.c.removed_at.is_(None))
            for row in connection.execute(query):
                cas = json.loads(row.cas) if row.cas else [row.directory_url]
                for url in cas:
                    wanted.setdefault(url, [])
                error = read_error(row.last_error) if row.failures else None
                wanted.setdefault(row.directory_url, []).append(error)
        return [
            _authority(url, wanted.get(url, []), issued.get(url))
            for url in sorted({*issued, *wanted})
        ]


def _newest_first(
    query: Any, number: Any, before: int | None, limit: int, wanted: dict[Any, str | None]
) -> Any:
    for column, value in wanted.items():
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        query = query.where(number < before)
    return query.order_by(number.desc()).limit(limit)


def _last_successes(connection: Connection) -> dict[str, int]:
    query = (
        select(generations.c.directory_url, func.max(generations.c.issued_at))
        .where(generations.c.issued_at.is_not(None))
        .group_by(generations.c.directory_url)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _authority(url: str, errors: Sequence[ErrorNote | None], issued_at: int | None) -> AuthorityRow:
    known = [one for one in errors if one is not None]
    last = max(known, key=lambda one: one.at, default=None)
    return AuthorityRow(url, len(errors), len(known), issued_at, last)
