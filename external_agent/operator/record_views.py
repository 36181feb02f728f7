"""What was recorded, as JSON members: generations, orders step by step, receipts, accounts, CAs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from external_agent.records.alert_rows import AlertReceiver, ToldAlert
from external_agent.records.model import UNFINISHED, AttemptState
from external_agent.records.rows import (
    AccountRow,
    AuthorityRow,
    ChallengeRow,
    ErrorNote,
    GenerationRow,
    ReceiptRow,
)

Json = dict[str, Any]
_WAY = (
    AttemptState.PREPARED,
    AttemptState.ORDERED,
    AttemptState.FINALIZING,
    AttemptState.CERTIFIED,
    AttemptState.ISSUED,
)


def generation_view(row: GenerationRow) -> Json:
    """Return a generation; of its key the digest of the public half only."""
    return {
        "certificate": row.certificate,
        "generation": row.generation,
        "state": str(row.state),
        "names": list(row.names),
        "key_origin": row.key_origin,
        "directory": row.directory_url,
        "profile": row.profile,
        "recipients": list(row.recipients),
        "prepared_at": row.prepared_at,
        "issued_at": row.issued_at,
        "not_before": row.not_before,
        "not_after": row.not_after,
        "serial": row.serial,
        "leaf_sha256": row.leaf_sha256,
        "spki_sha256": row.spki_sha256,
        "chain": row.chain,
        "why": row.why,
        "replaced_by": row.replaced_by,
        "revoked_at": row.revoked_at,
        "revoked_reason": row.revoked_reason,
        "error": _error(row.error),
    }


def order_view(row: GenerationRow, challenges: Sequence[ChallengeRow]) -> Json:
    """Return the order of a generation.

    Args:
        challenges: of the certificate; they belong to its unfinished attempt.
    """
    mine = challenges if row.state in UNFINISHED else ()
    return {
        "certificate": row.certificate,
        "generation": row.generation,
        "state": str(row.state),
        "directory": row.directory_url,
        "account": row.account_url,
        "order": row.order_url,
        "expires": row.order_expires,
        "certificate_url": row.certificate_url,
        "replaces": row.replaces,
        "why": row.why,
        "steps": _steps(row),
        "authorizations": [
            {"name": one.name, "since": one.created_at, "asked": one.hits} for one in mine
        ],
        "error": _error(row.error),
    }


def _steps(row: GenerationRow) -> list[Json]:
    """Return what was reached, as far as the rows tell; a failed one tells by its traces."""
    if row.state in _WAY:
        reached = _WAY[: _WAY.index(row.state) + 1]
    else:
        traces = (True, bool(row.order_url), bool(row.certificate_url), bool(row.certificate_url))
        reached = tuple(step for step, seen in zip(_WAY, traces, strict=False) if seen)
        reached = (*reached, row.state)
    failed_at = None if row.error is None else row.error.at
    times = {
        AttemptState.PREPARED: row.prepared_at,
        AttemptState.ISSUED: row.issued_at,
        AttemptState.FAILED: failed_at,
    }
    return [{"step": str(step), "at": times.get(step)} for step in reached]


def receipt_view(number: int, row: ReceiptRow) -> Json:
    return {
        "number": number,
        "puller": row.puller,
        "certificate": row.certificate,
        "generation": row.generation,
        "outcome": row.outcome,
        "error": row.error,
        "served": [asdict(one) for one in row.served],
        "at": row.at,
        "received_at": row.received_at,
    }


def account_view(row: AccountRow) -> Json:
    return {
        "directory": row.directory_url,
        "account": row.account_url,
        "contact": list(row.contact),
        "thumbprint": row.thumbprint,
        "status": row.status,
        "opened_at": row.created_at,
    }


def authority_view(row: AuthorityRow) -> Json:
    tried = "untried" if row.issued_at is None else "good"
    return {
        "directory": row.directory_url,
        "health": "failing" if row.failing else tried,
        "certificates": row.certificates,
        "failing": row.failing,
        "issued_at": row.issued_at,
        "last_error": _error(row.last_error),
    }


def receiver_view(row: AlertReceiver, told: Sequence[ToldAlert]) -> Json:
    return {
        "receiver": row.name,
        "last_success_at": row.last_success_at or None,
        "last_failure_at": row.last_failure_at or None,
        "failures": row.failures,
        "problem": row.problem,
        "told": [
            {
                "certificate": one.certificate,
                "severity": one.severity.name.lower(),
                "what": one.what,
                "told_at": one.told_at,
                "gone_at": one.gone_at,
            }
            for one in told
        ],
    }


def _error(note: ErrorNote | None) -> Json | None:
    return None if note is None else asdict(note)
