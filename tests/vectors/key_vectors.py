"""Private keys that are none, or not right in themselves: in bundles (check 10), and alone."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from shared.contract.key_policy import PrivateKey
from shared.contract.x509 import spki_sha256
from tests.vectors.bundle_head import bundle_vector
from tests.vectors.der import (
    P256_ORDER,
    ec_private,
    ec_spki,
    explicit_p256,
    point,
    rsa_private,
    sequence,
    tlv,
)
from tests.vectors.rsa_keys import rsa_key, rsa_numbers
from tests.vectors.vector import Vector
from tests.vectors.world import (
    INTERMEDIATE,
    Key,
    changed,
    curve_key,
    ec_key,
    ed25519_key,
    leaf,
    pkcs8,
)


def _traditional(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


def _sealed(key_der: bytes, key: Key | str = "Vector Leaf") -> bytes:
    """The usual bundle, with a leaf for ``key`` and something else sealed."""
    return changed(chain=(leaf(key=key), INTERMEDIATE), key_der=key_der)


def _unsuitable() -> dict[str, tuple[str, bytes]]:
    own, rsa = ec_key("Vector Leaf"), rsa_key(2048)
    scalar, whole = own.private_numbers().private_value, point(own)
    return {
        "garbage": ("no key at all", _sealed(b"not a key")),
        "ed25519": ("a key that no leaf could have", _sealed(pkcs8(ed25519_key()))),
        "sec1": ("the leaf's key as SEC 1 writes it", _sealed(_traditional(own))),
        "pkcs1": ("the leaf's key as PKCS #1 writes it", _sealed(_traditional(rsa), rsa)),
        "pem": ("the leaf's key in PEM", _sealed(_pem(own))),
        "explicit-parameters": (
            "the leaf's key, its curve by parameters",
            _sealed(ec_private(scalar, whole, curve=explicit_p256())),
        ),
        "no-public-half": (
            "the leaf's key without its public half",
            _sealed(ec_private(scalar, None)),
        ),
        "trailing": ("an octet behind the leaf's key", _sealed(pkcs8(own) + b"\0")),
        "leading-zero": (
            "the leaf's scalar with a zero before it",
            _sealed(ec_private(scalar, whole, size=33)),
        ),
        "rsa-1024": ("RSA of 1024 bits under a leaf on P-256", _sealed(pkcs8(rsa_key(1024)))),
    }


def _mismatched() -> dict[str, tuple[str, bytes]]:
    own, other = ec_key("Vector Leaf"), ec_key("Another Key")
    mine, theirs = (one.private_numbers().private_value for one in (own, other))
    rsa, numbers, more = rsa_key(2048), rsa_numbers(2048), rsa_numbers(3072)

    def altered(**changes: int) -> bytes:
        return _sealed(rsa_private(numbers, **changes), rsa)

    return {
        "ec-other-half": (
            "the leaf's scalar beside another public half",
            _sealed(ec_private(mine, point(other))),
        ),
        "ec-other-scalar": (
            "the leaf's public half beside another scalar",
            _sealed(ec_private(theirs, point(own))),
        ),
        "rsa-other-d": ("another private exponent", altered(d=numbers.d + 2)),
        "rsa-other-primes": ("primes of another modulus", altered(p=more.p, q=more.q)),
        "rsa-trivial-primes": (
            "one and the modulus as primes",
            altered(p=numbers.public_numbers.n, q=1),
        ),
        "rsa-other-dmp1": ("another exponent for p", altered(dmp1=numbers.dmp1 + 2)),
        "rsa-other-dmq1": ("another exponent for q", altered(dmq1=numbers.dmq1 + 2)),
        "rsa-other-coefficient": ("another coefficient", altered(iqmp=numbers.iqmp + 1)),
        "rsa-other-key": (
            "a whole RSA key, of another leaf",
            _sealed(pkcs8(rsa_key(3072)), rsa),
        ),
    }


def _pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def vectors() -> list[Vector]:
    return [
        *(
            bundle_vector(f"key-{name}", "bundle/unsuitable-key", f"opens to: {comment}", body)
            for name, (comment, body) in _unsuitable().items()
        ),
        *(
            bundle_vector(f"key-{name}", "bundle/key-mismatch", f"opens to: {comment}", body)
            for name, (comment, body) in _mismatched().items()
        ),
    ]


# --- private keys alone -------------------------------------------------------------------------


def _alone(
    name: str, expect: str, comment: str, der: bytes, public: PrivateKey | None = None
) -> Vector:
    """One that is read for a certificate with the public half of ``public``."""
    spki = spki_sha256(public or ec_key("Vector Leaf"))
    return Vector(name, {"expect": expect, "comment": comment, "spki-sha256": spki}, der)


def _good_alone() -> list[Vector]:
    keys: dict[str, tuple[str, PrivateKey]] = {
        "p256": ("EC on P-256", ec_key("Vector Leaf")),
        "p384": ("EC on P-384", curve_key(ec.SECP384R1())),
        "rsa-2048": ("RSA of 2048 bits", rsa_key(2048)),
        "rsa-3072": ("RSA of 3072 bits", rsa_key(3072)),
        "rsa-4096": ("RSA of 4096 bits", rsa_key(4096)),
        "scalar-one": ("the smallest scalar", ec.derive_private_key(1, ec.SECP256R1())),
        "scalar-largest": (
            "the largest scalar",
            ec.derive_private_key(P256_ORDER - 1, ec.SECP256R1()),
        ),
    }
    return [
        _alone(f"good-{name}", "success", comment, pkcs8(key), key)
        for name, (comment, key) in keys.items()
    ]


def _unsuitable_alone() -> dict[str, tuple[str, bytes]]:
    own = ec_key("Vector Leaf")
    scalar, whole = own.private_numbers().private_value, point(own)
    usual = pkcs8(own)
    return {
        "empty": ("no octets", b""),
        "cut": ("the last octet is missing", usual[:-1]),
        "trailing": ("an octet behind it", usual + b"\0"),
        "sec1": ("as SEC 1 writes it", _traditional(own)),
        "pkcs1": ("as PKCS #1 writes it", _traditional(rsa_key(2048))),
        "pem": ("in PEM", _pem(own)),
        "public": ("the public half alone", ec_spki(whole)),
        "explicit-parameters": (
            "its curve by parameters",
            ec_private(scalar, whole, curve=explicit_p256()),
        ),
        "parameters-twice": (
            "the curve's name once more within the key",
            ec_private(scalar, whole, parameters=True),
        ),
        "no-public-half": ("no public half", ec_private(scalar, None)),
        "compressed-half": (
            "a public half of which one half is left out",
            ec_private(scalar, point(own, PublicFormat.CompressedPoint)),
        ),
        "leading-zero": ("a zero before the scalar", ec_private(scalar, whole, size=33)),
        "attributes": ("attributes behind the key", ec_private(scalar, whole, attributes=True)),
        "version-1": ("version 1", ec_private(scalar, whole, version=1)),
        "encrypted": ("an encrypted key", _encrypted()),
        "ed25519": ("Ed25519", pkcs8(ed25519_key())),
        "p521": ("EC on P-521", pkcs8(curve_key(ec.SECP521R1()))),
        "secp256k1": ("EC on secp256k1", pkcs8(curve_key(ec.SECP256K1()))),
        "rsa-1024": ("RSA of 1024 bits", pkcs8(rsa_key(1024))),
        "rsa-exponent": ("the public exponent 257", pkcs8(rsa_key(2048, 257))),
    }


def _encrypted() -> bytes:
    """The frame of PKCS #8's other form (RFC 5208 section 6); what is in it does not matter."""
    pbes2 = bytes.fromhex("06092a864886f70d01050d")
    return sequence(sequence(pbes2, tlv(5)), tlv(4, bytes(160)))


