"""Queries over certificates that pullers get by themselves: told by them, shown to operators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from external_agent.facts import quotas
from external_agent.facts.audit import canonical
from external_agent.records.direct_rows import DirectRow
from external_agent.records.model import PullerStatus
from external_agent.records.rows import ServedRow
from external_agent.store.admission import admit
from external_agent.store.queries import Queries, append_event, grants_held
from external_agent.store.tables import direct_certificates, pullers
from shared.contract.errors import RequestRefused
from shared.contract.wire import DirectReport


class DirectQueries(Queries):
    """``DirectStore``."""

    def record_direct(
        self, puller: str, sent: Sequence[DirectReport], *, now: int
    ) -> dict[int, RequestRefused]:
        refused: dict[int, RequestRefused] = {}
        with self._database.write() as connection:
            row = admit(connection, puller)
            held = _held(connection, puller)
            most = quotas.direct_certificates(grants_held(connection, puller))
            _keep_quota(connection, row, len(held), len(sent), now)
            for place, report in enumerate(sent):
                if report.certificate not in held and len(held) >= most:
                    refused[place] = _too_many(most)
                    continue
                _record(connection, puller, report, now)
                (held.discard if report.outcome == "removed" else held.add)(report.certificate)
        return refused

    def direct_certificates(self) -> list[DirectRow]:
        query = (
            select(direct_certificates, pullers.c.host, pullers.c.status)
            .join(pullers, pullers.c.id == direct_certificates.c.puller)
            .order_by(direct_certificates.c.certificate, direct_certificates.c.puller)
        )
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]


def _held(connection: Connection, puller: str) -> set[str]:
    mine = direct_certificates.c.puller == puller
    return set(connection.execute(select(direct_certificates.c.certificate).where(mine)).scalars())


def _too_many(most: int) -> RequestRefused:
    return RequestRefused(
        f"This puller may report {most} certificates of its own.",
        problem_type="too-many-reports",
    )


def _keep_quota(connection: Connection, puller: Row[Any], held: int, more: int, now: int) -> None:
    """Only the last report of each certificate is kept, so what came lately is counted apart."""
    since, count = puller.reports_since, puller.reports_count
    if not 0 <= now - since < quotas.WINDOW:
        since, count = now, 0
    most = quotas.allowed(max(held, more))
    if count + more > most:
        raise RequestRefused(
            f"More than {most} reports in {quotas.WINDOW} s.",
            retry_after=float(since + quotas.WINDOW - now),
            problem_type="too-many-receipts",
        )
    counted = {"reports_since": since, "reports_count": count + more}
    connection.execute(update(pullers).where(pullers.c.id == puller.id).values(counted))


def _record(connection: Connection, puller: str, report: DirectReport, now: int) -> None:
    here = (direct_certificates.c.puller == puller) & (
        direct_certificates.c.certificate == report.certificate
    )
    found = connection.execute(select(direct_certificates).where(here)).one_or_none()
    if report.outcome == "removed":
        connection.execute(delete(direct_certificates).where(here))
    else:
        values = _values(report, found) | {"at": report.at, "received_at": now}
        if found is None:
            connection.execute(
                insert(direct_certificates).values(
                    puller=puller, certificate=report.certificate, **values
                )
            )
        else:
            connection.execute(update(direct_certificates).where(here).values(**values))
    if _is_news(report, found):
        append_event(
            connection,
            "direct-report",
            now=now,
            actor="relay",
            certificate=report.certificate,
            puller=puller,
            details={
                "names": list(report.names),
                "generation": report.generation,
                "outcome": report.outcome,
                "error": report.error,
                "served": [one.leaf_sha256 for one in report.served],
            },
        )


def _values(report: DirectReport, found: Row[Any] | None) -> dict[str, object]:
    served = canonical([one.members() for one in report.served])
    if report.outcome == "failed" and found is not None:
        served = found.served
    return {
        "names": canonical(list(report.names)),
        "generation": report.generation,
        "not_after": report.not_after,
        "leaf_sha256": report.leaf_sha256,
        "next_renewal": report.next_renewal,
        "outcome": report.outcome,
        "error": report.error,
        "served": served,
    }


def _is_news(report: DirectReport, found: Row[Any] | None) -> bool:
    """The trail tells what changed, not how often it was said."""
    if found is None or report.outcome == "removed":
        return found is not None or report.outcome != "removed"
    after = _values(report, found)
    return any(getattr(found, name) != after[name] for name in after if name != "next_renewal")


def _row(row: Row[Any]) -> DirectRow:
    return DirectRow(
        puller=row.puller,
        host=row.host,
        puller_status=PullerStatus(row.status),
        certificate=row.certificate,
        names=tuple(json.loads(row.names)),
        generation=row.generation,
        not_after=row.not_after,
        leaf_sha256=row.leaf_sha256,
        next_renewal=row.next_renewal,
        outcome=row.outcome,
        error=row.error,
        served=tuple(ServedRow(**one) for one in json.loads(row.served)),
        at=row.at,
        received_at=row.received_at,
    )
