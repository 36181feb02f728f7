"""The library ``http-message-signatures`` judges our profile of RFC 9421, in both directions."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    InvalidSignature,
    MappingKeyResolver,
    algorithms,
)

from shared.contract.errors import AnswerUnauthenticated, RelayError
from shared.contract.http_signatures import (
    REQUEST_LABEL,
    REQUEST_TAG,
    RESPONSE_TAG,
    TOKEN_LABEL,
    TOKEN_TAG,
    SignedTarget,
    content_digest,
    parse_signatures,
    sign_request,
    sign_response,
    verify_request,
    verify_response,
)
from shared.contract.signing import SigningKey

AUTHORITY = "relay.example.com:8443"
NONCE = "AAECAwQFBgcICQoLDA0ODw"
KEY = SigningKey(b"\x01" * 32)
TOKEN = SigningKey(b"\x02" * 32)
AGENT = SigningKey(b"\x03" * 32)
REQUEST_COMPONENTS = ("@method", "@authority", "@path", "@query")
RESPONSE_COMPONENTS = ("@status", "content-digest", '"signature";req;key="shr"')
CASES = [
    (SignedTarget("GET", AUTHORITY, "/v1/certificates"), b""),
    (SignedTarget("GET", AUTHORITY, "/v1/certificates", "since=ab&wait=50"), b""),
    (SignedTarget("GET", AUTHORITY, "/v1/certificates/_wildcard.example.org/bundle"), b""),
    (SignedTarget("GET", AUTHORITY, "/v1/certificates/%2A.example.org/bundle", "after=1"), b""),
    (SignedTarget("POST", AUTHORITY, "/v1/receipts"), b'{"a":1}'),
    (SignedTarget("POST", AUTHORITY, "/v1/enrolments"), b""),
    (SignedTarget("PUT", AUTHORITY, "/v1/certificates/a.example.org/csr"), bytes(range(256))),
]


@dataclass
class Request:
    """What the judge wants to see of a request."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Response:
    status_code: int
    request: Request
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""


KEYS = {one.id: one for one in (KEY, TOKEN, AGENT)}
RESOLVER = MappingKeyResolver(
    public_keys={
        name: Ed25519PublicKey.from_public_bytes(one.public.public) for name, one in KEYS.items()
    },
    private_keys={
        name: Ed25519PrivateKey.from_private_bytes(one.seed()) for name, one in KEYS.items()
    },
)
VERIFIER = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=RESOLVER)
SIGNER = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=RESOLVER)


def request_of(target: SignedTarget) -> Request:
    query = f"?{target.query}" if target.query else ""
    return Request(target.method, f"https://{target.authority}{target.path}{query}")


def ours(target: SignedTarget, body: bytes, created: int, **signers: SigningKey) -> Request:
    request = request_of(target)
    keys = signers or {REQUEST_LABEL: KEY}
    request.headers.update(sign_request(target, body, keys, created=created, nonce=NONCE))
    return request


def judged(request: Request, body: bytes, tag: str = REQUEST_TAG) -> Any:
    (result,) = VERIFIER.verify(
        request, expect_tag=tag, require_components=REQUEST_COMPONENTS, body=body
    )
    return result


def now() -> int:
    return int(time.time())


@pytest.mark.parametrize(("target", "body"), CASES)
def test_the_judge_accepts_our_requests(target: SignedTarget, body: bytes) -> None:
    result = judged(ours(target, body, now()), body)
    assert (result.label, result.nonce) == (REQUEST_LABEL, NONCE)
    assert result.parameters["keyid"] == KEY.id


@pytest.mark.parametrize(("target", "body"), CASES)
def test_the_judge_notices_every_change(target: SignedTarget, body: bytes) -> None:
    request = ours(target, body, now())
    good = dict(request.headers)
    for method, url in (
        ("DELETE", request.url),
        (request.method, request.url + "x"),
        (request.method, request.url.replace("relay.", "other.")),
        (request.method, request.url + ("&" if "?" in request.url else "?") + "x=1"),
    ):
        with pytest.raises(InvalidSignature):
            judged(Request(method, url, good), body)
    if target.has_body:
        with pytest.raises(InvalidSignature):
            judged(request, body + b"x")


def test_the_judge_accepts_both_signatures_of_an_enrolment() -> None:
    target, body = SignedTarget("POST", AUTHORITY, "/v1/enrolments"), b"{}"
    request = ours(target, body, now(), **{TOKEN_LABEL: TOKEN, REQUEST_LABEL: KEY})
    for tag, key, label in ((TOKEN_TAG, TOKEN, TOKEN_LABEL), (REQUEST_TAG, KEY, REQUEST_LABEL)):
        result = judged(request, body, tag)
        assert (result.label, result.parameters["keyid"]) == (label, key.id)


