"""Queries of the scheduler: who works on which certificate, and what is due when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, or_, select, update

from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.records.model import PullerStatus
from external_agent.records.rows import Claim, ErrorNote
from external_agent.store.csr_rows import can_be_ordered
from external_agent.store.queries import Queries, append_event, dump_error, dump_troubles
from external_agent.store.tables import certificates, challenges, grants, pullers
from shared.contract.errors import FenceLost
from shared.issuing.next_ca import Course

# Moments written further ahead than this were written by a clock that has been set back since.
CLOCK_STEP = 300


class LeaseQueries(Queries):
    """``IssuingStore``, its part about leases."""

    def claim_due(
        self,
        owner: str,
        *,
        now: int,
        lease_seconds: int,
        limit: int = 1,
        exclude: Sequence[str] = (),
        skip_directories: Sequence[str] = (),
    ) -> list[Claim]:
        query = _due(now, exclude, skip_directories).limit(limit)
        with self._database.read() as connection:
            if connection.execute(query).first() is None:
                return []
        with self._database.write(bump=False) as connection:
            return [
                _lease(connection, row, owner, now, lease_seconds)
                for row in connection.execute(query).all()
            ]

    def release(self, claim: Claim) -> None:
        with self._database.write(bump=False) as connection:
            connection.execute(
                update(certificates)
                .where(certificates.c.id == claim.certificate, certificates.c.fence == claim.fence)
                .values(lease_owner=None, lease_until=0)
            )

    def forget_leases(self, owner: str) -> None:
        with self._database.write(bump=False) as connection:
            connection.execute(
                update(certificates)
                .where(certificates.c.lease_owner == owner)
                .values(lease_owner=None, lease_until=0, fence=certificates.c.fence + 1)
            )

    def record_failure(
        self,
        claim: Claim,
        error: ErrorNote,
        *,
        failures: int,
        paused_until: int,
        now: int,
        asked_until: int | None = None,
        course: Course | None = None,
    ) -> None:
        with self._database.write() as connection:
            hold(connection, claim)
            drop_challenges(connection, claim.certificate)
            connection.execute(
                update(certificates)
                .where(certificates.c.id == claim.certificate)
                .values(
                    failures=failures,
                    paused_at=now,
                    paused_until=paused_until,
                    asked_until=asked_until,
                    last_error=dump_error(error),
                    lease_owner=None,
                    lease_until=0,
                    **({} if course is None else _steered(course)),
                )
            )
            append_event(
                connection,
                "issuance-failed",
                now=now,
                actor="agent",
                certificate=claim.certificate,
                details={
                    "type": error.type,
                    "what": error.what,
                    "failures": failures,
                    "paused_until": paused_until,
                    **({} if course is None else {"next_ca": course.directory_url}),
                },
            )


def _steered(course: Course) -> dict[str, str]:
    return {
        "directory_url": course.directory_url,
        "troubles": dump_troubles(course.troubles),
    }


def hold(connection: Connection, claim: Claim) -> Row[Any]:
    """Return the certificate while the lease is ours, in the transaction that depends on it.

    Raises:
        FenceLost: another worker has taken it over, or the certificate was removed.
    """
    row = connection.execute(
        select(certificates).where(certificates.c.id == claim.certificate)
    ).one_or_none()
    if row is None or row.fence != claim.fence or row.removed_at is not None:
        raise FenceLost(f"Another worker has taken over certificate {claim.certificate}.")
    return row


def drop_challenges(connection: Connection, certificate: str) -> None:
    connection.execute(delete(challenges).where(challenges.c.certificate == certificate))


def _lease(
    connection: Connection, row: Row[Any], owner: str, now: int, lease_seconds: int
) -> Claim:
    fence, until = row.fence + 1, now + lease_seconds
    connection.execute(
        update(certificates)
        .where(certificates.c.id == row.id)
        .values(lease_owner=owner, leased_at=now, lease_until=until, fence=fence)
    )
    return Claim(row.id, owner, fence, until)


def _due(
    now: int, exclude: Sequence[str], skip_directories: Sequence[str]
) -> Select[tuple[str, int]]:
    wanted = or_(
        certificates.c.wanted > certificates.c.satisfied,
        certificates.c.due_at.is_(None),
        certificates.c.due_at <= now,
    )
    not_paused = or_(
        certificates.c.paused_until <= now, certificates.c.paused_at > now + CLOCK_STEP
    )
    not_held = or_(certificates.c.held_at.is_(None), certificates.c.held_until <= now)
    free = or_(
        certificates.c.lease_owner.is_(None),
        certificates.c.lease_until <= now,
        certificates.c.leased_at > now + CLOCK_STEP,
    )
    query = (
        select(certificates.c.id, certificates.c.fence)
        .where(
            certificates.c.removed_at.is_(None),
            can_be_ordered(),
            wanted,
            not_paused,
            not_held,
            free,
            _has_recipient(),
        )
        .order_by(
            func.coalesce(certificates.c.due_at, certificates.c.created_at), certificates.c.id
        )
    )
    if exclude:
        query = query.where(certificates.c.id.not_in(list(exclude)))
    if skip_directories:
        query = query.where(certificates.c.directory_url.not_in(list(skip_directories)))
    return query


def _has_recipient() -> Any:
    """A key is made only for somebody who can open it; the relay's own stays here."""
    granted = (
        select(grants.c.puller)
        .join(pullers, pullers.c.id == grants.c.puller)
        .where(
            and_(
                grants.c.certificate == certificates.c.id,
                pullers.c.status == str(PullerStatus.ACTIVE),
            )
        )
        .exists()
    )
    return or_(certificates.c.id == RELAY_CERTIFICATE, granted)
