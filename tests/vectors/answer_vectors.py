"""Signed answers, good and hostile, as a puller gets them."""

from __future__ import annotations

from typing import Any

from shared.contract.http_signatures import (
    SignedTarget,
    content_digest,
    parse_signatures,
    sign_request,
    sign_response,
)
from shared.contract.signing import SigningKey, key_id
from shared.contract.strict_json import encode_base64
from tests.vectors.request_vectors import AUTHORITY, NONCE
from tests.vectors.vector import Vector
from tests.vectors.world import AGENT, NOW, OTHER_AGENT, PULLER

_BAD = "answer-unauthenticated"
BODY = b'{"bundle":null,"newest":0}'


def request_signature(created: int = NOW) -> bytes:
    """Of the request that is answered."""
    path = "/v1/certificates/www.intra.example.com/bundle"
    target = SignedTarget("GET", AUTHORITY, path, "after=0")
    signed = sign_request(target, b"", {"shr": PULLER}, created=created, nonce=NONCE)
    return parse_signatures(signed["Signature-Input"], signed["Signature"])["shr"].signature


def _answer(
    name: str,
    expect: str,
    comment: str,
    *,
    status: int = 200,
    body: bytes = BODY,
    by: SigningKey = AGENT,
    to: bytes | None = None,
    created: int = NOW,
    sent: bytes | None = None,
    status_sent: str = "",
    **changes: str,
) -> Vector:
    signed = sign_response(status, body, to or request_signature(), by, created=created)
    head = {
        "expect": expect,
        "comment": comment,
        "key": AGENT.public.public.hex(),
        "keyid": AGENT.id,
        "request-signature": request_signature().hex(),
        "status": status_sent or str(status),
        "content-digest": signed["Content-Digest"],
        "signature-input": signed["Signature-Input"],
        "signature": signed["Signature"],
    }
    for changed, value in changes.items():
        field = changed.replace("_", "-")
        old, arrow, new = value.partition(" => ")
        if arrow and old not in head[field]:
            raise ValueError(f"{name}: {old} is not in {field}")
        head[field] = head[field].replace(old, new) if arrow else value
    return Vector(name, head, body if sent is None else sent)


def _changed(name: str, comment: str, **changes: Any) -> Vector:
    return _answer(name, _BAD, comment, **changes)


def _forged() -> list[Vector]:
    own, other = AGENT.id, OTHER_AGENT.id
    return [
        _changed("other-request", "the answer to another request", to=request_signature(NOW + 1)),
        _changed("signer-other", "signed by another agent", by=OTHER_AGENT),
        _changed(
            "signer-forged",
            "another key's signature under the agent's id",
            by=OTHER_AGENT,
            signature_input=f"{other} => {own}",
        ),
        _changed(
            "keyid-other",
            "the agent's signature under the id of another key",
            signature_input=f"{own} => {other}",
        ),
        _low_order(),
    ]


def _low_order() -> Vector:
    """A signature of a point of low order and zero, which fits everything under such a key."""
    point = bytes([1]) + bytes(31)
    made = _changed("low-order-key", "a pinned key of low order, under which everything would fit")
    head = made.head | {
        "key": point.hex(),
        "keyid": key_id(point),
        "signature-input": made.head["signature-input"].replace(AGENT.id, key_id(point)),
        "signature": f"shr=:{encode_base64(point + bytes(32))}:",
    }
    return Vector(made.name, head, made.body)


def _second() -> dict[str, str]:
    """The answer's own signature, and the same once more under the other label."""
    signed = sign_response(200, BODY, request_signature(), AGENT, created=NOW)
    return {
        field.lower().replace(
            "-", "_"
        ): f"{signed[field]}, {signed[field].replace('shr=', 'token=')}"
        for field in ("Signature-Input", "Signature")
    }


def _edited() -> list[Vector]:
    other = content_digest(b"{}")
    return [
        _changed("status", "another status", status_sent="429"),
        _changed("body", "another body", sent=b'{"bundle":null,"newest":1}'),
        _changed(
            "body-and-digest", "another body with its digest", sent=b"{}", content_digest=other
        ),
        _changed("no-digest", "no Content-Digest", content_digest=""),
        _changed("created", "another time", signature_input=f"{NOW} => {NOW + 1}"),
        _changed("tag", "the tag of a request", signature_input="shr1-response => shr1-request"),
        _changed(
            "nonce",
            "a nonce, which only a request has",
            signature_input=f';tag => ;nonce="{NONCE}";tag',
        ),
        _changed("label", "another label", signature_input="shr=( => sig1=("),
        _changed("not-of-a-request", "no word of a request", signature_input=";req => "),
        _changed("no-status", "the status is not covered", signature_input='"@status"  => '),
        _changed("unsigned", "no signature", signature_input="", signature=""),
        _changed("two-labels", "a second signature beside it", **_second()),
    ]


def vectors() -> list[Vector]:
    quota = "urn:split-horizon-relay:problem:quota"
    refusal = b'{"detail":"x","status":429,"title":"x","type":"%s"}' % quota.encode()
    return [
        _answer("good", "success", "as an agent sends it"),
        _answer("good-refusal", "success", "a refusal is signed, too", status=429, body=refusal),
        _answer("good-no-octets", "success", "a body of no octets", body=b""),
        _answer("good-old", "success", "dated a day back: never judged", created=NOW - 86_400),
        _answer("good-ahead", "success", "dated a day ahead: never judged", created=NOW + 86_400),
        *_edited(),
        *_forged(),
    ]
