"""Signed requests and enrolments, good and hostile, as an agent gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.contract import strict_json
from shared.contract.http_signatures import MAX_BODY, SignedTarget, content_digest, sign_request
from shared.contract.signing import SigningKey
from tests.vectors.vector import Vector
from tests.vectors.world import (
    IDENTITY,
    NOW,
    OTHER_AGENT,
    OTHER_IDENTITY,
    PULLER,
    TOKEN_KEY,
)

NONCE = "bm9uY2Ugb2YgMTYgb2N0ZQ"
AUTHORITY = "relay.example.com:8443"
_SHAPE, _BAD = "signature-malformed", "not-authenticated"
_RECEIPTS = SignedTarget("POST", AUTHORITY, "/v1/receipts", "")
_LISTING = SignedTarget("GET", AUTHORITY, "/v1/certificates", "")
ENROLMENTS = SignedTarget("POST", AUTHORITY, "/v1/enrolments", "")
_BODY = b'{"certificate":"www.intra.example.com"}'


def _vector(
    name: str,
    expect: str,
    comment: str,
    key: SigningKey,
    signers: Mapping[str, SigningKey],
    target: SignedTarget,
    body: bytes,
    *,
    now: int = NOW,
    created: int = NOW,
    sent: bytes | None = None,
    **changes: str,
) -> Vector:
    """One request: signed, and then changed.

    Args:
        key: the one that the agent knows, under its key id.
        sent: the body that arrives, instead of the signed one.
        changes: of the head: another value, or ``OLD => NEW`` within it.
    """
    signed = sign_request(target, body, signers, created=created, nonce=NONCE)
    head = {
        "expect": expect,
        "comment": comment,
        "key": key.public.public.hex(),
        "keyid": key.id,
        "label": "token" if "token" in signers else "shr",
        "now": str(now),
        "method": target.method,
        "authority": target.authority,
        "path": target.path,
        "query": target.query,
        "content-digest": signed.get("Content-Digest", ""),
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


# --- requests of a puller ----------------------------------------------------------------------


def _request(name: str, expect: str, comment: str, **changes: Any) -> Vector:
    by = changes.pop("by", PULLER)
    body = changes.pop("body", _BODY)
    return _vector(name, expect, comment, PULLER, {"shr": by}, _RECEIPTS, body, **changes)


def _get(name: str, expect: str, comment: str, asked: str = "", **changes: Any) -> Vector:
    target = SignedTarget("GET", AUTHORITY, _LISTING.path, asked)
    return _vector(name, expect, comment, PULLER, {"shr": PULLER}, target, b"", **changes)


def _good_requests() -> list[Vector]:
    return [
        _request("good", "success", "as a puller sends it"),
        _request("good-largest", "success", "a body of 65,536 octets", body=b"x" * MAX_BODY),
        _request("good-no-octets", "success", "a body of no octets", body=b""),
        _request("good-slow-clock", "success", "300 s behind", now=NOW + 300),
        _request("good-fast-clock", "success", "300 s ahead", now=NOW - 300),
        _get("good-get", "success", "without a query: @query is a question mark"),
        _get("good-get-query", "success", "with a query", "since=5f3a&wait=50"),
        _vector(
            "good-put",
            "success",
            "a PUT covers its body, too",
            PULLER,
            {"shr": PULLER},
            SignedTarget("PUT", AUTHORITY, "/v1/certificates/www.intra.example.com/csr", ""),
            b"\x30\x00",
        ),
    ]


def _other_signed_part() -> list[Vector]:
    other = content_digest(b"{}")
    return [
        _request("method", _BAD, "another method with the same components", method="PUT"),
        _request("authority", _BAD, "another origin", authority="other.example.com"),
        _request("path", _BAD, "another path", path="/v1/direct"),
        _request("path-encoded", _BAD, "a path that means the same", path="/v1/%72eceipts"),
        _request("query", _BAD, "a query was added", query="wait=50"),
        _get("query-removed", _BAD, "a query was taken away", "wait=50", query=""),
        _request("body", _BAD, "another body", sent=b"{}"),
        _request(
            "body-and-digest",
            _BAD,
            "another body with its own digest",
            sent=b"{}",
            content_digest=other,
        ),
        _request("no-digest", _BAD, "no Content-Digest", content_digest=""),
        _request(
            "digest-sha-512",
            _BAD,
            "a digest of another kind",
            content_digest="sha-256 => sha-512",
        ),
        _request("created", _BAD, "another time", signature_input=f"{NOW} => {NOW + 1}"),
        _request("nonce", _BAD, "another nonce", signature_input=f"{NONCE} => {NONCE[:-1]}A"),
        _request(
            "keyid-other",
            _BAD,
            "the known key's signature under the id of a key that is not known",
            signature_input=f"{PULLER.id} => {OTHER_AGENT.id}",
        ),
        _request(
            "signer-other",
            _BAD,
            "another key's signature under the known key's id",
            by=OTHER_AGENT,
            signature_input=f"{OTHER_AGENT.id} => {PULLER.id}",
        ),
        _request("signer-unknown", _BAD, "signed by a key that is not known", by=OTHER_AGENT),
    ]


def _other_shape() -> list[Vector]:
    whole = '("@method" "@authority" "@path" "@query" "content-digest")'
    cases = {
        "fewer-components": (
            "the body is not covered",
            f'{whole} => ("@method" "@authority" "@path" "@query")',
        ),
        "other-order": (
            "components in another order",
            '"@method" "@authority" => "@authority" "@method"',
        ),
        "more-components": ("a field more", '"content-digest") => "content-digest" "date")'),
        "algorithm": ("another algorithm", '"ed25519" => "hmac-sha256"'),
        "tag": ("another tag", "shr1-request => shr1-token"),
        "tag-response": ("the tag of an answer", "shr1-request => shr1-response"),
        "label": ("another label", "shr= => sig1="),
        "parameter": ("one more", ";tag => ;expires=1;tag"),
        "no-nonce": ("no nonce", f';nonce="{NONCE}" => '),
        "nonce-21": ("a nonce of 21 characters", f"{NONCE} => {NONCE[:-1]}"),
        "created-zero": ("a time that begins with 0", f"={NOW}; => =0{NOW};"),
        "created-text": ("a time in quotes", f'={NOW}; => ="{NOW}";'),
        "keyid-capitals": ("a key id in capitals", f"{PULLER.id} => {PULLER.id.upper()}"),
        "space": ("white space where none belongs", ";keyid => ; keyid"),
        "input-too-long": ("longer than 1024 octets", f'"@method" => {"x" * 1024}'),
    }
    found = [_request(n, _SHAPE, comment, signature_input=to) for n, (comment, to) in cases.items()]
    return [
        *found,
        _request("no-signature", _SHAPE, "no signature", signature="", signature_input=""),
        _request("short-signature", _SHAPE, "cut short", signature="==: => :"),
        _request(
            "two-labels",
            _SHAPE,
            "the label of a token on a call that is no enrolment",
            **_twice(PULLER),
        ),
        _get(
            "get-with-digest",
            _SHAPE,
            "a GET that covers a body",
            signature_input='"@query") => "@query" "content-digest")',
        ),
    ]


def _twice(key: SigningKey) -> dict[str, str]:
    signers = {"token": key, "shr": key}
    signed = sign_request(_RECEIPTS, _BODY, signers, created=NOW, nonce=NONCE)
    return {"signature_input": signed["Signature-Input"], "signature": signed["Signature"]}


def _other_limits() -> list[Vector]:
    return [
        _request("body-too-large", "body-too-large", "65,537 octets", body=b"x" * (MAX_BODY + 1)),
        _get("get-with-body", "body-not-allowed", "a GET with a body", sent=b"x"),
        _request("clock-behind", "clock", "301 s behind", now=NOW + 301),
        _request("clock-ahead", "clock", "301 s ahead", now=NOW - 301),
        _vector(
            "method-other",
            "method-not-allowed",
            "a method that no call has",
            PULLER,
            {"shr": PULLER},
            SignedTarget("DELETE", AUTHORITY, "/v1/certificates", ""),
            b"",
        ),
    ]


def requests() -> list[Vector]:
    return [*_good_requests(), *_other_signed_part(), *_other_shape(), *_other_limits()]


# --- enrolments ---------------------------------------------------------------------------------


def offer(without: str = "", **members: Any) -> bytes:
    """The body of an enrolment."""
    values: dict[str, Any] = {
        "signing_key": strict_json.encode_base64(PULLER.public.public),
        "sealing_key": strict_json.encode_base64(IDENTITY.recipient.public),
        "host": "web1.intra.example.com",
        "at": NOW,
    } | members
    values.pop(without, None)
    return strict_json.encode(values)


def _enrolment(
    name: str,
    expect: str,
    comment: str,
    *,
    body: bytes | None = None,
    token: SigningKey = TOKEN_KEY,
    by: SigningKey = PULLER,
    **changes: Any,
) -> Vector:
    made = offer() if body is None else body
    signers = {"token": token, "shr": by}
    return _vector(name, expect, comment, TOKEN_KEY, signers, ENROLMENTS, made, **changes)


def _encoded(octets: bytes) -> str:
    return strict_json.encode_base64(octets)


def enrolments() -> list[Vector]:
    return [
        *_good_enrolments(),
        *_other_labels(),
        *_other_signers(),
        *_other_bodies(),
        *_other_keys(),
    ]


def _good_enrolments() -> list[Vector]:
    return [
        _enrolment("good", "success", "both signatures, the token's first"),
        _enrolment("good-clock", "success", "300 s behind", now=NOW + 300),
        _enrolment(
            "good-host-255",
            "success",
            "a host name of 255 characters",
            body=offer(host="h" * 255),
        ),
    ]


def _other_labels() -> list[Vector]:
    one = {"shr": PULLER}
    alone = {"token": TOKEN_KEY}
    return [
        _vector(
            "label-token-missing",
            _SHAPE,
            "no signature by the token",
            TOKEN_KEY,
            one,
            ENROLMENTS,
            offer(),
        ),
        _vector(
            "label-shr-missing",
            _SHAPE,
            "no signature by the puller",
            TOKEN_KEY,
            alone,
            ENROLMENTS,
            offer(),
        ),
        _enrolment(
            "label-twice",
            _SHAPE,
            "the token's label on both",
            signature_input="shr= => token=",
            signature="shr= => token=",
        ),
        _enrolment(
            "labels-in-another-order",
            _SHAPE,
            "Signature has the labels in another order",
            signature=_turned(),
        ),
        _enrolment(
            "tag-of-the-token",
            _SHAPE,
            "the token's signature with a puller's tag",
            signature_input="shr1-token => shr1-request",
        ),
        _enrolment(
            "created-differs", _SHAPE, "two signatures of two moments", **_of_two(created=NOW + 1)
        ),
        _enrolment(
            "nonce-differs",
            _SHAPE,
            "two signatures with two nonces",
            **_of_two(nonce=NONCE[:-1] + "A"),
        ),
    ]


def _turned() -> str:
    signed = sign_request(
        ENROLMENTS, offer(), {"shr": PULLER, "token": TOKEN_KEY}, created=NOW, nonce=NONCE
    )
    return signed["Signature"]


def _of_two(created: int = NOW, nonce: str = NONCE) -> dict[str, Any]:
    """Each signature is right, and the puller's is of another request."""
    one = sign_request(ENROLMENTS, offer(), {"token": TOKEN_KEY}, created=NOW, nonce=NONCE)
    two = sign_request(ENROLMENTS, offer(), {"shr": PULLER}, created=created, nonce=nonce)
    return {
        "signature_input": f"{one['Signature-Input']}, {two['Signature-Input']}",
        "signature": f"{one['Signature']}, {two['Signature']}",
    }


