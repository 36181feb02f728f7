"""Answers in JSON, with a validator (RFC 9110 section 8.8) so that asking again is cheap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from external_agent.operator.problems import Refused

VOLATILE = frozenset(("now", "age"))
"""Members that tell the time: an answer that differs in nothing else is the same."""


def answer(
    request: Request, value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON, or 304 where the caller has it already."""
    tag = etag(value)
    more = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    if request.method in ("GET", "HEAD") and _matches(request.headers.get("if-none-match"), tag):
        return Response(None, 304, more)
    return Response(json.dumps(value), status, more, "application/json")


def secret(value: object, location: str) -> Response:
    """Return something made that is shown once and kept by nobody in between."""
    more = {"Cache-Control": "no-store", "Location": location}
    return Response(json.dumps(value), 201, more, "application/json")


def etag(value: object) -> str:
    """Return a weak validator: equal for what means the same."""
    text = json.dumps(_without_volatile(value), sort_keys=True)
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def require_match(request: Request, value: object) -> None:
    """
    Raises:
        Refused: ``If-Match`` names another state than the one that is there (RFC 9110 13.1.1).
    """
    field = request.headers.get("if-match")
    if field is not None and not _matches(field, etag(value)):
        raise Refused("changed-meanwhile")


def _matches(field: str | None, tag: str) -> bool:
    """Weak comparison, also for If-Match: all our validators are weak."""
    if field is None:
        return False
    given = [one.strip().removeprefix("W/") for one in field.split(",")]
    return "*" in given or tag.removeprefix("W/") in given


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_volatile(one) for name, one in value.items() if name not in VOLATILE}
    if isinstance(value, list | tuple):
        return [_without_volatile(one) for one in value]
    return value
