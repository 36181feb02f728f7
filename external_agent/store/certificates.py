"""Queries over what operators want: certificates and ACME accounts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from external_agent.facts.audit import canonical
from external_agent.records.model import AttemptState
from external_agent.records.rows import AccountRow, CertificateRow, GenerationRow
from external_agent.store.pullers import drop_grants, recipients_of, require_room
from external_agent.store.queries import (
    Queries,
    append_event,
    certificate_row,
    generation_row,
    require_certificate,
    want_generation,
)
from external_agent.store.tables import accounts, certificates, challenges, generations
from shared.contract.bundle import KeyOrigin
from shared.contract.errors import PolicyError
from shared.contract.key_policy import KeyAlgorithm


class CertificateQueries(Queries):
    """``CertificateStore``, but for ``status``."""

    def add_certificate(
        self,
        certificate: str,
        names: Sequence[str],
        *,
        directory_url: str,
        now: int,
        key_origin: KeyOrigin = "agent",
        key_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256,
        challenge: str = "http-01",
        profile: str | None = None,
        cas: Sequence[str] = (),
        actor: str = "operator",
    ) -> CertificateRow:
        wishes: dict[str, object] = {
            "names": canonical(sorted(names)),
            "key_origin": key_origin,
            "key_algorithm": str(key_algorithm),
            "challenge": challenge,
            "directory_url": directory_url,
            "cas": canonical(list(cas)) if cas else None,
            "troubles": None,
            "profile": profile,
            "removed_at": None,
            "wanted_reason": "added",
        }
        with self._database.write() as connection:
            known = connection.execute(
                select(certificates).where(certificates.c.id == certificate)
            ).one_or_none()
            if known is not None and known.removed_at is None:
                raise PolicyError(f"There is a certificate {certificate} already.")
            if known is None:
                _insert_new(connection, certificate, wishes, now)
            else:
                _bring_back(connection, certificate, wishes)
            append_event(
                connection,
                "certificate-added",
                now=now,
                actor=actor,
                certificate=certificate,
                details={"names": sorted(names), "challenge": challenge, "ca": directory_url},
            )
            return _load(connection, certificate)

    def change_certificate(
        self,
        certificate: str,
        *,
        now: int,
        names: Sequence[str] | None = None,
        key_origin: KeyOrigin | None = None,
        key_algorithm: KeyAlgorithm | None = None,
        challenge: str | None = None,
        cas: Sequence[str] = (),
        profile: str | None = None,
        actor: str = "operator",
    ) -> CertificateRow:
        given = {
            "names": None if names is None else canonical(sorted(names)),
            "key_origin": key_origin,
            "key_algorithm": None if key_algorithm is None else str(key_algorithm),
            "challenge": challenge,
            "directory_url": cas[0] if cas else None,
            "cas": canonical(list(cas)) if cas else None,
            "profile": profile,
        }
        changes: dict[str, str | None] = {
            name: value for name, value in given.items() if value is not None
        }
        if cas:
            changes["troubles"] = None
        if profile == "":
            changes["profile"] = None
        with self._database.write() as connection:
            require_certificate(connection, certificate)
            if key_origin == "puller":
                _require_one_recipient(connection, certificate)
            if changes:
                connection.execute(
                    update(certificates).where(certificates.c.id == certificate).values(changes)
                )
                for recipient in recipients_of(connection, certificate) if names else ():
                    require_room(connection, recipient.id)
                want_generation(connection, certificate, "changed: " + _words(changes))
                end_pause(connection, certificate, now)
                append_event(
                    connection,
                    "certificate-changed",
                    now=now,
                    actor=actor,
                    certificate=certificate,
                    details=dict(changes),
                )
            return _load(connection, certificate)

    def remove_certificate(self, certificate: str, *, now: int, actor: str = "operator") -> None:
        with self._database.write() as connection:
            require_certificate(connection, certificate)
            connection.execute(
                update(certificates)
                .where(certificates.c.id == certificate)
                .values(removed_at=now, fence=certificates.c.fence + 1, lease_owner=None)
            )
            connection.execute(delete(challenges).where(challenges.c.certificate == certificate))
            drop_grants(connection, certificate)
            append_event(
                connection, "certificate-removed", now=now, actor=actor, certificate=certificate
            )

    def request_renewal(
        self, certificate: str, reason: str, *, now: int, actor: str = "operator"
    ) -> None:
        with self._database.write() as connection:
            require_certificate(connection, certificate)
            _request_renewal(connection, certificate, reason, now, actor)

    def request_renewal_of_all(
        self, reason: str, *, now: int, actor: str = "operator"
    ) -> tuple[str, ...]:
        query = (
            select(certificates.c.id)
            .where(certificates.c.removed_at.is_(None))
            .order_by(certificates.c.id)
        )
        with self._database.write() as connection:
            found = tuple(connection.execute(query).scalars())
            for certificate in found:
                _request_renewal(connection, certificate, reason, now, actor)
        return found

    def certificate(self, certificate: str) -> CertificateRow | None:
        with self._database.read() as connection:
            row = connection.execute(
                select(certificates).where(certificates.c.id == certificate)
            ).one_or_none()
            return None if row is None else certificate_row(row)

    def certificates(self, *, with_removed: bool = False) -> list[CertificateRow]:
        query = select(certificates).order_by(certificates.c.id)
        if not with_removed:
            query = query.where(certificates.c.removed_at.is_(None))
        with self._database.read() as connection:
            return [certificate_row(row) for row in connection.execute(query)]

    def account(self, directory_url: str) -> AccountRow | None:
        with self._database.read() as connection:
            row = connection.execute(
                select(accounts).where(accounts.c.directory_url == directory_url)
            ).one_or_none()
        return None if row is None else _account(row)

    def accounts(self) -> list[AccountRow]:
        with self._database.read() as connection:
            query = select(accounts).order_by(accounts.c.created_at, accounts.c.directory_url)
            return [_account(row) for row in connection.execute(query)]

    def save_account(
        self,
        directory_url: str,
        account_url: str,
        contact: Sequence[str],
        *,
        now: int,
        thumbprint: str | None = None,
    ) -> None:
        with self._database.write() as connection:
            connection.execute(delete(accounts).where(accounts.c.directory_url == directory_url))
            connection.execute(
                insert(accounts).values(
                    directory_url=directory_url,
                    account_url=account_url,
                    contact=canonical(list(contact)),
                    created_at=now,
                    thumbprint=thumbprint,
                )
            )

    def note_account_key(
        self, directory_url: str, thumbprint: str, *, now: int, actor: str = "operator"
    ) -> None:
        with self._database.write() as connection:
            _note_account(connection, directory_url, thumbprint=thumbprint)
            append_event(
                connection,
                "account-key-changed",
                now=now,
                actor=actor,
                details={"ca": directory_url, "thumbprint": thumbprint},
            )

    def note_account_deactivated(
        self, directory_url: str, thumbprint: str, *, now: int, actor: str = "operator"
    ) -> None:
        with self._database.write() as connection:
            _note_account(connection, directory_url, thumbprint=thumbprint, status="deactivated")
            append_event(
                connection,
                "account-deactivated",
                now=now,
                actor=actor,
                details={"ca": directory_url},
            )

    def note_revoked(
        self,
        certificate: str,
        generation: int,
        reason: str,
        *,
        renew: bool,
        now: int,
        actor: str = "operator",
    ) -> bool:
        with self._database.write() as connection:
            wanted = renew and _load(connection, certificate).removed_at is None
            connection.execute(
                update(generations)
                .where(
                    generations.c.certificate == certificate,
                    generations.c.generation == generation,
                )
                .values(revoked_at=now, revoked_reason=reason)
            )
            append_event(
                connection,
                "revoked",
                now=now,
                actor=actor,
                certificate=certificate,
                details={"generation": generation, "reason": reason},
            )
            if wanted:
                _request_renewal(
                    connection, certificate, f"generation {generation} was revoked", now, actor
                )
        return wanted

    def generation_of_leaf(self, leaf_sha256: str, *, spki_sha256: str) -> GenerationRow | None:
        query = select(generations).where(
            generations.c.spki_sha256 == spki_sha256,  # of the two it has the index
            generations.c.leaf_sha256 == leaf_sha256,
            generations.c.state == str(AttemptState.ISSUED),
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            return None if row is None else generation_row(row)

    def generations(self, certificate: str, *, limit: int = 50) -> list[GenerationRow]:
        query = (
            select(generations)
            .where(generations.c.certificate == certificate)
            .order_by(generations.c.generation.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [generation_row(row) for row in connection.execute(query)]


def _words(changes: Mapping[str, object]) -> str:
    shown = {"directory_url": "CA", "key_origin": "key origin", "key_algorithm": "key algorithm"}
    return ", ".join(
        sorted(shown.get(name, name) for name in changes if name not in ("cas", "troubles"))
    )


def _account(row: Row[Any]) -> AccountRow:
    contact = tuple(json.loads(row.contact))
    return AccountRow(
        row.directory_url, row.account_url, contact, row.created_at, row.thumbprint, row.status
    )


def _note_account(connection: Connection, directory_url: str, **values: str) -> None:
    connection.execute(
        update(accounts).where(accounts.c.directory_url == directory_url).values(**values)
    )


def _require_one_recipient(connection: Connection, certificate: str) -> None:
    hosts = [f"{one.host} ({one.id[:12]})" for one in recipients_of(connection, certificate)]
    if len(hosts) > 1:
        raise PolicyError(
            f"{certificate} is granted to {len(hosts)} machines ({', '.join(hosts):.200}); a key "
            "that a puller makes never leaves it, so it can serve one machine only.",
            do="Give each machine a certificate of its own: external-agent add NAME --id ID "
            "--key-origin puller.",
        )


def _insert_new(
    connection: Connection, certificate: str, wishes: dict[str, object], now: int
) -> None:
    connection.execute(
        insert(certificates).values(
            id=certificate,
            created_at=now,
            wanted=1,
            satisfied=0,
            paused_at=0,
            paused_until=0,
            failures=0,
            highest_seen=0,
            leased_at=0,
            lease_until=0,
            fence=0,
            **wishes,
        )
    )


def _bring_back(connection: Connection, certificate: str, wishes: dict[str, object]) -> None:
    """A certificate that was removed keeps its history, and so its generations go on upwards."""
    connection.execute(
        update(certificates)
        .where(certificates.c.id == certificate)
        .values(
            wanted=certificates.c.wanted + 1,
            paused_at=0,
            paused_until=0,
            failures=0,
            last_error=None,
            **wishes,
        )
    )


def _request_renewal(
    connection: Connection, certificate: str, reason: str, now: int, actor: str
) -> None:
    want_generation(connection, certificate, reason)
    end_pause(connection, certificate, now)
    append_event(
        connection,
        "renewal-requested",
        now=now,
        actor=actor,
        certificate=certificate,
        details={"reason": reason},
    )


def end_pause(connection: Connection, certificate: str, now: int) -> None:
    """An operator who mended something need not wait, unless it is the CA that asked to."""
    row = require_certificate(connection, certificate)
    if row.last_error and json.loads(row.last_error)["type"] == "issuance/rate-limited":
        return
    asked = row.asked_until if row.asked_until is not None and row.asked_until > now else 0
    connection.execute(
        update(certificates)
        .where(certificates.c.id == certificate)
        .values(paused_until=asked, paused_at=row.paused_at if asked else 0)
    )


def _load(connection: Connection, certificate: str) -> CertificateRow:
    return certificate_row(
        connection.execute(select(certificates).where(certificates.c.id == certificate)).one()
    )
