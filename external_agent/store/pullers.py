"""Queries over pullers and their grants; whatever costs a key asks for a new one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from external_agent.facts.policy import require_ordinary
from external_agent.records.model import UNFINISHED, PullerStatus
from external_agent.records.rows import PullerRow
from external_agent.store.admission import granted_certificates
from external_agent.store.queries import (
    Queries,
    append_event,
    puller_row,
    require_certificate,
    want_generation,
)
from external_agent.store.tables import (
    bundles,
    certificates,
    generations,
    grants,
    pullers,
    receipts,
    sealed_keys,
    tokens,
)
from shared.contract.errors import PolicyError
from shared.contract.wire import MAX_ANSWER, MAX_CERTIFICATES, Listing


class PullerQueries(Queries):
    """``EnrolmentStore``, but for tokens."""

    def pullers(self) -> list[PullerRow]:
        query = select(pullers).order_by(pullers.c.enrolled_at, pullers.c.id)
        with self._database.read() as connection:
            return [puller_row(row) for row in connection.execute(query)]

    def puller(self, puller: str) -> PullerRow | None:
        with self._database.read() as connection:
            row = connection.execute(select(pullers).where(pullers.c.id == puller)).one_or_none()
            return None if row is None else puller_row(row)

    def grants(self, puller: str) -> tuple[str, ...]:
        with self._database.read() as connection:
            return granted(connection, puller)

    def grant(self, puller: str, certificate: str, *, now: int, actor: str = "operator") -> None:
        with self._database.write() as connection:
            require_ordinary(certificate)
            _require_not_revoked(connection, puller)
            add_grants(connection, puller, (certificate,), now=now, actor=actor)

    def withdraw(self, puller: str, certificate: str, *, now: int, actor: str = "operator") -> None:
        with self._database.write() as connection:
            _require_puller(connection, puller)
            taken = drop_grants(connection, certificate, puller)
            if taken == 0:
                raise PolicyError(f"Puller {puller[:16]}… has no grant for {certificate:.200}.")
            _replace_sealed(connection, puller, (certificate,), "a grant was withdrawn")
            append_event(
                connection,
                "grant-withdrawn",
                now=now,
                actor=actor,
                certificate=certificate,
                puller=puller,
            )

    def suspend_puller(
        self, puller: str, reason: str, *, now: int, actor: str = "operator"
    ) -> None:
        with self._database.write() as connection:
            _require_not_revoked(connection, puller)
            set_status(connection, puller, PullerStatus.SUSPENDED)
            append_event(
                connection,
                "puller-suspended",
                now=now,
                actor=actor,
                puller=puller,
                details={"reason": reason},
            )

    def confirm_puller(self, puller: str, *, now: int, actor: str = "operator") -> None:
        with self._database.write() as connection:
            row = _require_not_revoked(connection, puller)
            if row.status == PullerStatus.ACTIVE:
                return
            set_status(connection, puller, PullerStatus.ACTIVE)
            _settle_tokens(connection, puller, now)
            for certificate in granted(connection, puller):
                _want_if_not_sealed(connection, puller, certificate)
            append_event(connection, "puller-confirmed", now=now, actor=actor, puller=puller)

    def revoke_puller(self, puller: str, *, now: int, actor: str = "operator") -> None:
        with self._database.write() as connection:
            row = _require_puller(connection, puller)
            if row.status == PullerStatus.REVOKED:
                return
            set_status(connection, puller, PullerStatus.REVOKED)
            held = granted(connection, puller)
            _replace_sealed(connection, puller, held, "a puller was revoked")
            append_event(
                connection,
                "puller-revoked",
                now=now,
                actor=actor,
                puller=puller,
                details={"certificates": list(held)},
            )


def granted(connection: Connection, puller: str) -> tuple[str, ...]:
    query = (
        select(grants.c.certificate)
        .join(certificates, certificates.c.id == grants.c.certificate)
        .where(grants.c.puller == puller, certificates.c.removed_at.is_(None))
        .order_by(grants.c.certificate)
    )
    return tuple(connection.execute(query).scalars())


def add_grants(
    connection: Connection, puller: str, wanted: Sequence[str], *, now: int, actor: str
) -> None:
    """Grant what is not granted yet; a recipient added later needs a generation with its key.

    Raises:
        PolicyError: no such certificate, or more than one list can tell a puller of.
    """
    held = set(granted(connection, puller))
    for certificate in wanted:
        if certificate in held:
            continue
        require_certificate(connection, certificate)
        refuse_second_recipient(connection, certificate, puller)
        connection.execute(
            insert(grants).values(puller=puller, certificate=certificate, granted_at=now)
        )
        _want_if_not_sealed(connection, puller, certificate)
        append_event(
            connection, "granted", now=now, actor=actor, certificate=certificate, puller=puller
        )
    require_room(connection, puller)


def require_room(connection: Connection, puller: str) -> None:
    """Refuse, in the transaction that grants or renames, what one list cannot tell a puller of.

    Raises:
        PolicyError: more certificates, or more octets of names, than a list may have.
    """
    rows = connection.execute(granted_certificates(puller)).all()
    held = [(row.id, row.names) for row in rows]
    another = "Enrol a second puller for some of them, or put several names into one certificate."
    if len(held) > MAX_CERTIFICATES:
        raise PolicyError(
            f"One puller may have {MAX_CERTIFICATES} certificates; this would be more.", do=another
        )
    if not Listing.fits(held):
        raise PolicyError(
            f"The names of all certificates of one puller may take {MAX_ANSWER >> 20} MiB; these "
            "would take more.",
            do=another,
        )


def drop_grants(connection: Connection, certificate: str, puller: str | None = None) -> int:
    """Take a certificate from one puller or from all; return from how many.

    Receipts go with the grant, so that none speaks for a later one; the audit trail keeps them.
    """
    for table in (receipts, grants):
        here = table.c.certificate == certificate
        if puller is not None:
            here &= table.c.puller == puller
        taken = connection.execute(delete(table).where(here))
    return taken.rowcount


def recipients_of(connection: Connection, certificate: str) -> list[Row[Any]]:
    """Return the pullers that may have it, or will when an operator confirms them."""
    query = (
        select(pullers)
        .join(grants, grants.c.puller == pullers.c.id)
        .where(
            grants.c.certificate == certificate,
            pullers.c.status != str(PullerStatus.REVOKED),
        )
        .order_by(pullers.c.host, pullers.c.id)
    )
    return list(connection.execute(query).all())


def refuse_second_recipient(connection: Connection, certificate: str, puller: str | None) -> None:
    """A key that never leaves the machine that made it can serve one machine only.

    Raises:
        PolicyError: the certificate's key is made by a puller, and that is another one.
    """
    origin = connection.execute(
        select(certificates.c.key_origin).where(certificates.c.id == certificate)
    ).scalar()
    others = [one for one in recipients_of(connection, certificate) if one.id != puller]
    if origin == "puller" and others:
        raise PolicyError(
            f"The key of {certificate} is made by {others[0].host} ({others[0].id[:12]}) and never "
            "leaves it, so no second machine can have this certificate.",
            do="For another machine: external-agent add NAME --id ID, a certificate of its own; to "
            "replace the machine: external-agent puller revoke.",
        )


def set_status(connection: Connection, puller: str, status: PullerStatus) -> None:
    connection.execute(update(pullers).where(pullers.c.id == puller).values(status=str(status)))


def sealed_generations(connection: Connection, puller: str) -> dict[str, list[int]]:
    """Return, by certificate, the generations whose keys this puller can open."""
    found: dict[str, set[int]] = {}
    for table in (bundles, sealed_keys):
        query = select(table.c.certificate, table.c.generation).where(table.c.puller == puller)
        for row in connection.execute(query):
            found.setdefault(row.certificate, set()).add(row.generation)
    return {certificate: sorted(numbers) for certificate, numbers in sorted(found.items())}


def _settle_tokens(connection: Connection, puller: str, now: int) -> None:
    """Whoever else holds them could otherwise suspend this puller again and again, for ever."""
    connection.execute(
        update(tokens)
        .where(tokens.c.redeemed_by == puller, tokens.c.voided_at.is_(None))
        .values(voided_at=now)
    )


def _want_if_not_sealed(connection: Connection, puller: str, certificate: str) -> None:
    under_way = connection.execute(
        select(generations.c.recipients).where(
            generations.c.certificate == certificate,
            generations.c.state.in_(sorted(str(state) for state in UNFINISHED)),
        )
    ).scalars()
    if any(puller not in json.loads(recipients) for recipients in under_way):
        # It will be the newest, and this puller cannot open it: the one before does not help.
        want_generation(connection, certificate, "a recipient was added")
        return
    newest = select(bundles.c.generation).where(bundles.c.certificate == certificate)
    row = connection.execute(newest.order_by(bundles.c.generation.desc()).limit(1)).first()
    if row is not None:
        sealed = connection.execute(
            select(bundles.c.puller).where(
                bundles.c.puller == puller,
                bundles.c.certificate == certificate,
                bundles.c.generation == row.generation,
            )
        ).first()
        if sealed is not None:
            return
    want_generation(connection, certificate, "a recipient was added")


def _replace_sealed(connection: Connection, puller: str, held: Sequence[str], reason: str) -> None:
    """Somebody who should no longer has the keys: ask for new ones."""
    sealed = sealed_generations(connection, puller)
    for certificate in held:
        if certificate in sealed:
            want_generation(connection, certificate, reason)


def _require_puller(connection: Connection, puller: str) -> Row[Any]:
    row = connection.execute(select(pullers).where(pullers.c.id == puller)).one_or_none()
    if row is None:
        raise PolicyError(
            f"There is no puller {puller!r:.70}.", do="List them: external-agent puller list."
        )
    return row


def _require_not_revoked(connection: Connection, puller: str) -> Row[Any]:
    row = _require_puller(connection, puller)
    if row.status == PullerStatus.REVOKED:
        raise PolicyError(
            f"Puller {puller[:16]}… is revoked for good.",
            do="Enrol that machine again with new keys and a new token.",
        )
    return row
