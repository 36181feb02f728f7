"""Bundles whose sealed private key is not one, or not right in itself; check 10."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.vectors.bundle_head import bundle_vector
from tests.vectors.der import ec_private, explicit_p256, point, rsa_private
from tests.vectors.rsa_keys import rsa_key, rsa_numbers
from tests.vectors.vector import Vector
from tests.vectors.world import INTERMEDIATE, Key, changed, ec_key, ed25519_key, leaf, pkcs8


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
