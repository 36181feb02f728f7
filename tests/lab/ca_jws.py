"""JWS and JWK as ACME uses them: parse strictly, verify with `cryptography` alone.

The lab judges the product's ACME library, so nothing here comes from that library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .problems import Problem, malformed

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

ALGORITHMS = ["ES256", "ES384", "ES512", "RS256", "EdDSA"]
_CURVES: dict[str, tuple[type[ec.EllipticCurve], int]] = {
    "P-256": (ec.SECP256R1, 32),
    "P-384": (ec.SECP384R1, 48),
    "P-521": (ec.SECP521R1, 66),
}
_ECDSA: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "ES256": ("secp256r1", hashes.SHA256()),
    "ES384": ("secp384r1", hashes.SHA384()),
    "ES512": ("secp521r1", hashes.SHA512()),
}
_HMACS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_MEMBERS = {"EC": ("crv", "x", "y"), "RSA": ("e", "n"), "OKP": ("crv", "x")}
_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Jws:
    """A flattened JWS, not verified yet."""

    protected: dict[str, Any]
    payload: bytes
    signature: bytes
    signing_input: bytes


def encode(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: object, what: str = "value") -> bytes:
    """Return the bytes of base64url text without padding; anything else is malformed."""
    if not isinstance(text, str) or not _ALPHABET.fullmatch(text):
        raise malformed(f"{what} is not base64url without padding")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise malformed(f"{what} is not base64url without padding") from None


def json_object(data: bytes | str, what: str) -> dict[str, Any]:
    """Return the JSON object in `data`; anything else is malformed."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise malformed(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise malformed(f"{what} is not a JSON object")
    return value


def parse(body: bytes | dict[str, Any]) -> Jws:
    """Return the flattened JWS in `body` (RFC 8555 section 6.2)."""
    outer = body if isinstance(body, dict) else json_object(body, "the request")
    if set(outer) != {"protected", "payload", "signature"}:
        raise malformed("a request is a flattened JWS: protected, payload, signature, no more")
    if not isinstance(outer["protected"], str) or not isinstance(outer["payload"], str):
        raise malformed("protected and payload are strings")
    protected = json_object(decode(outer["protected"], "protected"), "the protected header")
    if "b64" in protected or "crit" in protected:
        raise malformed("unencoded payloads and critical headers are not supported")
    return Jws(
        protected=protected,
        payload=decode(outer["payload"], "payload"),
        signature=decode(outer["signature"], "signature"),
        signing_input=f"{outer['protected']}.{outer['payload']}".encode(),
    )


def _bad_key(detail: str) -> Problem:
    return Problem("badPublicKey", detail)


def load_jwk(jwk: object) -> PublicKey:
    """Return the public key of a JWK (RFC 7517); badPublicKey when it is none we accept."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in _MEMBERS:
        raise _bad_key("the JWK is of no supported kind")
    if "d" in jwk:
        raise _bad_key("the JWK holds a private key")
    raw = {name: decode(jwk.get(name), name) for name in ("x", "y", "e", "n") if name in jwk}
    try:
        return _load(jwk, raw)
    except (KeyError, ValueError) as error:
        raise _bad_key(f"the JWK is not a valid key: {error}") from None


def _load(jwk: dict[str, Any], raw: dict[str, bytes]) -> PublicKey:
    if jwk["kty"] == "RSA":
        key = rsa.RSAPublicNumbers(int.from_bytes(raw["e"]), int.from_bytes(raw["n"])).public_key()
        if not 2048 <= key.key_size <= 4096:
            raise _bad_key(f"an RSA key of {key.key_size} bits is not accepted")
        return key
    if jwk["kty"] == "OKP":
        if jwk["crv"] != "Ed25519":
            raise _bad_key("only Ed25519 is accepted among the OKP curves")
        return ed25519.Ed25519PublicKey.from_public_bytes(raw["x"])
    curve, size = _CURVES[jwk["crv"]]
    if len(raw["x"]) != size or len(raw["y"]) != size:
        raise _bad_key("the coordinates have the wrong length")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(raw["x"]), int.from_bytes(raw["y"]), curve()
    )
    return numbers.public_key()


def thumbprint(jwk: dict[str, Any]) -> str:
    """Return the JWK thumbprint (RFC 7638), base64url of SHA-256."""
    members = {name: jwk[name] for name in (*_MEMBERS[jwk["kty"]], "kty")}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return encode(hashlib.sha256(canonical).digest())


def verify(jws: Jws, key: PublicKey) -> None:
    """Verify `jws` with `key`; badSignatureAlgorithm or malformed otherwise."""
    algorithm = jws.protected.get("alg")
    if algorithm not in ALGORITHMS:
        raise Problem(
            "badSignatureAlgorithm", f"alg {algorithm!r} is not accepted", algorithms=ALGORITHMS
        )
    try:
        _verify(jws, key, algorithm)
    except InvalidSignature:
        raise malformed("the JWS signature does not verify") from None


def _verify(jws: Jws, key: PublicKey, algorithm: str) -> None:
    if algorithm in _ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
        curve, digest = _ECDSA[algorithm]
        size = (key.curve.key_size + 7) // 8
        if key.curve.name == curve and len(jws.signature) == 2 * size:
            r = int.from_bytes(jws.signature[:size])
            s = int.from_bytes(jws.signature[size:])
            key.verify(encode_dss_signature(r, s), jws.signing_input, ec.ECDSA(digest))
            return
    elif algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
        key.verify(jws.signature, jws.signing_input, padding.PKCS1v15(), hashes.SHA256())
        return
    elif algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(jws.signature, jws.signing_input)
        return
    raise malformed("alg does not fit the key or the length of the signature")


def verify_hmac(jws: Jws, secret: bytes) -> None:
    """Verify a JWS made with a MAC key (external account binding, RFC 8555 section 7.3.4)."""
    digest = _HMACS.get(jws.protected.get("alg", ""))
    if digest is None:
        raise Problem("badSignatureAlgorithm", "the binding is not made with an HMAC")
    expected = hmac.digest(secret, jws.signing_input, digest)
    if not hmac.compare_digest(expected, jws.signature):
        raise Problem("unauthorized", "the external account binding does not verify")
