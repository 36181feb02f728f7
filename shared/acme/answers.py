"""The CA's JSON answers read into our records, and refused when they make no sense."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.acme.network import Answer
from shared.acme.origin import Origin
from shared.acme.ports import AuthorizationState, ChallengeState, DirectoryInfo, OrderState
from shared.acme.problems import plain_text, read_problem
from shared.contract.errors import IssuanceUnavailable

ORDER_STATUSES = frozenset(("pending", "ready", "processing", "valid", "invalid"))
AUTHORIZATION_STATUSES = frozenset(
    ("pending", "valid", "invalid", "deactivated", "expired", "revoked")
)
CHALLENGE_STATUSES = frozenset(("pending", "processing", "valid", "invalid"))
_MOST_CHALLENGES = 20
_MOST_LISTED = 1000


def read_directory(answer: Answer, origin: Origin) -> DirectoryInfo:
    """Read RFC 8555 section 7.1.1, and `renewalInfo` of RFC 9773.

    Raises:
        IssuanceRejected: a URL that must not be called.
        IssuanceUnavailable: no directory.
    """
    document = answer.document()
    meta = document.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    profiles = meta.get("profiles")
    identities = meta.get("caaIdentities")

    def optional(name: str) -> str | None:
        return origin.check(document[name], name) if document.get(name) else None

    return DirectoryInfo(
        url=answer.url,
        new_nonce=origin.check(document.get("newNonce"), "newNonce"),
        new_account=origin.check(document.get("newAccount"), "newAccount"),
        new_order=origin.check(document.get("newOrder"), "newOrder"),
        revoke_cert=optional("revokeCert"),
        key_change=optional("keyChange"),
        renewal_info=optional("renewalInfo"),
        terms_of_service=plain_text(meta.get("termsOfService")) or None,
        external_account_required=meta.get("externalAccountRequired") is True,
        profiles={
            plain_text(name): plain_text(words)
            for name, words in (profiles.items() if isinstance(profiles, dict) else ())
        },
        caa_identities=tuple(_texts(identities)),
        meta=meta,
    )


def read_order(answer: Answer, url: str, origin: Origin) -> OrderState:
    """Read an order; `url` is its own."""
    document = answer.document()
    certificate = document.get("certificate")
    problem = document.get("error")
    return OrderState(
        url=origin.check(url, "order"),
        status=_status(document, ORDER_STATUSES, "order"),
        names=frozenset(_identifiers(document)),
        authorizations=tuple(
            origin.check(one, "authorization")
            for one in _texts(document.get("authorizations"), _MOST_LISTED)
        ),
        finalize=origin.check(document.get("finalize"), "finalize address"),
        certificate=origin.check(certificate, "certificate address") if certificate else None,
        expires=read_time(document.get("expires")),
        problem=read_problem(problem) if problem else None,
        retry_after=answer.retry_after,
    )


def read_authorization(answer: Answer, url: str, origin: Origin) -> AuthorizationState:
    """Read an authorization; `url` is its own."""
    document = answer.document()
    identifier = document.get("identifier")
    if not isinstance(identifier, dict) or identifier.get("type") != "dns":
        raise IssuanceUnavailable(f"The authorization {url} has no DNS identifier.")
    value = str(identifier.get("value")).lower()
    challenges = document.get("challenges")
    listed = challenges[:_MOST_CHALLENGES] if isinstance(challenges, list) else []
    return AuthorizationState(
        url=url,
        identifier=value.removeprefix("*."),
        wildcard=document.get("wildcard") is True or value.startswith("*."),
        status=_status(document, AUTHORIZATION_STATUSES, "authorization"),
        challenges=tuple(read_challenge(one, origin) for one in listed if isinstance(one, dict)),
        retry_after=answer.retry_after,
    )


def read_challenge(document: Mapping[str, Any], origin: Origin) -> ChallengeState:
    """Read a challenge. Its token stays unchecked: only that of a chosen one matters."""
    problem = document.get("error")
    return ChallengeState(
        type=plain_text(document.get("type")),
        url=origin.check(document.get("url"), "challenge"),
        status=_status(document, CHALLENGE_STATUSES, "challenge", default="pending"),
        token=document["token"] if isinstance(document.get("token"), str) else "",
        problem=read_problem(problem) if problem else None,
        raw=dict(document),
    )


def read_order_list(answer: Answer, origin: Origin) -> list[str]:
    """Read one page of an account's orders (RFC 8555 section 7.1.2.1); a bare array too.

    Some CAs (Caddy's is one) send the array without the object around it. What makes no sense is
    an empty list: looking for lost orders may never stop new ones.
    """
    decoded = answer.decoded()
    listed = decoded.get("orders") if isinstance(decoded, dict) else decoded
    return [origin.check(one, "order") for one in _texts(listed, _MOST_LISTED)]


def read_time(value: object) -> float | None:
    """Return unix seconds of an RFC 3339 time; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _status(
    document: Mapping[str, Any], known: frozenset[str], what: str, default: str | None = None
) -> str:
    status = document.get("status", default)
    if not isinstance(status, str) or status not in known:
        raise IssuanceUnavailable(f"The CA gave an {what} without a status that RFC 8555 knows.")
    return status


def _identifiers(document: Mapping[str, Any]) -> list[str]:
    listed = document.get("identifiers")
    return [
        str(one.get("value")).lower()
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and one.get("type") == "dns"
    ]


def _texts(value: object, most: int = 100) -> list[str]:
    listed = value[:most] if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str)]
