"""Sealed keys alone: what was sealed for which context, and for which context it is opened."""

from __future__ import annotations

from dataclasses import replace

from shared.contract.key_policy import key_to_der
from shared.contract.sealing import Identity, SealContext
from shared.contract.x509 import spki_sha256
from tests.vectors.vector import Vector
from tests.vectors.world import (
    AGENT,
    GENERATION,
    IDENTITY,
    NAME,
    OTHER_AGENT,
    OTHER_IDENTITY,
    ec_key,
    seal,
)

CONTEXT = SealContext(AGENT.id, IDENTITY.id, GENERATION, spki_sha256(ec_key("Vector Leaf")), NAME)
KEY = key_to_der(ec_key("Vector Leaf"))


def preimage(context: SealContext) -> bytes:
    """The octets whose digest stands before the key (docs/FORMAT.md, section 2)."""
    name = context.certificate.encode()
    return (
        b"split-horizon-relay/seal/v1\0"
        + bytes.fromhex(context.agent + context.recipient)
        + context.generation.to_bytes(8, "big")
        + bytes.fromhex(context.spki_sha256)
        + len(name).to_bytes(2, "big")
        + name
    )


def _vector(
    name: str,
    expect: str,
    comment: str,
    *,
    sealed: bytes | None = None,
    sealed_for: SealContext = CONTEXT,
    to: Identity = IDENTITY,
    opened_for: SealContext = CONTEXT,
) -> Vector:
    head = {
        "expect": expect,
        "comment": comment,
        "identity": IDENTITY.private().hex(),
        "agent-id": opened_for.agent,
        "recipient": opened_for.recipient,
        "generation": str(opened_for.generation),
        "spki-sha256": opened_for.spki_sha256,
        "certificate": opened_for.certificate,
    }
    if expect == "success":
        head |= {"context": preimage(opened_for).hex(), "opens-to": KEY.hex()}
    return Vector(name, head, seal(KEY, to, sealed_for) if sealed is None else sealed)


def vectors() -> list[Vector]:
    broken = "bundle/seal-broken"
    usual = seal(KEY, IDENTITY, CONTEXT)
    largest = replace(CONTEXT, generation=2**53 - 1, certificate="a" * 200)
    others = {
        "agent": replace(CONTEXT, agent=OTHER_AGENT.id),
        "recipient": replace(CONTEXT, recipient=OTHER_IDENTITY.id),
        "generation": replace(CONTEXT, generation=GENERATION + 1),
        "spki": replace(CONTEXT, spki_sha256=spki_sha256(ec_key("Another Key"))),
        "certificate": replace(CONTEXT, certificate="mail.intra.example.com"),
        "certificate-longer": replace(CONTEXT, certificate=NAME + "m"),
    }
    octets = {
        "empty": ("no octets", b""),
        "cut": ("the last octet is missing", usual[:-1]),
        "trailing": ("an octet behind it", usual + b"\0"),
        "flipped": ("one bit is another", usual[:-1] + bytes([usual[-1] ^ 1])),
        "ephemeral": ("the ephemeral key is another", bytes([usual[0] ^ 1]) + usual[1:]),
        "short": ("shorter than the box around nothing", usual[:47]),
    }
    return [
        _vector("good", "success", "as an agent seals it"),
        _vector(
            "good-largest",
            "success",
            "the largest generation and the longest id",
            sealed_for=largest,
            opened_for=largest,
        ),
        *(
            _vector(f"other-{name}", broken, f"sealed for another {name}", sealed_for=context)
            for name, context in others.items()
        ),
        *(
            _vector(name, broken, comment, sealed=sealed)
            for name, (comment, sealed) in octets.items()
        ),
        _vector("other-machine", broken, "sealed to another machine", to=OTHER_IDENTITY),
    ]
