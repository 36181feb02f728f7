"""What every group of queries stands on: the database, rows read, events written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from external_agent.facts import quotas
from external_agent.facts.audit import FIRST, canonical, event_hash
from external_agent.records.model import AttemptState, PullerStatus
from external_agent.records.rows import (
    CertificateRow,
    ErrorNote,
    EventRow,
    GenerationRow,
    Hold,
    PullerRow,
    ReceiptRow,
    ServedRow,
    TokenRow,
)
from external_agent.store.database import Database
from external_agent.store.tables import certificates, events, facts, grants, pullers
from shared.contract.errors import PolicyError
from shared.contract.key_policy import KeyAlgorithm
from shared.issuing.next_ca import Trouble

EVENT_HEAD = "event_head"
EVENT_TAIL = "event_tail"
_EVENT_BYTES = 512
"""Of an event beside its details: hashes, ids, and the place in the indexes."""
_BOUNDED_BY_THEMSELVES = frozenset(
    (
        "puller-enrolled",
        "granted",
        "token-offered-twice",
        "restore-noticed",
        "key-lost",
        "generation-ahead",
    )
)
"""What no puller can cause as often as it likes; all else that comes of one is counted."""


class Queries:
    """A group of queries over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def dump_error(note: ErrorNote | None) -> str | None:
    return (
        None if note is None else canonical({"type": note.type, "what": note.what, "at": note.at})
    )


def read_error(text: str | None) -> ErrorNote | None:
    return None if text is None else ErrorNote(**json.loads(text))


def certificate_row(row: Row[Any]) -> CertificateRow:
    return CertificateRow(
        id=row.id,
        names=tuple(json.loads(row.names)),
        key_origin=row.key_origin,
        key_algorithm=KeyAlgorithm(row.key_algorithm),
        challenge=row.challenge,
        directory_url=row.directory_url,
        profile=row.profile,
        created_at=row.created_at,
        removed_at=row.removed_at,
        wanted=row.wanted,
        satisfied=row.satisfied,
        wanted_reason=row.wanted_reason,
        due_at=row.due_at,
        paused_until=row.paused_until,
        failures=row.failures,
        last_error=read_error(row.last_error),
        highest_seen=row.highest_seen,
        due_reason=row.due_reason,
        cas=tuple(json.loads(row.cas)) if row.cas else (row.directory_url,),
        troubles=_read_troubles(row.troubles),
        held=_hold(row),
    )


def _hold(row: Row[Any]) -> Hold | None:
    return None if row.held_at is None else Hold(row.held_at, row.held_until, row.held_reason)


def _read_troubles(text: str | None) -> dict[str, Trouble]:
    return {url: Trouble(**one) for url, one in json.loads(text or "{}").items()}


def dump_troubles(troubles: Mapping[str, Trouble]) -> str:
    return canonical({url: asdict(one) for url, one in troubles.items()})


def puller_row(row: Row[Any]) -> PullerRow:
    return PullerRow(
        id=row.id,
        signing_key=row.signing_key,
        sealing_id=row.sealing_id,
        sealing_key=row.sealing_key,
        host=row.host,
        status=PullerStatus(row.status),
        enrolled_at=row.enrolled_at,
        last_seen_at=row.last_seen_at,
        token_id=row.token_id,
    )


