"""The chain of events: each one's digest covers its content and the digest before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

FIRST = "0" * 64
_MEMBERS = {
    "seq": (int,),
    "at": (int,),
    "kind": (str,),
    "actor": (str,),
    "certificate": (str, type(None)),
    "puller": (str, type(None)),
    "details": (dict,),
    "previous_hash": (str,),
    "hash": (str,),
}


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


class Chain:
    """Walks the events in order and says where they stop being a chain.

    Args:
        seq, previous: of the last event before the first one that is walked.

    Attributes:
        seq, previous: of the last event that was accepted.
    """

    def __init__(self, seq: int = 0, previous: str = FIRST) -> None:
        self.seq, self.previous = seq, previous

    def fault(self, event: Mapping[str, object]) -> str | None:
        """Accept the next event, or say how it breaks the chain.

        Args:
            event: the members of an event; ``details`` as an object.
        """
        if set(event) != set(_MEMBERS) or any(
            type(event[name]) not in kinds for name, kinds in _MEMBERS.items()
        ):
            return "its content is not readable"
        if event["seq"] != self.seq + 1:
            return "an event is missing, or one was put in"
        if event["previous_hash"] != self.previous:
            return "its link to the event before is broken"
        content = {name: value for name, value in event.items() if name != "hash"}
        try:
            digest = event_hash(**content)  # type: ignore[arg-type]
        except ValueError:
            return "its content is not readable"
        if digest != event["hash"]:
            return "its content was changed"
        self.seq, self.previous = self.seq + 1, digest
        return None
