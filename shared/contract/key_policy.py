"""Which keys a certificate may have, and how they are written: one rule for everybody.

CSRs that pullers leave, bundles, rehearsals, direct mode and what is made here all go by it;
docs/FORMAT.md section 1. The kinds are those that public CAs sign (CA/Browser Forum BR 6.1.5, as
Let's Encrypt narrows it) and that every TLS server loads.
"""

from __future__ import annotations

import base64
import re
from enum import StrEnum
from typing import assert_never

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import SignatureAlgorithmOID

from shared.contract.errors import KeyMismatch, UnsuitableKey

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

SIGNATURES = frozenset(
    (
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
    )
)
_EXPONENT = 65537
_INCONSISTENT = ("Invalid key", "Invalid private key")
"""What the library says of a key that it has read and found wrong in itself; vectors hold it."""
_VERSION_0 = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02\x01\x00", re.DOTALL)
_PEM_KEY = re.compile(r"-----BEGIN PRIVATE KEY-----([^-]*)-----END PRIVATE KEY-----")


class KeyAlgorithm(StrEnum):
    """Every kind of key that a certificate may have."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


_CURVES = {"secp256r1": KeyAlgorithm.EC_P256, "secp384r1": KeyAlgorithm.EC_P384}


def generate_key(algorithm: KeyAlgorithm) -> PrivateKey:
    match algorithm:
        case KeyAlgorithm.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.RSA_2048 | KeyAlgorithm.RSA_3072 | KeyAlgorithm.RSA_4096:
            return rsa.generate_private_key(_EXPONENT, int(algorithm.removeprefix("rsa-")))
        case _ as never:
            assert_never(never)


def algorithm_of(key: object, whose: str) -> KeyAlgorithm:
    """Return what kind of key this public key is.

    Args:
        whose: begins the message: "The CSR's key".

    Raises:
        UnsuitableKey: of no kind that a certificate may have.
    """
    found, words = _kind(key)
    if found is None:
        allowed = ", ".join(KeyAlgorithm)
        raise UnsuitableKey(f"{whose} is {words}; allowed are {allowed}.")
    return found


def _kind(key: object) -> tuple[KeyAlgorithm | None, str]:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name), f"EC on {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        words = f"RSA of {key.key_size} bits"
        if key.public_numbers().e != _EXPONENT:
            return None, f"{words} with a public exponent other than {_EXPONENT}"
        sizes = {str(one): one for one in KeyAlgorithm}
        return sizes.get(f"rsa-{key.key_size}"), words
    return None, "neither EC nor RSA"


def check_public_key(
    holder: x509.Certificate | x509.CertificateSigningRequest, whose: str
) -> KeyAlgorithm:
    """Return the kind of key in a certificate or CSR, which must be written in the one plain way.

    Raises:
        UnsuitableKey: another kind, explicit curve parameters, a compressed point.
    """
    try:
        key = holder.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnsuitableKey(f"{whose} is of a kind that is not allowed.") from error
    algorithm = algorithm_of(key, whose)
    signed = (
        holder.tbs_certificate_bytes
        if isinstance(holder, x509.Certificate)
        else holder.tbs_certrequest_bytes
    )
    # The library also reads a named curve that is spelled out; TLS servers do not (RFC 5480 2.1.1).
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) not in signed:
        raise UnsuitableKey(f"{whose} is not written with a named curve and a whole point.")
    return algorithm


def key_to_der(key: PrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8 DER: what is sealed, and nothing else is done with."""
    return key.private_bytes(
        Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_to_pem(key: PrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8 PEM, for a file that only its owner reads."""
    return key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(der: bytes) -> PrivateKey:
    """Return the private key in unencrypted PKCS#8 DER, of an allowed kind and in itself right.

    The library derives the public half from the private value and compares: the point of an EC
    key; modulus, exponents and coefficient of an RSA key (RFC 8017 section 3.2).

    Raises:
        UnsuitableKey: no key, another kind, or written otherwise than :func:`key_to_der` does it.
        KeyMismatch: its numbers do not belong together.
    """
    # The library calls another version "invalid", as it does a key whose numbers disagree.
    if not _VERSION_0.match(der):
        raise UnsuitableKey("The private key is not one in unencrypted PKCS#8 DER, version 0.")
    try:
        key = serialization.load_der_private_key(der, None)
    except UnsupportedAlgorithm as error:
        raise UnsuitableKey("The private key is of a kind that is not allowed.") from error
    except ValueError as error:
        if str(error) in _INCONSISTENT:
            raise KeyMismatch("The private key's numbers do not belong together.") from error
        raise UnsuitableKey("The private key is not one in PKCS#8 DER.") from error
    algorithm_of(key.public_key(), "The private key")
    assert isinstance(key, PrivateKey)
    if key_to_der(key) != der:
        raise UnsuitableKey(
            "The private key is not written as plain PKCS#8 DER (an EC key: with the name of its "
            "curve and its public half)."
        )
    return key


def load_pem_key(pem: str) -> PrivateKey:
    """Return the one private key in a PEM text; certificates may stand around it.

    Raises:
        UnsuitableKey, KeyMismatch: as :func:`load_key` does.
    """
    bodies = _PEM_KEY.findall(pem)
    if len(bodies) != 1:
        raise UnsuitableKey("The text does not hold one private key as PKCS#8 in PEM.")
    try:
        return load_key(base64.b64decode("".join(bodies[0].split()), validate=True))
    except ValueError as error:
        raise UnsuitableKey("The private key's PEM text is damaged.") from error
