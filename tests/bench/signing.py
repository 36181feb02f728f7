"""Requests signed and verified per second, against the general library that judges us in tests."""

from __future__ import annotations

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)

from shared.contract.http_signatures import (
    REQUEST_LABEL,
    REQUEST_TAG,
    SignedTarget,
    content_digest,
    parse_signatures,
    sign_request,
    verify_request,
)
from shared.contract.signing import SigningKey
from tests.bench.rows import Row, rate

_URL = "https://relay.example.com:8443/v1/receipts"
_BODY = b'{"certificate":"www.intra.example.com"}' * 8
_COMPONENTS = ("@method", "@authority", "@path", "@query", "content-digest")


class _Keys(HTTPSignatureKeyResolver):  # type: ignore[misc]
    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return self._key

    def resolve_public_key(self, key_id: str) -> object:
        return self._key.public_key()


def measure(*, quick: bool) -> list[Row]:
    seconds = 0.5 if quick else 3.0
    key = SigningKey(bytes(range(32)))
    target = SignedTarget("POST", "relay.example.com:8443", "/v1/receipts")

    def sign() -> dict[str, str]:
        return sign_request(target, _BODY, {REQUEST_LABEL: key}, created=1, nonce="A" * 22)

    headers = sign()

    def verify() -> None:
        presented = parse_signatures(headers["Signature-Input"], headers["Signature"])
        verify_request(
            presented[REQUEST_LABEL], target, _BODY, headers["Content-Digest"], key.public
        )

    keys = _Keys(key.seed())
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=keys)
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=keys)

    def library_signs() -> requests.PreparedRequest:
        digest = {"Content-Digest": content_digest(_BODY)}
        request = requests.Request("POST", _URL, data=_BODY, headers=digest).prepare()
        signer.sign(
            request,
            key_id=key.id,
            covered_component_ids=_COMPONENTS,
            label=REQUEST_LABEL,
            tag=REQUEST_TAG,
            nonce="A" * 22,
            use_existing_digest=True,
        )
        return request

    signed = library_signs()
    return [
        Row(
            "requests signed",
            "1/s",
            rate(sign, seconds),
            rate(library_signs, seconds),
            "http-message-signatures",
        ),
        Row(
            "requests verified",
            "1/s",
            rate(verify, seconds),
            rate(lambda: verifier.verify(signed, expect_tag=REQUEST_TAG), seconds),
            "http-message-signatures",
        ),
    ]
