"""What operators see of certificates that pullers get by themselves."""

from __future__ import annotations

from external_agent.facts.issues import concerns_of_direct
from external_agent.facts.serving import is_direct_served
from external_agent.present.concern_view import concern_view
from external_agent.records.direct_rows import DirectRow

Json = dict[str, object]


def direct_view(row: DirectRow, now: int) -> Json:
    """Return one certificate as JSON members; times are unix seconds."""
    return {
        "certificate": row.certificate,
        "origin": "direct",
        "names": list(row.names),
        "puller": row.puller,
        "host": row.host,
        "puller_status": str(row.puller_status),
        "state": _state(row, now),
        "generation": row.generation,
        "not_after": row.not_after,
        "leaf_sha256": row.leaf_sha256,
        "next_renewal": row.next_renewal,
        "outcome": row.outcome,
        "error": row.error,
        "served": {
            "matches": is_direct_served(row),
            "leaves": [
                {"leaf_sha256": one.leaf_sha256, "not_after": one.not_after, "address": one.address}
                for one in row.served
            ],
        },
        "at": row.at,
        "received_at": row.received_at,
        "concerns": [concern_view(one) for one in concerns_of_direct(row, now)],
    }


def _state(row: DirectRow, now: int) -> str:
    if row.generation and row.not_after <= now:
        return "expired"
    if row.outcome != "installed":
        return "failing"
    return {None: "installed", True: "served", False: "not served"}[is_direct_served(row)]
