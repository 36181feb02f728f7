"""Queries over operators' pauses: no attempt for a certificate until it is resumed, or a time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from external_agent.records.rows import CertificateRow
from external_agent.store.queries import (
    Queries,
    append_event,
    certificate_row,
    require_certificate,
)
from external_agent.store.tables import certificates


class HoldQueries(Queries):
    """``CertificateStore``, its part about pauses."""

    def pause_certificate(
        self,
        certificate: str,
        *,
        until: int | None,
        reason: str,
        now: int,
        actor: str = "operator",
    ) -> CertificateRow:
        with self._database.write() as connection:
            row = require_certificate(connection, certificate)
            before = certificate_row(row).held
            if before is None or (before.until, before.reason) != (until, reason):
                connection.execute(
                    update(certificates)
                    .where(certificates.c.id == certificate)
                    .values(held_at=now, held_until=until, held_reason=reason)
                )
                append_event(
                    connection,
                    "certificate-paused",
                    now=now,
                    actor=actor,
                    certificate=certificate,
                    details={"until": until, "reason": reason},
                )
            return certificate_row(connection.execute(_this(certificate)).one())

    def resume_certificate(
        self, certificate: str, *, now: int, actor: str = "operator"
    ) -> CertificateRow:
        with self._database.write() as connection:
            row = require_certificate(connection, certificate)
            if row.held_at is not None:
                connection.execute(
                    update(certificates)
                    .where(certificates.c.id == certificate)
                    .values(held_at=None, held_until=None, held_reason=None)
                )
                append_event(
                    connection,
                    "certificate-resumed",
                    now=now,
                    actor=actor,
                    certificate=certificate,
                )
            return certificate_row(connection.execute(_this(certificate)).one())


def _this(certificate: str) -> Any:
    return select(certificates).where(certificates.c.id == certificate)
