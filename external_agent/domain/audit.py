"""The chain of events: each one's digest covers its content and the digest before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

FIRST = "0" * 64


def canonical(value: object) -> str:
    """Return JSON with sorted members, without white space, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def event_hash(
    *,
    seq: int,
    at: int,
    kind: str,
    actor: str,
    certificate: str | None,
    puller: str | None,
    details: Mapping[str, object],
    previous_hash: str,
) -> str:
    """Return the hex SHA-256 over every member of an event."""
    content = [seq, at, kind, actor, certificate, puller, details, previous_hash]
    return hashlib.sha256(canonical(content).encode("ascii")).hexdigest()
