"""Refusals of the relay API: which error becomes which problem document (RFC 9457)."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.contract.errors import (
    CsrRefused,
    EnrolmentError,
    KeysRefused,
    MalformedMessage,
    PolicyError,
    PullerRevoked,
    RelayError,
    RequestRefused,
    StoreError,
    TokenExpired,
    TokenUnknown,
    TokenUsed,
)
from shared.contract.wire import PROBLEM_TYPE, Problem

_TITLES = {
    "method-not-allowed": (405, "This method is not part of the relay API"),
    "body-not-allowed": (400, "A GET has no body"),
    "body-too-large": (413, "The body is too large"),
    "body-too-slow": (408, "The body did not arrive in time"),
    "signature-malformed": (400, "The signature headers are not of the permitted shape"),
    "not-authenticated": (401, "The request is not signed by a key known here"),
    "store-unavailable": (503, "The agent's database is not available"),
    "clock": (400, "The clocks differ too much"),
    "replayed-nonce": (409, "This request was made before"),
    "puller-revoked": (403, "This puller was revoked"),
    "puller-suspended": (403, "This puller waits for an operator's confirmation"),
    "certificate-unknown": (404, "No such certificate is granted to this puller"),
    "not-found": (404, "There is no such call"),
    "malformed-request": (400, "The request is not of the shape of the relay API"),
    "csr-refused": (422, "The CSR is not acceptable"),
    "too-many-waits": (429, "Too many requests of this puller are waiting"),
    "quota": (429, "Too many requests of this puller"),
    "token-expired": (403, "The enrolment token has expired or was voided"),
    "token-used": (409, "The enrolment token was used by other keys"),
    "keys-refused": (422, "The offered keys cannot be accepted"),
    "rehearsal": (409, "Nothing can be rehearsed here"),
    "internal": (500, "The agent met an error of its own"),
}
# What the store calls its refusals, in the words of the API.
_REFUSALS = {
    "rehearsal": "rehearsal",
    "replayed": "replayed-nonce",
    "not-granted": "certificate-unknown",
    "too-many-receipts": "quota",
    "too-many-csrs": "quota",
    "too-many-calls": "quota",
    "too-many-reports": "quota",
    "too-many-examinations": "quota",
    "too-many-rehearsals": "quota",
    "examination-under-way": "too-many-waits",
    "rehearsals-under-way": "too-many-waits",
    "puller-revoked": "puller-revoked",
    "puller-suspended": "puller-suspended",
}
_BY_CLASS: tuple[tuple[type[RelayError], str], ...] = (
    (PullerRevoked, "puller-revoked"),
    (TokenUsed, "token-used"),
    (TokenExpired, "token-expired"),
    (TokenUnknown, "token-expired"),
    (KeysRefused, "keys-refused"),
    (EnrolmentError, "malformed-request"),
    (StoreError, "store-unavailable"),
    (MalformedMessage, "malformed-request"),
    (CsrRefused, "csr-refused"),
    (PolicyError, "certificate-unknown"),
)
_RETRY_AFTER = {"store-unavailable": 5, "too-many-waits": 30, "quota": 60}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the relay API before it is signed."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = field(default=())


def problem(slug: str, detail: str = "", *, retry_after: int | None = None) -> Answer:
    """Return the problem document for a slug of ``docs/FORMAT.md``."""
    status, title = _TITLES[slug]
    body = Problem(slug, title, status, detail or f"{title}.").encode()
    wait = retry_after if retry_after is not None else _RETRY_AFTER.get(slug)
    headers = () if wait is None else (("Retry-After", str(wait)),)
    return Answer(status, body, PROBLEM_TYPE, headers)


def slug_of(error: RelayError) -> str:
    """Return what ``error`` is called in ``docs/FORMAT.md``."""
    if isinstance(error, RequestRefused) and error.problem_type in _REFUSALS:
        return _REFUSALS[error.problem_type]
    return next((slug for kind, slug in _BY_CLASS if isinstance(error, kind)), "internal")


def problem_of(error: RelayError) -> Answer:
    """Return the problem document that tells a puller of ``error``."""
    slug = slug_of(error)
    detail = "" if slug in ("internal", "store-unavailable") else error.what
    retry_after = getattr(error, "retry_after", None)
    return problem(slug, detail, retry_after=None if retry_after is None else int(retry_after))
