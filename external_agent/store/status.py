"""The query behind ``status``: what is wanted, issued, pulled, installed and really served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, func, literal, null, select, true

from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.facts.serving import is_served
from external_agent.records.model import UNFINISHED, AttemptState, PullerStatus
from external_agent.records.rows import (
    CertificateRow,
    CertificateStatus,
    CsrRow,
    DeliveryStatus,
    GenerationRow,
    PersistRow,
    PullerRow,
    ReceiptRow,
)
from external_agent.store.csr_rows import csr_row, waiting_csrs
from external_agent.store.machines import machines_where
from external_agent.store.persist import wanted_records
from external_agent.store.queries import (
    Queries,
    certificate_row,
    generation_row,
    puller_row,
    receipt_row,
)
from external_agent.store.renewal_info import all_advice
from external_agent.store.tables import (
    bundles,
    certificates,
    csrs,
    generations,
    grants,
    machines,
    persist_records,
    pullers,
    receipts,
    windows,
)
from shared.contract.errors import KeyOriginRefused

Pair = tuple[str, str]
Within = Callable[[Any], ColumnElement[bool]]
"""Says of a column of certificate ids which are meant."""


class StatusQueries(Queries):
    """``CertificateStore.status``."""

    def status(
        self, now: int, *, after: str = "", limit: int | None = None, only: str | None = None
    ) -> list[CertificateStatus]:
        query = (
            select(certificates)
            .where(certificates.c.removed_at.is_(None), certificates.c.id > after)
            .order_by(certificates.c.id)
            .limit(limit)
        )
        if only is not None:
            query = query.where(certificates.c.id == only)
        with self._database.read() as connection:
            rows = [certificate_row(row) for row in connection.execute(query)]
            everything = not after and limit is None and only is None
            facts = _Facts(connection, None if everything or not rows else rows)
        return [facts.of(row, now) for row in rows]


class _Facts:
    """Everything needed for some certificates, in a handful of queries.

    Args:
        rows: neighbours in the order of ids, so that each query reads one stretch of an index;
            ``None`` for all there are.
    """

    def __init__(self, connection: Connection, rows: Sequence[CertificateRow] | None) -> None:
        def within(column: Column[str]) -> ColumnElement[bool]:
            return true() if rows is None else column.between(rows[0].id, rows[-1].id)

        issued = str(AttemptState.ISSUED)
        known = select(csrs).where(within(csrs.c.certificate))
        waiting = waiting_csrs().where(within(csrs.c.certificate))
        self._issued = _newest_generations(connection, [issued], within)
        self._attempts = _newest_generations(connection, sorted(map(str, UNFINISHED)), within)
        self._granted = _granted_pullers(connection, within)
        asked = select(grants.c.puller).where(within(grants.c.certificate))
        self._machines = machines_where(connection, machines.c.puller.in_(asked))
        self._csrs = {row.certificate: csr_row(row) for row in connection.execute(known)}
        self._csrs_waiting = {row.certificate for row in connection.execute(waiting)}
        self._offered = _newest_bundles(connection, within, fetched=False)
        self._pulled = _newest_bundles(connection, within, fetched=True)
        self._last_receipt = _last_receipts(connection, None, within)
        self._last_installed = _last_receipts(connection, "installed", within)
        self._persist: defaultdict[str, list[PersistRow]] = defaultdict(list)
        for record in wanted_records(connection, within(persist_records.c.certificate)):
            self._persist[record.certificate].append(record)
        self._advice = all_advice(connection, within(windows.c.certificate))

    def of(self, row: CertificateRow, now: int) -> CertificateStatus:
        issued = self._issued.get(row.id)
        return CertificateStatus(
            certificate=row,
            issued=issued,
            attempt=self._attempts.get(row.id),
            persist=tuple(self._persist.get(row.id, ())),
            deliveries=tuple(self._delivery(row.id, one, issued) for one in self._granted[row.id]),
            waits_for=self._waits_for(row, issued, now),
            csr=self._csrs.get(row.id),
            csr_waits=row.id in self._csrs_waiting,
            advice=self._advice.get(row.id),
        )

    def _delivery(
        self, certificate: str, puller: PullerRow, issued: GenerationRow | None
    ) -> DeliveryStatus:
        key = (puller.id, certificate)
        offered, pulled = self._offered.get(key), self._pulled.get(key)
        last, installed = self._last_receipt.get(key), self._last_installed.get(key)
        if last is not None and last.outcome == "removed":
            installed = None  # what is left there is nobody's target
        served = () if last is None else last.served
        matches = (
            None
            if last is None or issued is None
            else is_served(served, issued.leaf_sha256, last.outcome, last.error)
        )
        return DeliveryStatus(
            puller=puller.id,
            host=puller.host,
            puller_status=puller.status,
            last_seen_at=puller.last_seen_at,
            offered=0 if offered is None else offered.generation,
            pulled=0 if pulled is None else pulled.generation,
            pulled_at=None if pulled is None else pulled.first_fetched_at,
            installed=0 if installed is None else installed.generation,
            installed_at=None if installed is None else installed.at,
            served=served,
            served_at=None if last is None or (not served and matches is None) else last.at,
            served_matches=matches,
            last_receipt=last,
            machines=self._machines[puller.id],
        )

    def _waits_for(self, row: CertificateRow, issued: GenerationRow | None, now: int) -> str:
        granted = self._granted[row.id]
        refusing = self._refuses_our_key(row, granted, issued)
        if refusing is not None:
            return (
                f"a command on {refusing.host}: internal-puller target change {row.id} "
                "--key-origin any; until then it takes no key that is made here"
            )
        if not row.renewal_wanted and row.due_at is not None and row.due_at > now:
            return ""
        if row.id == RELAY_CERTIFICATE:
            return _waits_for_pause(row, now)
        active = [puller for puller in granted if puller.status == PullerStatus.ACTIVE]
        if not active:
            return "a puller: no key is made before somebody can open it"
        if row.key_origin == "puller" and row.id not in self._csrs_waiting:
            return _waits_for_csr(self._csrs.get(row.id), active[0].host)
        return _waits_for_pause(row, now)

    def _refuses_our_key(
        self, row: CertificateRow, granted: Iterable[PullerRow], issued: GenerationRow | None
    ) -> PullerRow | None:
        """Return a puller that wants a key of its own while the agent is to make it."""
        for puller in granted:
            last = self._last_receipt.get((puller.id, row.id))
            if (
                row.key_origin == "agent"
                and issued is not None
                and puller.status == PullerStatus.ACTIVE
                and last is not None
                and (last.error, last.generation) == (KeyOriginRefused.type, issued.generation)
            ):
                return puller
        return None


def _waits_for_csr(csr: CsrRow | None, host: str) -> str:
    if csr is None or csr.refused_why is None:
        return f"a CSR from {host}, which makes the key"
    return f"a CSR from {host}, which makes the key; its last was refused: {csr.refused_why}"


def _waits_for_pause(row: CertificateRow, now: int) -> str:
    if row.held is not None and row.held.holds(now):
        return f"an operator, who paused it ({row.held.reason}): external-agent resume {row.id}"
    if row.paused_until > now and row.last_error is not None:
        return "the pause after the last error to end"
    return ""


def _newest_generations(
    connection: Connection, states: list[str], within: Within
) -> dict[str, GenerationRow]:
    """Without CSR and chain, which are large and which no status shows."""
    newest = (
        select(generations.c.certificate, func.max(generations.c.generation).label("generation"))
        .where(generations.c.state.in_(states), within(generations.c.certificate))
        .group_by(generations.c.certificate)
        .subquery()
    )
    large = {"csr": literal(b"").label("csr"), "chain": null().label("chain")}
    columns: list[Any] = [large.get(one.name, one) for one in generations.c]
    query = select(*columns).join(
        newest,
        (newest.c.certificate == generations.c.certificate)
        & (newest.c.generation == generations.c.generation),
    )
    return {row.certificate: generation_row(row) for row in connection.execute(query)}


def _granted_pullers(connection: Connection, within: Within) -> defaultdict[str, list[PullerRow]]:
    query = (
        select(pullers, grants.c.certificate)
        .join(grants, grants.c.puller == pullers.c.id)
        .where(within(grants.c.certificate))
        .order_by(pullers.c.host, pullers.c.id)
    )
    found: defaultdict[str, list[PullerRow]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.certificate].append(puller_row(row))
    return found


def _newest_bundles(connection: Connection, within: Within, *, fetched: bool) -> dict[Pair, Any]:
    query = (
        select(
            bundles.c.puller,
            bundles.c.certificate,
            bundles.c.generation,
            bundles.c.first_fetched_at,
        )
        .where(within(bundles.c.certificate))
        .order_by(bundles.c.certificate, bundles.c.generation)
    )
    if fetched:
        query = query.where(bundles.c.first_fetched_at.is_not(None))
    found: dict[Pair, Any] = {}
    for row in connection.execute(query):
        found[row.puller, row.certificate] = row
    return found


def _last_receipts(
    connection: Connection, outcome: str | None, within: Within
) -> dict[Pair, ReceiptRow]:
    last = (
        select(func.max(receipts.c.id))
        .where(within(receipts.c.certificate))
        .group_by(receipts.c.certificate, receipts.c.puller)
    )
    if outcome is not None:
        last = last.where(receipts.c.outcome == outcome)
    query = select(receipts).where(receipts.c.id.in_(last))
    return {(row.puller, row.certificate): receipt_row(row) for row in connection.execute(query)}