def token_row(row: Row[Any]) -> TokenRow:
    return TokenRow(
        id=row.id,
        public_key=row.public_key,
        certificates=tuple(json.loads(row.certificates)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        redeemed_at=row.redeemed_at,
        redeemed_by=row.redeemed_by,
        voided_at=row.voided_at,
    )


def generation_row(row: Row[Any]) -> GenerationRow:
    return GenerationRow(
        certificate=row.certificate,
        generation=row.generation,
        state=AttemptState(row.state),
        names=tuple(json.loads(row.names)),
        key_origin=row.key_origin,
        csr=row.csr,
        spki_sha256=row.spki_sha256,
        directory_url=row.directory_url,
        profile=row.profile,
        wanted=row.wanted,
        recipients=tuple(json.loads(row.recipients)),
        prepared_at=row.prepared_at,
        order_url=row.order_url,
        order_expires=row.order_expires,
        certificate_url=row.certificate_url,
        chain=row.chain,
        leaf_sha256=row.leaf_sha256,
        serial=row.serial,
        not_before=row.not_before,
        not_after=row.not_after,
        issued_at=row.issued_at,
        error=read_error(row.error),
        ari_id=row.ari_id,
        account_url=row.account_url,
        replaces=row.replaces,
        replaced_by=row.replaced_by,
        why=row.why,
        revoked_at=row.revoked_at,
        revoked_reason=row.revoked_reason,
    )


def receipt_row(row: Row[Any]) -> ReceiptRow:
    return ReceiptRow(
        puller=row.puller,
        certificate=row.certificate,
        generation=row.generation,
        digest=row.digest,
        outcome=row.outcome,
        error=row.error,
        served=tuple(ServedRow(**one) for one in json.loads(row.served)),
        at=row.at,
        received_at=row.received_at,
    )


def event_row(row: Row[Any]) -> EventRow:
    return EventRow(
        seq=row.seq,
        at=row.at,
        kind=row.kind,
        actor=row.actor,
        certificate=row.certificate,
        puller=row.puller,
        details=json.loads(row.details),
        previous_hash=row.previous_hash,
        hash=row.hash,
    )


def require_certificate(connection: Connection, certificate: str) -> Row[Any]:
    """
    Raises:
        PolicyError: there is no such certificate, or it was removed.
    """
    row = connection.execute(
        select(certificates).where(
            certificates.c.id == certificate, certificates.c.removed_at.is_(None)
        )
    ).one_or_none()
    if row is None:
        raise PolicyError(
            f"There is no certificate {certificate!r:.210}.", do="List them: external-agent status."
        )
    return row


def want_generation(connection: Connection, certificate: str, reason: str) -> None:
    """Count one more reason for a new generation."""
    connection.execute(
        update(certificates)
        .where(certificates.c.id == certificate)
        .values(wanted=certificates.c.wanted + 1, wanted_reason=reason)
    )


def grants_held(connection: Connection, puller: str) -> int:
    """Return how many certificates are granted to a puller: by this its quotas grow."""
    query = select(func.count()).select_from(grants).where(grants.c.puller == puller)
    return int(connection.execute(query).scalar_one())


def append_event(
    connection: Connection,
    kind: str,
    *,
    now: int,
    actor: str,
    certificate: str | None = None,
    puller: str | None = None,
    details: Mapping[str, object] | None = None,
) -> None:
    """Add one link to the audit trail, in the transaction that makes the change.

    What a puller says fills a bounded part of a day; beyond it one event says that the rest was
    left out. What it says is in the other tables all the same.
    """
    if actor == "relay" and puller is not None and kind not in _BOUNDED_BY_THEMSELVES:
        size = _EVENT_BYTES + len(canonical(dict(details or {})))
        if not _has_room(connection, puller, size, now):
            return
    add_link(
        connection,
        kind,
        now=now,
        actor=actor,
        certificate=certificate,
        puller=puller,
        details=details,
    )


def _has_room(connection: Connection, puller: str, size: int, now: int) -> bool:
    mine = pullers.c.id == puller
    row = connection.execute(select(pullers).where(mine)).one()
    fresh = not 0 <= now - row.events_since < quotas.EVENTS_WINDOW
    used = size + (0 if fresh else row.events_bytes)
    most = quotas.event_bytes(grants_held(connection, puller))
    if used > most and not fresh and row.events_bytes > most:
        return False  # it was said
    window = {"events_since": now} if fresh else {}
    connection.execute(update(pullers).where(mine).values({"events_bytes": used} | window))
    if used > most:
        add_link(
            connection,
            "events-left-out",
            now=now,
            actor="relay",
            puller=puller,
            details={
                "bytes": most,
                "until": (now if fresh else row.events_since) + quotas.EVENTS_WINDOW,
            },
        )
    return used <= most


def add_link(
    connection: Connection,
    kind: str,
    *,
    now: int,
    actor: str,
    certificate: str | None = None,
    puller: str | None = None,
    details: Mapping[str, object] | None = None,
) -> EventRow:
    """Add one link to the audit trail, whoever caused it."""
    head = connection.execute(select(facts).where(facts.c.key == EVENT_HEAD)).one()
    seq, previous = head.number + 1, head.text or FIRST
    content = dict(details or {})
    digest = event_hash(
        seq=seq,
        at=now,
        kind=kind,
        actor=actor,
        certificate=certificate,
        puller=puller,
        details=content,
        previous_hash=previous,
    )
    row = EventRow(seq, now, kind, actor, certificate, puller, content, previous, digest)
    connection.execute(
        insert(events).values(
            seq=seq,
            at=now,
            kind=kind,
            actor=actor,
            certificate=certificate,
            puller=puller,
            details=canonical(content),
            previous_hash=previous,
            hash=digest,
        )
    )
    connection.execute(
        update(facts).where(facts.c.key == EVENT_HEAD).values(number=seq, text=digest)
    )
    return row
