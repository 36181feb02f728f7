"""Queries over CSRs that pullers leave: one waits for each certificate, and each key is used once.

An attempt keeps a copy of its own, so a CSR that comes later replaces the one that waits and never
the one that an order was made with.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from external_agent.records.model import AttemptState, PullerStatus
from external_agent.records.rows import AwaitedCsr, CsrRow
from external_agent.store.admission import admit
from external_agent.store.csr_rows import can_be_ordered, csr_row, forget_csr, waiting_csrs
from external_agent.store.queries import Queries, append_event
from external_agent.store.tables import certificates, csrs, generations, grants, pullers
from shared.contract.csr import check_csr
from shared.contract.errors import CsrRefused, RequestRefused
from shared.contract.x509 import spki_sha256
from shared.issuing.renewal import HOUR

LEFT_WINDOW = 600
LEFT_IN_WINDOW = 20
"""CSRs taken or refused for one certificate within a window."""


class CsrQueries(Queries):
    """The part of the store about CSRs."""

    def leave_csr(
        self,
        puller: str,
        certificate: str,
        csr_der: bytes,
        *,
        now: int,
        own_keys: Collection[str] = (),
    ) -> bool:
        with self._database.write() as connection:
            admit(connection, puller, certificate)
            outcome = _leave(connection, puller, certificate, csr_der, own_keys=own_keys, now=now)
        if isinstance(outcome, CsrRefused):
            raise outcome
        return outcome

    def waiting_csr(self, certificate: str) -> CsrRow | None:
        with self._database.read() as connection:
            row = connection.execute(
                waiting_csrs().where(csrs.c.certificate == certificate)
            ).one_or_none()
            return None if row is None else csr_row(row)

    def refuse_csr(self, certificate: str, spki_sha256: str, why: str, *, now: int) -> None:
        with self._database.write() as connection:
            row = connection.execute(
                select(csrs).where(
                    csrs.c.certificate == certificate, csrs.c.spki_sha256 == spki_sha256
                )
            ).one_or_none()
            if row is not None and row.puller is not None:
                forget_csr(connection, certificate)
                _note_refused(connection, row.puller, certificate, why, now)

    def note_awaited_csrs(self, *, now: int) -> list[AwaitedCsr]:
        with self._database.read() as connection:
            if not _awaited(connection, now):
                return []
        with self._database.write() as connection:
            found = _awaited(connection, now)
            for one in found:
                _note_awaited(connection, one, now)
        return found


def _leave(
    connection: Connection,
    puller: str,
    certificate: str,
    csr_der: bytes,
    *,
    own_keys: Collection[str],
    now: int,
) -> bool | CsrRefused:
    """Return an error rather than raise it: the note of a refusal is to be committed."""
    row = connection.execute(select(certificates).where(certificates.c.id == certificate)).one()
    _make_room(connection, certificate, now)
    try:
        if row.key_origin != "puller":
            raise CsrRefused(f"The key of {certificate} is made by the agent.")
        spki = spki_sha256(check_csr(csr_der, json.loads(row.names)))
        waits = waiting_csrs().where(
            csrs.c.certificate == certificate,
            csrs.c.spki_sha256 == spki,
            csrs.c.puller == puller,
        )
        if connection.execute(waits).first() is not None:
            return False
        _refuse_used_key(connection, spki, own_keys)
    except CsrRefused as error:
        _note_refused(connection, puller, certificate, error.what, now)
        return error
    _take(connection, puller, row, csr_der, spki, now=now)
    return True


def _refuse_used_key(connection: Connection, spki: str, own_keys: Collection[str]) -> None:
    used = connection.execute(
        select(generations.c.generation).where(generations.c.spki_sha256 == spki).limit(1)
    ).first()
    left = connection.execute(
        select(csrs.c.certificate).where(csrs.c.spki_sha256 == spki).limit(1)
    ).first()
    if used is not None or left is not None or spki in own_keys:
        raise CsrRefused("The CSR's key was used before; each generation has a fresh one.")


def _take(
    connection: Connection, puller: str, row: Row[Any], csr_der: bytes, spki: str, *, now: int
) -> None:
    connection.execute(
        update(csrs)
        .where(csrs.c.certificate == row.id)
        .values(
            puller=puller,
            csr=csr_der,
            spki_sha256=spki,
            names=row.names,
            received_at=now,
            refused_at=None,
            refused_why=None,
            awaited_at=None,
            urgent_at=None,
        )
    )
    append_event(
        connection,
        "csr-left",
        now=now,
        actor="relay",
        certificate=row.id,
        puller=puller,
        details={"spki_sha256": spki},
    )


def _note_refused(
    connection: Connection, puller: str, certificate: str, why: str, now: int
) -> None:
    connection.execute(
        update(csrs)
        .where(csrs.c.certificate == certificate)
        .values(refused_at=now, refused_why=why)
    )
    append_event(
        connection,
        "csr-refused",
        now=now,
        actor="relay",
        certificate=certificate,
        puller=puller,
        details={"why": why},
    )


def _make_room(connection: Connection, certificate: str, now: int) -> None:
    """Count what a puller leaves; a row for the certificate is there afterwards.

    Raises:
        RequestRefused: "too-many-csrs".
    """
    mine = csrs.c.certificate == certificate
    row = connection.execute(select(csrs).where(mine)).one_or_none()
    if row is None:
        _insert_row(connection, certificate, now)
        return
    fresh = not 0 <= now - row.window_at < LEFT_WINDOW
    count = 1 if fresh else row.window_count + 1
    if count > LEFT_IN_WINDOW:
        raise RequestRefused(
            f"More than {LEFT_IN_WINDOW} CSRs for {certificate} in {LEFT_WINDOW} s.",
            retry_after=float(LEFT_WINDOW),
            problem_type="too-many-csrs",
        )
    window = {"window_count": count} | ({"window_at": now} if fresh else {})
    connection.execute(update(csrs).where(mine).values(window))


def _insert_row(connection: Connection, certificate: str, now: int) -> None:
    connection.execute(insert(csrs).values(certificate=certificate, window_at=now, window_count=1))


# --- waiting for one -------------------------------------------------------------------------


def _awaited(connection: Connection, now: int) -> list[AwaitedCsr]:
    """Return what is due, has no CSR, and was not noted yet (again, when it becomes urgent)."""
    newest = (
        select(generations.c.certificate, func.max(generations.c.not_after).label("not_after"))
        .where(generations.c.state == str(AttemptState.ISSUED))
        .group_by(generations.c.certificate)
        .subquery()
    )
    query = (
        select(
            certificates, newest.c.not_after, csrs.c.awaited_at, csrs.c.urgent_at, pullers.c.host
        )
        .join(grants, grants.c.certificate == certificates.c.id)
        .join(pullers, pullers.c.id == grants.c.puller)
        .outerjoin(newest, newest.c.certificate == certificates.c.id)
        .outerjoin(csrs, csrs.c.certificate == certificates.c.id)
        .where(
            certificates.c.key_origin == "puller",
            certificates.c.removed_at.is_(None),
            pullers.c.status == str(PullerStatus.ACTIVE),
            or_(
                certificates.c.wanted > certificates.c.satisfied,
                certificates.c.due_at.is_(None),
                certificates.c.due_at <= now,
            ),
            ~can_be_ordered(),
        )
        .order_by(certificates.c.id)
    )
    found = (_as_awaited(row, now) for row in connection.execute(query))
    return [one for one in found if one is not None]


def _as_awaited(row: Row[Any], now: int) -> AwaitedCsr | None:
    if row.not_after is None:  # the first one; its puller was enrolled a moment ago, perhaps
        urgent, early = False, now - row.created_at < HOUR
    else:
        life = max(1, row.not_after - (row.due_at or now))
        urgent, early = row.not_after - now < life / 2, False
    if early or row.urgent_at is not None or (row.awaited_at is not None and not urgent):
        return None
    return AwaitedCsr(row.id, row.host, row.not_after, urgent)


def _note_awaited(connection: Connection, one: AwaitedCsr, now: int) -> None:
    mine = csrs.c.certificate == one.certificate
    if connection.execute(select(csrs.c.certificate).where(mine)).first() is None:
        _insert_row(connection, one.certificate, now)
    moments = {"awaited_at": func.coalesce(csrs.c.awaited_at, now)}
    urgent = {"urgent_at": now} if one.urgent else {}
    connection.execute(update(csrs).where(mine).values(moments | urgent))
    append_event(
        connection,
        "csr-urgent" if one.urgent else "csr-awaited",
        now=now,
        actor="agent",
        certificate=one.certificate,
        details={"host": one.host, "not_after": one.not_after or 0},
    )
