"""Problem documents: how the lab CA says no (RFC 8555 section 6.7, RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

PREFIX = "urn:ietf:params:acme:error:"
STATUS = {
    "accountDoesNotExist": 400,
    "alreadyReplaced": 409,
    "caa": 403,
    "connection": 400,
    "dns": 400,
    "externalAccountRequired": 403,
    "incorrectResponse": 403,
    "orderNotReady": 403,
    "rateLimited": 429,
    "serverInternal": 500,
    "unauthorized": 403,
    "userActionRequired": 403,
}


class Problem(Exception):
    """A refusal.

    Args:
        kind: the error type without its URN prefix.
        detail: one sentence for people.
        status: HTTP status; the usual one of the type when omitted.
        headers: more headers of the answer.
        subproblems: one problem for each identifier at fault (section 6.7.1).
        extra: more members of the document, such as ``algorithms``.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        status: int | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        subproblems: Sequence[tuple[str, Problem]] = (),
        **extra: Any,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.status = status or STATUS.get(kind, 400)
        self.headers = dict(headers or {})
        self.subproblems = list(subproblems)
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """Return the problem as a JSON object."""
        document: dict[str, Any] = {
            "type": self.kind if ":" in self.kind else PREFIX + self.kind,
            "detail": self.detail,
            "status": self.status,
            **self.extra,
        }
        if self.subproblems:
            document["subproblems"] = [
                {**problem.document(), "identifier": {"type": "dns", "value": name}}
                for name, problem in self.subproblems
            ]
        return document

    def body(self) -> bytes:
        """Return the document as bytes."""
        return json.dumps(self.document()).encode()


def malformed(detail: str, status: int | None = None) -> Problem:
    """Return the problem for a request that is not what the RFC asks for."""
    return Problem("malformed", detail, status)
