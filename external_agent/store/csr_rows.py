"""Which CSR waits for which certificate: it is unused until a bundle made from it is fetched."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, or_, select, update

from external_agent.records.model import UNFINISHED, AttemptState, PullerStatus
from external_agent.records.rows import CsrRow
from external_agent.store.tables import bundles, certificates, csrs, generations, grants, pullers

_BEYOND_PREPARED = sorted(str(one) for one in UNFINISHED - {AttemptState.PREPARED})


def waiting_csrs() -> Select[Any]:
    """Return the query for CSRs that an order may be made with now."""
    return (
        select(csrs)
        .join(certificates, certificates.c.id == csrs.c.certificate)
        .join(pullers, pullers.c.id == csrs.c.puller)
        .join(
            grants,
            (grants.c.certificate == csrs.c.certificate) & (grants.c.puller == csrs.c.puller),
        )
        .where(
            certificates.c.key_origin == "puller",
            certificates.c.removed_at.is_(None),
            csrs.c.csr.is_not(None),
            csrs.c.names == certificates.c.names,
            pullers.c.status == str(PullerStatus.ACTIVE),
            ~_fetched(),
        )
    )


def _fetched() -> ColumnElement[bool]:
    """Whether something made from a CSR's key has left the agent."""
    return (
        select(bundles.c.generation)
        .join(
            generations,
            (generations.c.certificate == bundles.c.certificate)
            & (generations.c.generation == bundles.c.generation),
        )
        .where(
            generations.c.certificate == csrs.c.certificate,
            generations.c.spki_sha256 == csrs.c.spki_sha256,
            bundles.c.first_fetched_at.is_not(None),
        )
        .exists()
    )


def can_be_ordered() -> ColumnElement[bool]:
    """Whether a certificate's key is there, or made by the agent, or an order is to be resumed."""
    under_way = (
        select(generations.c.generation)
        .where(
            generations.c.certificate == certificates.c.id,
            generations.c.state.in_(_BEYOND_PREPARED),
        )
        .exists()
    )
    waiting = waiting_csrs().with_only_columns(csrs.c.certificate)
    return or_(certificates.c.key_origin == "agent", certificates.c.id.in_(waiting), under_way)


def csr_row(row: Row[Any]) -> CsrRow:
    return CsrRow(
        certificate=row.certificate,
        puller=row.puller,
        csr=row.csr,
        spki_sha256=row.spki_sha256,
        received_at=row.received_at,
        refused_at=row.refused_at,
        refused_why=row.refused_why,
        awaited_at=row.awaited_at,
    )


def forget_csr(connection: Connection, certificate: str) -> None:
    """Ask for another one: what waits may have been used by a future that we do not know."""
    connection.execute(
        update(csrs)
        .where(csrs.c.certificate == certificate)
        .values(csr=None, spki_sha256=None, names=None, puller=None)
    )
