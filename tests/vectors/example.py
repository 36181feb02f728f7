"""One enrolment and one bundle, octet by octet: docs/reference/format-example.md.

Signature bases and the context of the seal are put together here by hand, from the page alone; a
test holds them against the product.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from shared.contract import strict_json
from shared.contract.http_signatures import content_digest
from shared.contract.signing import SigningKey
from shared.contract.strict_json import encode_base64
from tests.vectors.message_vectors import listing_example
from tests.vectors.request_vectors import AUTHORITY, NONCE, offer
from tests.vectors.sealing_vectors import CONTEXT, KEY, preimage
from tests.vectors.token_vectors import printed
from tests.vectors.world import (
    AGENT,
    IDENTITY,
    NAME,
    NOW,
    PULLER,
    TOKEN_KEY,
    Bundle,
    pae,
)


@dataclass(frozen=True)
class Signed:
    """What is signed, and what stands in the fields for it."""

    base: str
    parameters: str
    signature: bytes

    def fields(self, label: str) -> tuple[str, str]:
        """Return the members of Signature-Input and Signature."""
        return f"{label}={self.parameters}", f"{label}=:{encode_base64(self.signature)}:"


def signed(components: Mapping[str, str], key: SigningKey, tag: str, nonce: str = "") -> Signed:
    """Sign components (RFC 9421 section 2.5), in their order.

    Args:
        components: as they stand at the beginning of a line, and the value of each.
    """
    listed = " ".join(components)
    once = f';nonce="{nonce}"' if nonce else ""
    parameters = f'({listed});created={NOW};keyid="{key.id}";alg="ed25519"{once};tag="{tag}"'
    lines = [f"{name}: {value}" for name, value in components.items()]
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    return Signed(base, parameters, key.sign(base.encode()))


def of_request(method: str, path: str, query: str, body: bytes | None) -> dict[str, str]:
    """Return the components of a request; ``body`` is ``None`` where there is none."""
    found = {
        '"@method"': method,
        '"@authority"': AUTHORITY,
        '"@path"': path,
        '"@query"': f"?{query}",
    }
    return found if body is None else found | {'"content-digest"': content_digest(body)}


def of_answer(status: int, body: bytes, request: bytes) -> dict[str, str]:
    """Return the components of the answer to a request with that signature."""
    return {
        '"@status"': str(status),
        '"content-digest"': content_digest(body),
        '"signature";req;key="shr"': f":{encode_base64(request)}:",
    }


BODY = offer()
ENROLMENT = of_request("POST", "/v1/enrolments", "", BODY)
BY_TOKEN = signed(ENROLMENT, TOKEN_KEY, "shr1-token", NONCE)
BY_PULLER = signed(ENROLMENT, PULLER, "shr1-request", NONCE)
ENROLLED = strict_json.encode(
    {"granted": [{"certificate": NAME, "names": [NAME]}], "puller": PULLER.id}
)
ASKED = signed(
    of_request("GET", f"/v1/certificates/{NAME}/bundle", "after=0", None),
    PULLER,
    "shr1-request",
    NONCE,
)
ENVELOPE = Bundle().encode()
ANSWER = strict_json.encode({"bundle": ENVELOPE.decode(), "newest": CONTEXT.generation})
ANSWERED = signed(of_answer(200, ANSWER, ASKED.signature), AGENT, "shr1-response")
ENROLLED_SIGNED = signed(of_answer(200, ENROLLED, BY_PULLER.signature), AGENT, "shr1-response")


def page() -> str:
    """Return the page."""
    return "\n".join([*_keys(), *_enrolment(), *_sealed(), *_bundle(), *_fetched(), ""])


def _block(text: str) -> list[str]:
    return ["", "```", text, "```", ""]


def _octets(octets: bytes) -> list[str]:
    text = octets.hex()
    return _block("\n".join(text[at : at + 96] for at in range(0, len(text), 96)))


def _keys() -> list[str]:
    rows = [
        ("agent signing key", AGENT.seed(), AGENT.public.public, AGENT.id),
        ("puller signing key", PULLER.seed(), PULLER.public.public, PULLER.id),
        ("puller sealing key", IDENTITY.private(), IDENTITY.recipient.public, IDENTITY.id),
        ("token key", TOKEN_KEY.seed(), TOKEN_KEY.public.public, TOKEN_KEY.id),
    ]
    return [
        "<!-- Written by `python -m tests.vectors.generate`; do not edit. -->",
        "# The wire format, octet by octet",
        "",
        "One enrolment and one bundle, made with keys that protect nothing. Signatures are",
        "deterministic (Ed25519); a box is not: here its ephemeral key is fixed. Octets are",
        "hexadecimal; a text in a fence ends without a newline.",
        "",
        "## Keys",
        "",
        "| key | private (seed, or X25519 scalar) | public | key id |",
        "|---|---|---|---|",
        *(f"| {n} | `{own.hex()}` | `{pub.hex()}` | `{k}` |" for n, own, pub, k in rows),
        "",
    ]


def _enrolment() -> list[str]:
    token, puller = BY_TOKEN.fields("token"), BY_PULLER.fields("shr")
    fields = "\n".join(
        (
            f"Content-Digest: {content_digest(BODY)}",
            f"Signature-Input: {token[0]}, {puller[0]}",
            f"Signature: {token[1]}, {puller[1]}",
        )
    )
    return [
        "## Enrolment (section 7)",
        "",
        "The token, as it is printed:",
        *_block(printed().decode()),
        "The body of `POST /v1/enrolments`:",
        *_block(BODY.decode()),
        "The signature base of the label `token`:",
        *_block(BY_TOKEN.base),
        "That of the label `shr`:",
        *_block(BY_PULLER.base),
        "The fields, each one line:",
        *_block(fields),
        "The body of the answer:",
        *_block(ENROLLED.decode()),
        "Its signature base:",
        *_block(ENROLLED_SIGNED.base),
        "## The list (section 6)",
        "",
        "The body of the answer to `GET /v1/certificates`:",
        *_block(listing_example().decode()),
    ]


def _sealed() -> list[str]:
    context = preimage(CONTEXT)
    return [
        "## The sealed key (section 2)",
        "",
        "The context:",
        *_octets(context),
        f"Its digest: `{hashlib.sha256(context).hexdigest()}`. What is sealed is that digest and the",
        "private key:",
        *_octets(hashlib.sha256(context).digest() + KEY),
    ]


def _bundle() -> list[str]:
    payload = Bundle().payload()
    before = pae(payload)[: -len(payload)]
    return [
        "## The bundle (section 2)",
        "",
        "The payload, which is the manifest; its digest is",
        f"`{hashlib.sha256(payload).hexdigest()}`:",
        *_block(payload.decode()),
        f"What is signed is this text (with a space at its end), and the {len(payload)} octets:",
        *_block(before.decode()),
        "The envelope:",
        *_block(ENVELOPE.decode()),
    ]


def _fetched() -> list[str]:
    of_request_, of_answer_ = ASKED.fields("shr"), ANSWERED.fields("shr")
    return [
        "## Fetching it (sections 5 and 6)",
        "",
        f"The signature base of `GET /v1/certificates/{NAME}/bundle?after=0`:",
        *_block(ASKED.base),
        "Its fields:",
        *_block(f"Signature-Input: {of_request_[0]}\nSignature: {of_request_[1]}"),
        f"The body of the answer has {len(ANSWER)} octets:",
        *_block(ANSWER.decode()),
        "The answer's signature base:",
        *_block(ANSWERED.base),
        "Its fields:",
        *_block(
            f"Content-Digest: {content_digest(ANSWER)}\n"
            f"Signature-Input: {of_answer_[0]}\nSignature: {of_answer_[1]}"
        ),
    ]