@pytest.mark.parametrize(("target", "body"), CASES)
def test_we_accept_what_the_judge_signs_in_our_profile(target: SignedTarget, body: bytes) -> None:
    request = request_of(target)
    if target.has_body:
        request.headers["Content-Digest"] = content_digest(body)
    SIGNER.sign(
        request,
        key_id=KEY.id,
        created=datetime.fromtimestamp(now(), UTC),
        nonce=NONCE,
        label=REQUEST_LABEL,
        tag=REQUEST_TAG,
        covered_component_ids=target.components(),
        use_existing_digest=target.has_body,
    )
    presented = parse_signatures(request.headers["Signature-Input"], request.headers["Signature"])
    verify_request(
        presented[REQUEST_LABEL], target, body, request.headers.get("Content-Digest"), KEY.public
    )


def test_we_sign_the_same_octets_as_the_judge() -> None:
    """Ed25519 is deterministic: the same base gives the same signature."""
    target, body, created = CASES[4][0], CASES[4][1], now()
    mine = ours(target, body, created).headers
    request = request_of(target)
    request.headers["Content-Digest"] = content_digest(body)
    SIGNER.sign(
        request,
        key_id=KEY.id,
        created=datetime.fromtimestamp(created, UTC),
        nonce=NONCE,
        label=REQUEST_LABEL,
        tag=REQUEST_TAG,
        covered_component_ids=target.components(),
        use_existing_digest=True,
    )
    assert request.headers["Signature-Input"] == mine["Signature-Input"]
    assert request.headers["Signature"] == mine["Signature"]


def raw_signature(request: Request) -> bytes:
    parts = request.headers["Signature"].split(", ")
    own = next(part for part in parts if part.startswith(f"{REQUEST_LABEL}="))
    return base64.b64decode(own.removeprefix(f"{REQUEST_LABEL}=:").removesuffix(":"))


@pytest.mark.parametrize("status", [200, 400, 403, 409, 503])
@pytest.mark.parametrize(("target", "body"), CASES)
def test_the_judge_accepts_our_answers(target: SignedTarget, body: bytes, status: int) -> None:
    request, answer = ours(target, body, now()), b'{"newest":0,"bundle":null}'
    headers = sign_response(status, answer, raw_signature(request), AGENT, created=now())
    (result,) = VERIFIER.verify(
        Response(status, request, headers),
        expect_tag=RESPONSE_TAG,
        require_components=RESPONSE_COMPONENTS,
        body=answer,
    )
    assert result.parameters["keyid"] == AGENT.id


def test_the_judge_notices_an_answer_to_another_request() -> None:
    one = ours(CASES[0][0], b"", now())
    other = ours(CASES[1][0], b"", now())
    headers = sign_response(200, b"{}", raw_signature(one), AGENT, created=now())
    for response in (Response(200, other, headers), Response(403, one, headers)):
        with pytest.raises(InvalidSignature):
            VERIFIER.verify(response, expect_tag=RESPONSE_TAG, body=b"{}")
    with pytest.raises(InvalidSignature):
        VERIFIER.verify(Response(200, one, headers), expect_tag=RESPONSE_TAG, body=b"[]")


def test_we_accept_an_answer_that_the_judge_signs() -> None:
    """Also for an enrolment, whose request carries two signatures: the answer is bound to shr."""
    target, body, answer = SignedTarget("POST", AUTHORITY, "/v1/enrolments"), b"{}", b"[1]"
    request = ours(target, body, now(), **{TOKEN_LABEL: TOKEN, REQUEST_LABEL: KEY})
    response = Response(200, request, {"Content-Digest": content_digest(answer)})
    SIGNER.sign(
        response,
        key_id=AGENT.id,
        created=datetime.fromtimestamp(now(), UTC),
        label=REQUEST_LABEL,
        tag=RESPONSE_TAG,
        covered_component_ids=RESPONSE_COMPONENTS,
        use_existing_digest=True,
    )
    headers = {name.lower(): value for name, value in response.headers.items()}
    verify_response(200, headers, answer, raw_signature(request), AGENT.public)
    with pytest.raises(AnswerUnauthenticated):
        verify_response(201, headers, answer, raw_signature(request), AGENT.public)


@pytest.mark.parametrize(
    "changes",
    [
        {"covered_component_ids": ("@method", "@path", "@query", "@authority")},
        {"covered_component_ids": ("@method", "@authority", "@path")},
        {"covered_component_ids": (*REQUEST_COMPONENTS, "host")},
        {"include_alg": False},
        {"tag": None},
        {"tag": "shr1-response"},
        {"nonce": None},
        {"nonce": "short"},
        {"label": "sig1"},
        {"expires": datetime.fromtimestamp(4_000_000_000, UTC)},
    ],
)
def test_we_refuse_valid_signatures_outside_our_profile(changes: dict[str, Any]) -> None:
    target = CASES[0][0]
    request = request_of(target)
    request.headers["Host"] = AUTHORITY
    SIGNER.sign(
        request,
        **{
            "key_id": KEY.id,
            "created": datetime.fromtimestamp(now(), UTC),
            "nonce": NONCE,
            "label": REQUEST_LABEL,
            "tag": REQUEST_TAG,
            "covered_component_ids": REQUEST_COMPONENTS,
            **changes,
        },
    )
    with pytest.raises((RelayError, KeyError)):
        presented = parse_signatures(
            request.headers["Signature-Input"], request.headers["Signature"]
        )
        verify_request(presented[REQUEST_LABEL], target, b"", None, KEY.public)