def _mismatched_alone() -> dict[str, tuple[str, bytes]]:
    own, other = ec_key("Vector Leaf"), ec_key("Another Key")
    mine = own.private_numbers().private_value
    return {
        "other-key": ("right in itself, of another leaf", pkcs8(other)),
        "other-half": ("beside another public half", ec_private(mine, point(other))),
        "scalar-zero": ("the scalar 0", ec_private(0, point(own))),
        "scalar-order": ("the scalar that is the order", ec_private(P256_ORDER, point(own))),
        "off-curve": ("a public half that is not on the curve", ec_private(mine, _off_curve(own))),
    }


def _off_curve(key: ec.EllipticCurvePrivateKey) -> bytes:
    whole = point(key)
    return whole[:-1] + bytes([whole[-1] ^ 1])


def alone() -> list[Vector]:
    rsa, numbers, more = rsa_key(2048), rsa_numbers(2048), rsa_numbers(3072)
    changes: dict[str, tuple[str, dict[str, int]]] = {
        "rsa-other-d": ("another private exponent", {"d": numbers.d + 2}),
        "rsa-other-primes": ("primes of another modulus", {"p": more.p, "q": more.q}),
        "rsa-other-dmp1": ("another exponent for p", {"dmp1": numbers.dmp1 + 2}),
        "rsa-other-dmq1": ("another exponent for q", {"dmq1": numbers.dmq1 + 2}),
        "rsa-other-coefficient": ("another coefficient", {"iqmp": numbers.iqmp + 1}),
    }
    return [
        *_good_alone(),
        *(
            _alone(name, "bundle/unsuitable-key", comment, der)
            for name, (comment, der) in _unsuitable_alone().items()
        ),
        *(
            _alone(name, "bundle/key-mismatch", comment, der)
            for name, (comment, der) in _mismatched_alone().items()
        ),
        *(
            _alone(name, "bundle/key-mismatch", comment, rsa_private(numbers, **change), rsa)
            for name, (comment, change) in changes.items()
        ),
    ]