def _other_signers() -> list[Vector]:
    token, other = TOKEN_KEY.id, OTHER_AGENT.id
    swapped = offer(sealing_key=_encoded(OTHER_IDENTITY.recipient.public))
    return [
        _enrolment("token-unknown", _BAD, "a token that was never made", token=OTHER_AGENT),
        _enrolment(
            "token-forged",
            _BAD,
            "another key's signature under the token's id",
            token=OTHER_AGENT,
            signature_input=f"{other} => {token}",
        ),
        _enrolment("signer-other", _BAD, "signed by a key that is not the body's", by=OTHER_AGENT),
        _enrolment(
            "signer-forged",
            _BAD,
            "another key's signature under the id of the body's",
            by=OTHER_AGENT,
            signature_input=f"{other} => {PULLER.id}",
        ),
        _enrolment("body-swapped", _BAD, "another sealing key on the way", sent=swapped),
        _enrolment(
            "body-and-digest",
            _BAD,
            "another sealing key with its own digest",
            sent=swapped,
            content_digest=content_digest(swapped),
        ),
        _enrolment("clock", "clock", "301 s ahead", now=NOW - 301),
    ]


def _other_bodies() -> list[Vector]:
    cases: dict[str, tuple[str, bytes]] = {
        "empty": ("no octets", b""),
        "member-unknown": ("a member that has no meaning", offer(role="admin")),
        "member-missing": ("no sealing key", offer("sealing_key")),
        "member-twice": ("a member that stands twice", offer()[:-1] + b',"at":1}'),
        "signing-key-31": ("a signing key of 31 octets", offer(signing_key=_encoded(b"x" * 31))),
        "sealing-key-33": ("a sealing key of 33 octets", offer(sealing_key=_encoded(b"x" * 33))),
        "host-256": ("a host name of 256 characters", offer(host="h" * 256)),
        "host-empty": ("a host name of no characters", offer(host="")),
        "host-escape": ("a terminal's escape sequence", offer(host="\x1b[2J")),
        "at-text": ("a time in quotes", offer(at=str(NOW))),
    }
    return [
        _enrolment(f"body-{name}", "malformed-request", comment, body=body)
        for name, (comment, body) in cases.items()
    ]


def _other_keys() -> list[Vector]:
    as_token = offer(signing_key=_encoded(TOKEN_KEY.public.public))
    refused = "keys-refused"
    return [
        _enrolment(
            "key-zero",
            refused,
            "a sealing key of zeros",
            body=offer(sealing_key=_encoded(bytes(32))),
        ),
        _enrolment(
            "key-low-order",
            refused,
            "a sealing key of low order",
            body=offer(sealing_key=_encoded(b"\1" + bytes(31))),
        ),
        _enrolment(
            "key-in-two-roles",
            refused,
            "one key for signing and sealing",
            body=offer(sealing_key=_encoded(PULLER.public.public)),
        ),
        _enrolment(
            "key-of-the-token",
            refused,
            "the token's key as the puller's",
            body=as_token,
            by=TOKEN_KEY,
        ),
    ]
