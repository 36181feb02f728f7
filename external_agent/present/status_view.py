"""What operators see of each certificate: issued, pulled, installed, served as separate facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from external_agent.facts.issues import USUAL, Thresholds, concerns_of
from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.present.concern_view import concern_view
from external_agent.present.differences import differences
from external_agent.present.direct_view import direct_view
from external_agent.records.direct_rows import DirectRow
from external_agent.records.rows import (
    CertificateRow,
    CertificateStatus,
    DeliveryStatus,
    GenerationRow,
    PersistRow,
    ReceiptRow,
)
from shared.issuing.renewal import Advice, Reason

Json = dict[str, object]
_WHY = {
    Reason.LIFETIME: "its share of the lifetime will be used up",
    Reason.WINDOW: "a moment chosen inside the window that the CA suggests",
    Reason.WINDOW_PAST: "the window that the CA suggests is past: renew now",
    Reason.WINDOW_LATE: "the window that the CA suggests is too close to the end to wait for it",
    Reason.BRAKED: "the CA's window was past again right after a renewal, so it waits a while",
}


def certificate_view(status: CertificateStatus, now: int, limits: Thresholds = USUAL) -> Json:
    """Return one certificate as JSON members; times are unix seconds.

    Args:
        now: unix seconds.
    """
    row, issued = status.certificate, status.issued
    return {
        "certificate": row.id,
        "names": list(row.names),
        "key_origin": row.key_origin,
        "key_algorithm": str(row.key_algorithm),
        "challenge": row.challenge,
        "directory": row.directory_url,
        "cas": [_ca(row, url) for url in row.cas],
        "profile": row.profile,
        "state": _state(status, now),
        "paused": None if row.held is None or not row.held.holds(now) else asdict(row.held),
        "issued": None if issued is None else _issued(issued),
        "attempt": None
        if status.attempt is None
        else {
            "generation": status.attempt.generation,
            "state": str(status.attempt.state),
            "since": status.attempt.prepared_at,
        },
        "waits_for": status.waits_for,
        "csr": _csr(status),
        "persist_records": [_persist(one) for one in status.persist],
        "next_renewal": _next_renewal(status),
        "failures": row.failures,
        "last_error": None
        if row.last_error is None
        else {
            "type": row.last_error.type,
            "what": row.last_error.what,
            "at": row.last_error.at,
        },
        "pullers": [_delivery(delivery) for delivery in status.deliveries],
        "differences": differences(status, now),
        "concerns": [concern_view(one) for one in concerns_of(status, now, limits)],
    }


def status_view(
    statuses: Sequence[CertificateStatus],
    now: int,
    direct: Sequence[DirectRow] = (),
    limits: Thresholds = USUAL,
) -> Json:
    """Return everything ``status`` shows; ``direct`` is what pullers get by themselves."""
    return {
        "now": now,
        "certificates": [
            certificate_view(one, now, limits)
            for one in statuses
            if one.certificate.id != RELAY_CERTIFICATE
        ],
        "relay": next(
            (
                certificate_view(one, now, limits)
                for one in statuses
                if one.certificate.id == RELAY_CERTIFICATE
            ),
            None,
        ),
        "direct": [direct_view(one, now) for one in direct],
    }


def _issued(row: GenerationRow) -> Json:
    return {
        "generation": row.generation,
        "leaf_sha256": row.leaf_sha256,
        "serial": row.serial,
        "not_before": row.not_before,
        "not_after": row.not_after,
        "issued_at": row.issued_at,
        "key_origin": row.key_origin,
        "directory": row.directory_url,
        "revoked_at": row.revoked_at,
        "revoked_reason": row.revoked_reason,
    }


def _ca(row: CertificateRow, url: str) -> Json:
    """Show a CA of the list, and what stands against it."""
    trouble = row.troubles.get(url)
    return {
        "directory": url,
        "next": url == row.directory_url,
        "failures": 0 if trouble is None else trouble.failures,
        "left_alone_until": None if trouble is None else trouble.until,
        "problem": None if trouble is None else trouble.what,
    }


def _state(status: CertificateStatus, now: int) -> str:
    row, issued = status.certificate, status.issued
    if row.removed_at is not None:
        return "removed"
    if issued is not None and issued.not_after is not None and issued.not_after <= now:
        return "expired"
    if issued is not None and issued.revoked_at is not None:
        return "revoked"
    if status.attempt is not None and not row.failures:
        return "issuing"
    if row.failures:
        return "failing"
    return "wanted" if issued is None else _served(status)


def _served(status: CertificateStatus) -> str:
    """Sum up what the pullers saw; a suspended or revoked one has no say."""
    takers = [one for one in status.deliveries if one.takes_it]
    seen = [one.served_matches for one in takers]
    if False in seen:
        return "not served"
    if not takers or status.issued is None:
        return "issued"
    in_place = all(one.installed == status.issued.generation for one in takers)
    return "served" if all(seen) else "installed" if in_place else "issued"


def _csr(status: CertificateStatus) -> Json | None:
    """Show what the puller left for the next generation; ``None`` while the agent makes keys."""
    if status.certificate.key_origin != "puller":
        return None
    row = status.csr
    return {
        "waits": status.csr_waits,
        "received_at": None if row is None else row.received_at,
        "awaited_since": None if row is None else row.awaited_at,
        "refused_at": None if row is None else row.refused_at,
        "refused_why": None if row is None else row.refused_why,
    }


def _next_renewal(status: CertificateStatus) -> Json:
    """Say when the next order is made, and why then."""
    row = status.certificate
    if row.paused_until and row.failures:
        at, why = row.paused_until, f"after {row.failures} failed attempts the next one waits"
    elif row.renewal_wanted:
        at, why = row.paused_until or 0, row.wanted_reason or "it is wanted"
    elif row.due_at is not None:
        at, why = row.due_at, _WHY[Reason(row.due_reason or Reason.LIFETIME)]
    else:
        at, why = 0, "there is none yet"
    return {"at": at, "why": why, "window": _window(status.advice)}


def _window(advice: Advice | None) -> Json | None:
    """Show the CA's suggestion (RFC 9773) and the moment chosen in it."""
    if advice is None:
        return None
    return {
        "start": advice.start,
        "end": advice.end,
        "chosen": advice.chosen,
        "explanation_url": advice.explanation_url,
        "looked_at": advice.looked_at or None,
        "next_look": advice.next_look,
        "failures": advice.failures,
        "problem": advice.problem,
    }


def _persist(row: PersistRow) -> Json:
    return {
        "name": row.name,
        "verdict": row.seen.verdict,
        "what": row.seen.words,
        "until": row.seen.until,
        "looked_at": row.seen.looked_at,
    }


def _delivery(delivery: DeliveryStatus) -> Json:
    return {
        "puller": delivery.puller,
        "host": delivery.host,
        "status": str(delivery.puller_status),
        "last_seen_at": delivery.last_seen_at,
        "offered": delivery.offered,
        "pulled": {"generation": delivery.pulled, "at": delivery.pulled_at},
        "installed": {"generation": delivery.installed, "at": delivery.installed_at},
        "served": {
            "matches": delivery.served_matches,
            "at": delivery.served_at,
            "leaves": [
                {"leaf_sha256": one.leaf_sha256, "not_after": one.not_after, "address": one.address}
                for one in delivery.served
            ],
        },
        "last_receipt": None if delivery.last_receipt is None else _receipt(delivery.last_receipt),
    }


def _receipt(receipt: ReceiptRow) -> Json:
    return {
        "generation": receipt.generation,
        "outcome": receipt.outcome,
        "error": receipt.error,
        "at": receipt.at,
        "received_at": receipt.received_at,
    }
