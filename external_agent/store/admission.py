"""Who may call: decided before each call of the relay API, and again where it counts.

Whatever reads or changes something for a puller calls :func:`admit` in its own transaction, so
nothing that took its time outlives a revocation.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select

from external_agent.facts import quotas
from external_agent.records.model import PullerStatus
from external_agent.store.queries import Queries, grants_held
from external_agent.store.tables import certificates, grants, nonces, pullers
from shared.contract.errors import PullerRevoked, RequestRefused
from shared.contract.http_signatures import CLOCK_TOLERANCE

NONCE_SECONDS = 2 * CLOCK_TOLERANCE
"""By our clock. What was signed 300 s ahead of it comes in again for 600 s."""


class AdmissionQueries(Queries):
    """The part of ``RelayStore`` that decides who may call."""

    def admit(
        self, puller: str, certificate: str | None = None, *, nonce: str | None = None, now: int
    ) -> None:
        if nonce is None:
            with self._database.read() as connection:
                admit(connection, puller, certificate)
            return
        with self._database.write(bump=False) as connection:
            admit(connection, puller, certificate)
            most = quotas.calls(grants_held(connection, puller))
            use_nonce(connection, puller, nonce, most=most, now=now)

    def names_spoken_of(self, puller: str) -> frozenset[str]:
        with self._database.read() as connection:
            try:
                admit(connection, puller)
            except RequestRefused:
                return frozenset()
            rows = connection.execute(granted_certificates(puller)).all()
        return frozenset(name for row in rows for name in json.loads(row.names))


def admit(connection: Connection, puller: str, certificate: str | None = None) -> Row[Any]:
    """Return the puller's row if it may call, about this certificate.

    Raises:
        PullerRevoked ("puller-revoked"); RequestRefused ("puller-suspended", "not-granted").
    """
    row = connection.execute(select(pullers).where(pullers.c.id == puller)).one_or_none()
    if row is None or row.status == PullerStatus.REVOKED:
        raise PullerRevoked("This puller is revoked.", problem_type="puller-revoked")
    if row.status == PullerStatus.SUSPENDED:
        raise RequestRefused(
            "This puller is suspended until an operator confirms it.",
            do="On the agent: external-agent puller confirm, or puller revoke.",
            problem_type="puller-suspended",
        )
    if certificate is not None:
        held = connection.execute(
            granted_certificates(puller).where(certificates.c.id == certificate)
        ).first()
        if held is None:
            raise RequestRefused(
                f"Certificate {certificate:.200} is not granted to this puller.",
                do="On the agent: external-agent token NAME gives a token that grants it.",
                problem_type="not-granted",
            )
    return row


def granted_certificates(puller: str) -> Any:
    """Return the query for the rows of the certificates granted to a puller, in order of id."""
    return (
        select(certificates)
        .join(grants, grants.c.certificate == certificates.c.id)
        .where(grants.c.puller == puller, certificates.c.removed_at.is_(None))
        .order_by(certificates.c.id)
    )


def use_nonce(connection: Connection, caller: str, nonce: str, *, most: int, now: int) -> None:
    """Keep the nonce of a call for :data:`NONCE_SECONDS`; those kept are its caller's calls.

    Args:
        caller: key id of the puller; while enrolling, of the token.
        most: calls of this caller within that time.

    Raises:
        RequestRefused: it was used before ("replayed"); too many are kept ("too-many-calls").
    """
    _forget_nonces(connection, now)
    mine = nonces.c.puller == caller
    used = select(nonces.c.nonce).where(mine, nonces.c.nonce == nonce)
    if connection.execute(used).first() is not None:
        raise RequestRefused("This request was made before.", problem_type="replayed")
    kept = select(func.count(), func.min(nonces.c.expires_at)).where(mine)
    count, first = connection.execute(kept).one()
    if count >= most:
        raise RequestRefused(
            f"More than {most} calls in {NONCE_SECONDS} s.",
            problem_type="too-many-calls",
            retry_after=float(max(1, (first or now) - now)),
        )
    connection.execute(
        insert(nonces).values(puller=caller, nonce=nonce, expires_at=now + NONCE_SECONDS)
    )


def _forget_nonces(connection: Connection, now: int) -> None:
    """Delete what has expired, and what a clock far ahead of today's has left.

    Of another agent over this store, whose clock is ahead of ours by more than the tolerance, no
    request would pass here; so nothing is lost by deleting its nonces.
    """
    far = now + NONCE_SECONDS + 2 * CLOCK_TOLERANCE
    over = or_(nonces.c.expires_at < now, nonces.c.expires_at > far)
    connection.execute(delete(nonces).where(over))
