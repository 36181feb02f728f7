"""Queries over dns-persist-01 records: what the last look at each came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from external_agent.facts.audit import canonical
from external_agent.facts.persist import Seen, digest
from external_agent.records.rows import PersistRow
from external_agent.store.queries import Queries, append_event
from external_agent.store.tables import certificates, persist_records
from shared.acme.dns_persist import Offer

CHALLENGE = "dns-persist-01"


class PersistQueries(Queries):
    """``PersistStore``."""

    def persist_records(self) -> list[PersistRow]:
        with self._database.read() as connection:
            return wanted_records(connection)

    def record_persist_look(self, certificate: str, name: str, offer: Offer, seen: Seen) -> None:
        with self._database.write() as connection:
            _record(connection, certificate, name, offer, seen)


def wanted_records(
    connection: Connection, which: ColumnElement[bool] | None = None
) -> list[PersistRow]:
    """Return what ``PersistStore.persist_records`` does, in a transaction; or some of it."""
    query = (
        select(persist_records, certificates.c.names)
        .join(certificates, certificates.c.id == persist_records.c.certificate)
        .where(certificates.c.removed_at.is_(None), certificates.c.challenge == CHALLENGE)
        .order_by(persist_records.c.certificate, persist_records.c.name)
    )
    if which is not None:
        query = query.where(which)
    rows = [(row, json.loads(row.names)) for row in connection.execute(query)]
    return [_row(row, names) for row, names in rows if _concerns(row.name, names)]


def _concerns(name: str, names: Sequence[str]) -> bool:
    return name in names or f"*.{name}" in names


def _record(connection: Connection, certificate: str, name: str, offer: Offer, seen: Seen) -> None:
    known = connection.execute(
        select(certificates.c.names).where(
            certificates.c.id == certificate, certificates.c.removed_at.is_(None)
        )
    ).one_or_none()
    if known is None or not _concerns(name, json.loads(known.names)):
        return
    here = (persist_records.c.certificate == certificate) & (persist_records.c.name == name)
    found = connection.execute(select(persist_records).where(here)).one_or_none()
    kept, news = digest(None if found is None else _seen(found), seen)
    values = {"offer": canonical(asdict(offer)), **asdict(kept)}
    if found is None:
        connection.execute(
            insert(persist_records).values(certificate=certificate, name=name, **values)
        )
    else:
        connection.execute(update(persist_records).where(here).values(**values))
    for one in news:
        append_event(
            connection,
            one.kind,
            now=seen.looked_at,
            actor="agent",
            certificate=certificate,
            details={"name": name, **one.details},
        )


def _seen(row: Row[Any]) -> Seen:
    return Seen(row.verdict, row.words, row.until, row.looked_at, row.warned_days)


def _row(row: Row[Any], names: Sequence[str]) -> PersistRow:
    members = json.loads(row.offer)
    offer = Offer(
        account_url=members["account_url"],
        thumbprint=members["thumbprint"],
        issuers=tuple(members["issuers"]),
        hash_prefix=members["hash_prefix"],
        account_uris=tuple(members["account_uris"]),
    )
    return PersistRow(row.certificate, row.name, f"*.{row.name}" in names, offer, _seen(row))
