"""HTTP Message Signatures (RFC 9421) in one fixed profile, for requests and for answers.

The one permitted ``Signature-Input`` is built and compared; there is no general parser. What is
covered, in this order, is ``@method``, ``@authority``, ``@path``, ``@query`` and, where there may
be a body, ``content-digest`` (RFC 9530). Parameters: created, keyid, alg, nonce, tag.

An answer covers ``@status``, ``content-digest`` and the signature of the request that it answers
(RFC 9421 section 2.4), so that it fits that one request and no other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.contract.errors import AnswerUnauthenticated, BadSignature, SignatureMalformed
from shared.contract.signing import SIGNATURE_SIZE, SigningKey, VerifyKey
from shared.contract.strict_json import decode_base64, encode_base64

REQUEST_TAG = "shr1-request"
TOKEN_TAG = "shr1-token"  # noqa: S105 - a signature's tag (RFC 9421 section 2.3), no secret
RESPONSE_TAG = "shr1-response"
REQUEST_LABEL = "shr"
TOKEN_LABEL = "token"  # noqa: S105 - a signature's label, no secret
CLOCK_TOLERANCE = 300
MAX_SIGNATURE_INPUT = 1024
MAX_BODY = 64 * 1024
METHODS_WITH_BODY = frozenset(("POST", "PUT"))

_NONCE = re.compile(r"[A-Za-z0-9_-]{22}\Z")
_PARAMETERS = re.compile(
    r"(?P<label>shr|token)=(?P<components>\([^()]*\));created=(?P<created>[1-9][0-9]{0,11})"
    r';keyid="(?P<keyid>[0-9a-f]{64})";alg="ed25519"'
    r'(?:;nonce="(?P<nonce>[A-Za-z0-9_-]{22})")?;tag="(?P<tag>[a-z0-9-]{1,20})"'
)
_SIGNATURE = re.compile(r"(?P<label>shr|token)=:(?P<signature>[A-Za-z0-9+/]{86}==):")


@dataclass(frozen=True, slots=True)
class SignedTarget:
    """What of a request is covered besides its body.

    Attributes:
        method: upper case.
        authority: ``host`` or ``host:port``, lower case, from configuration, never from Host.
        path: as it stands on the request line, undecoded.
        query: as it stands on the request line, without ``?``.
    """

    method: str
    authority: str
    path: str
    query: str = ""

    @property
    def has_body(self) -> bool:
        return self.method in METHODS_WITH_BODY

    def components(self) -> tuple[str, ...]:
        base = ("@method", "@authority", "@path", "@query")
        return (*base, "content-digest") if self.has_body else base

    def lines(self, body: bytes) -> list[str]:
        values = [self.method, self.authority, self.path or "/", f"?{self.query}"]
        if self.has_body:
            values.append(content_digest(body))
        return [f'"{name}": {value}' for name, value in zip(self.components(), values, strict=True)]


@dataclass(frozen=True, slots=True)
class PresentedSignature:
    """One signature as it stands in the headers; believed only after :func:`verify_request`."""

    label: str
    components: str
    created: int
    keyid: str
    nonce: str
    tag: str
    signature: bytes


def content_digest(body: bytes) -> str:
    """Return the Content-Digest field (RFC 9530 section 2) with sha-256."""
    return f"sha-256=:{encode_base64(hashlib.sha256(body).digest())}:"


def _parameters(components: str, created: int, keyid: str, nonce: str, tag: str) -> str:
    bound = f';nonce="{nonce}"' if nonce else ""
    return f'{components};created={created};keyid="{keyid}";alg="ed25519"{bound};tag="{tag}"'


def _inner_list(names: tuple[str, ...]) -> str:
    return "(" + " ".join(f'"{name}"' for name in names) + ")"


def _base(lines: list[str], parameters: str) -> bytes:
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")


# --- requests --------------------------------------------------------------------------------


def sign_request(
    target: SignedTarget,
    body: bytes,
    signers: Mapping[str, SigningKey],
    *,
    created: int,
    nonce: str,
) -> dict[str, str]:
    """Return the headers that sign a request.

    Args:
        target: what is asked, of whom.
        body: octets; empty for methods without one.
        signers: label (``shr``, and ``token`` while enrolling) to key.
        created: unix seconds.
        nonce: 16 random octets in base64url, the same for every label.
    """
    if not _NONCE.match(nonce):
        raise SignatureMalformed("A nonce is 16 octets in base64url without padding.")
    inputs, signatures = [], []
    for label, key in signers.items():
        tag = TOKEN_TAG if label == TOKEN_LABEL else REQUEST_TAG
        parameters = _parameters(_inner_list(target.components()), created, key.id, nonce, tag)
        inputs.append(f"{label}={parameters}")
        signature = key.sign(_base(target.lines(body), parameters))
        signatures.append(f"{label}=:{encode_base64(signature)}:")
    headers = {"Signature-Input": ", ".join(inputs), "Signature": ", ".join(signatures)}
    if target.has_body:
        headers["Content-Digest"] = content_digest(body)
    return headers


def parse_signatures(signature_input: str, signature: str) -> dict[str, PresentedSignature]:
    """Read the headers' shape: label to what is presented under it.

    Raises:
        SignatureMalformed: anything but the permitted shape, a label twice, labels that differ.
    """
    if len(signature_input) > MAX_SIGNATURE_INPUT or len(signature) > MAX_SIGNATURE_INPUT:
        raise SignatureMalformed("The signature headers are too long.")
    inputs = [_PARAMETERS.fullmatch(part) for part in signature_input.split(", ")]
    values = [_SIGNATURE.fullmatch(part) for part in signature.split(", ")]
    found: dict[str, PresentedSignature] = {}
    if len(inputs) != len(values) or len(inputs) > 2:
        raise SignatureMalformed("The signature headers do not match each other.")
    for parameters, value in zip(inputs, values, strict=True):
        if parameters is None or value is None or parameters["label"] != value["label"]:
            raise SignatureMalformed("The signature headers are not of the permitted shape.")
        raw = decode_base64(value["signature"])
        if raw is None or len(raw) != SIGNATURE_SIZE or parameters["label"] in found:
            raise SignatureMalformed("A signature is not 64 octets in canonical base64.")
        found[parameters["label"]] = PresentedSignature(
            label=parameters["label"],
            components=parameters["components"],
            created=int(parameters["created"]),
            keyid=parameters["keyid"],
            nonce=parameters["nonce"] or "",
            tag=parameters["tag"],
            signature=raw,
        )
    return found


def check_profile(presented: PresentedSignature, target: SignedTarget) -> None:
    """Return if a signature is of the one shape that a request may have; no body is needed.

    Raises:
        SignatureMalformed: other components or another tag than the profile permits, or no nonce.
    """
    # 1. The tag belongs to the label, so that no signature serves in another's place.
    expected_tag = TOKEN_TAG if presented.label == TOKEN_LABEL else REQUEST_TAG
    if presented.tag != expected_tag or not presented.nonce:
        raise SignatureMalformed("A signature's tag or nonce is not what its label demands.")
    # 2. Exactly the components of the profile.
    if presented.components != _inner_list(target.components()):
        raise SignatureMalformed("The signature covers other components than it must.")


def verify_request(
    presented: PresentedSignature,
    target: SignedTarget,
    body: bytes,
    digest_header: str | None,
    key: VerifyKey,
) -> None:
    """Return if the request was signed by ``key`` in our profile; time and nonce come after.

    Raises:
        SignatureMalformed: other components, tag or key id than the profile permits.
        BadSignature: not signed by that key, or changed on the way.
    """
    # 1. and 2.
    check_profile(presented, target)
    # 3. The key that the caller chose for this label, and no other.
    if presented.keyid != key.id:
        raise BadSignature("The request is signed by another key than expected.")
    # 4. The body is the one that was signed (RFC 9530).
    if target.has_body and digest_header != content_digest(body):
        raise BadSignature("The body does not match its Content-Digest.")
    # 5. The signature itself.
    parameters = _parameters(
        presented.components, presented.created, presented.keyid, presented.nonce, presented.tag
    )
    key.verify(presented.signature, _base(target.lines(body), parameters))


# --- answers ---------------------------------------------------------------------------------

_RESPONSE_COMPONENTS = f'("@status" "content-digest" "signature";req;key="{REQUEST_LABEL}")'


def _response_lines(status: int, body: bytes, request_signature: bytes) -> list[str]:
    return [
        f'"@status": {status}',
        f'"content-digest": {content_digest(body)}',
        f'"signature";req;key="{REQUEST_LABEL}": :{encode_base64(request_signature)}:',
    ]


def sign_response(
    status: int, body: bytes, request_signature: bytes, key: SigningKey, *, created: int
) -> dict[str, str]:
    """Return the headers that sign an answer to the request with ``request_signature``."""
    parameters = _parameters(_RESPONSE_COMPONENTS, created, key.id, "", RESPONSE_TAG)
    signature = key.sign(_base(_response_lines(status, body, request_signature), parameters))
    return {
        "Content-Digest": content_digest(body),
        "Signature-Input": f"{REQUEST_LABEL}={parameters}",
        "Signature": f"{REQUEST_LABEL}=:{encode_base64(signature)}:",
    }


def verify_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    request_signature: bytes,
    key: VerifyKey,
) -> int:
    """Return the moment (unix seconds) at which the pinned agent signed this answer to us.

    The freshness of an answer is its binding to our request; the moment is for reporting clock
    differences and is never judged.

    Args:
        headers: with lower-case names.

    Raises:
        AnswerUnauthenticated: not an answer of the pinned agent to exactly our request.
    """
    try:
        found = parse_signatures(headers.get("signature-input", ""), headers.get("signature", ""))
        presented = found.pop(REQUEST_LABEL)
        if found:
            raise SignatureMalformed("The answer carries another signature, too.")
        if len(presented.components) != len(_RESPONSE_COMPONENTS) or presented.nonce:
            raise SignatureMalformed("The answer's signature has another shape.")
        if (presented.components, presented.tag) != (_RESPONSE_COMPONENTS, RESPONSE_TAG):
            raise SignatureMalformed("The answer's signature covers something else.")
        if presented.keyid != key.id:
            raise BadSignature("The answer is signed by another key than the pinned agent's.")
        if headers.get("content-digest") != content_digest(body):
            raise BadSignature("The answer's body does not match its Content-Digest.")
        parameters = _parameters(
            _RESPONSE_COMPONENTS, presented.created, presented.keyid, "", RESPONSE_TAG
        )
        lines = _response_lines(status, body, request_signature)
        key.verify(presented.signature, _base(lines, parameters))
    except (SignatureMalformed, BadSignature, KeyError) as error:
        raise AnswerUnauthenticated(
            f"The answer (HTTP status {status}) was not signed by the enrolled agent "
            "for this request."
        ) from error
    return presented.created
