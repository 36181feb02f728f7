"""What a bundle is checked with, unless its vector says otherwise."""

from __future__ import annotations

from tests.vectors.vector import Vector
from tests.vectors.world import AGENT, IDENTITY, NAME, NOW

_HEAD = {
    "agent": AGENT.public.public.hex(),
    "identity": IDENTITY.private().hex(),
    "now": str(NOW),
    "target": NAME,
    "target-names": NAME,
    "target-key-origin": "any",
    "root": "root.pem",
    "floor-generation": "0",
    "floor-digest": "",
    "pending-key": "",
}


def bundle_vector(name: str, expect: str, comment: str, body: bytes, **head: str) -> Vector:
    named = {key.replace("_", "-"): value for key, value in head.items()}
    return Vector(name, {"expect": expect, "comment": comment, **_HEAD, **named}, body)
