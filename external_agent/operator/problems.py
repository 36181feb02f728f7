"""Refusals of the operator API: problem documents (RFC 9457) that also say what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from shared.contract.errors import (
    ConfigurationError,
    EnrolmentError,
    FenceLost,
    IssuanceError,
    IssuanceRateLimited,
    NameRefused,
    PolicyError,
    RelayError,
    StoreError,
    TokenUnknown,
)
from shared.contract.wire import PROBLEM_PREFIX, PROBLEM_TYPE

TITLES: Mapping[str, tuple[int, str]] = {
    "malformed-request": (400, "The request cannot be read"),
    "not-authenticated": (401, "An access token is needed"),
    "forbidden": (403, "This access token does not permit that"),
    "origin-unknown": (403, "Pages of another origin may not call this"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This method is not part of the call"),
    "conflict": (409, "That does not go together with what is there"),
    "changed-meanwhile": (412, "It was changed since it was read"),
    "body-too-large": (413, "The body is too large"),
    "not-json": (415, "The body is not JSON"),
    "host-unknown": (421, "This agent is not known by that host name"),
    "invalid-request": (422, "The request has members that are not acceptable"),
    "too-many-failures": (429, "Too many attempts with wrong access tokens"),
    "internal": (500, "The agent met an error of its own"),
    "ca-refused": (502, "The CA refused, or could not be reached"),
    "unavailable": (503, "The agent cannot do that now"),
}
_BY_CLASS: tuple[tuple[type[RelayError], str], ...] = (
    (NameRefused, "invalid-request"),
    (TokenUnknown, "not-found"),
    (FenceLost, "conflict"),
    (StoreError, "unavailable"),
    (IssuanceRateLimited, "unavailable"),
    (IssuanceError, "ca-refused"),
    (ConfigurationError, "invalid-request"),
    (PolicyError, "conflict"),
    (EnrolmentError, "conflict"),
)
_RETRY_AFTER = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one member of a request, by its path: ``names.0``."""

    member: str
    what: str


class Refused(Exception):
    """A refusal, on its way to its problem document.

    Args:
        slug: key of :data:`TITLES`; by default what the class of ``error`` stands for.
    """

    def __init__(
        self,
        slug: str = "",
        error: RelayError | None = None,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.slug = slug or (slug_of(error) if error is not None else "internal")
        super().__init__(self.slug)
        self.error, self.faults = error, tuple(faults)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer; a HEAD loses its body in the server."""
        return problem(self.slug, self.error, faults=self.faults, headers=self.headers)


def slug_of(error: RelayError) -> str:
    """Return the slug that a class of errors stands for."""
    return next((slug for kind, slug in _BY_CLASS if isinstance(error, kind)), "internal")


def problem(
    slug: str,
    error: RelayError | None = None,
    *,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem document; one of an error says what a command line needs to explain it."""
    status, title = TITLES[slug]
    members: dict[str, object] = {
        "type": PROBLEM_PREFIX + slug,
        "title": title,
        "status": status,
        "detail": f"{title}." if error is None else error.what,
    }
    if error is not None:
        members |= {
            "means": error.means,
            "do": error.do,
            "error": error.type,
            "exit_code": error.exit_code,
        }
    if faults:
        members["faults"] = [{"member": one.member, "what": one.what} for one in faults]
    more = {"Cache-Control": "no-store", **(headers or {})}
    wait = getattr(error, "retry_after", None)
    if status == 503 or wait is not None:
        more.setdefault("Retry-After", str(max(1, int(wait or _RETRY_AFTER))))
    return Response(json.dumps(members), status, more, PROBLEM_TYPE)
