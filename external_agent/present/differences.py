"""Where one fact about a certificate is behind the one before it, and since when.

wanted → issued (by the agent) → pulled → installed → served (by each puller).
"""

from __future__ import annotations

from external_agent.records.rows import CertificateStatus, DeliveryStatus, GenerationRow

Json = dict[str, object]


def differences(status: CertificateStatus, now: int) -> list[Json]:
    """Return what is behind as JSON members; of a puller that is not active nothing is awaited.

    Args:
        now: unix seconds.
    """
    row, issued = status.certificate, status.issued
    found: list[Json] = []
    if issued is None:
        found.append(_difference("issued", "wanted", None, row.created_at, now))
    elif row.renewal_wanted or (row.due_at is not None and row.due_at <= now):
        since = row.due_at if row.due_at is not None and row.due_at <= now else None
        begun = None if status.attempt is None else status.attempt.prepared_at
        found.append(_difference("issued", "wanted", None, since or begun, now))
    if issued is not None:
        for one in status.deliveries:
            if one.takes_it:
                found += _behind(one, issued, now)
    return found


def _behind(one: DeliveryStatus, issued: GenerationRow, now: int) -> list[Json]:
    found = []
    if one.pulled < issued.generation:
        found.append(_difference("pulled", "issued", one.puller, issued.issued_at, now))
    if one.installed < one.pulled:
        found.append(_difference("installed", "pulled", one.puller, one.pulled_at, now))
    if one.served_matches is False:
        found.append(_difference("served", "issued", one.puller, issued.issued_at, now))
    return found


def _difference(behind: str, of: str, puller: str | None, since: int | None, now: int) -> Json:
    return {
        "behind": behind,
        "of": of,
        "puller": puller,
        "since": since,
        "age": None if since is None else max(0, now - since),
    }
