"""The one key policy: what is made fits it, and what is read is held to it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from shared.contract.errors import BundleError, KeyMismatch, UnsuitableKey
from shared.contract.identifiers import parse_names
from shared.contract.key_policy import (
    KeyAlgorithm,
    algorithm_of,
    check_public_key,
    generate_key,
    key_to_der,
    key_to_pem,
    load_key,
    load_pem_key,
)
from shared.contract.x509 import make_csr
from tests.vectors.der import ec_private, point, rsa_private
from tests.vectors.rsa_keys import rsa_numbers
from tests.vectors.world import ec_key

OWN = ec_key("Vector Leaf")
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm)[:4])  # 4096 is slow to make
def test_what_is_made_fits(algorithm: KeyAlgorithm) -> None:
    key = generate_key(algorithm)
    assert algorithm_of(key.public_key(), "It") == algorithm
    assert check_public_key(make_csr(key, parse_names(["a.example.com"])), "It") == algorithm
    assert key_to_der(load_key(key_to_der(key))) == key_to_der(key)
    assert key_to_der(load_pem_key(key_to_pem(key).decode())) == key_to_der(key)


def test_another_kind_or_form_is_refused() -> None:
    encrypted = OWN.private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    others = [x25519.X25519PrivateKey.generate(), dsa.generate_private_key(2048)]
    kinds = [
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, serialization.NoEncryption())
        for key in others
    ]
    for der in (b"", encrypted, *kinds):
        with pytest.raises(UnsuitableKey):
            load_key(der)


def test_a_key_that_is_wrong_in_itself_is_told_from_none() -> None:
    for scalar in (0, _ORDER, _ORDER + 1):
        with pytest.raises(KeyMismatch):
            load_key(ec_private(scalar, point(OWN)))
    numbers = rsa_numbers(2048)
    assert load_key(rsa_private(numbers))
    for name in ("n", "d", "p", "q", "dmp1", "dmq1", "iqmp"):
        wrong = numbers.public_numbers.n if name == "n" else getattr(numbers, name)
        with pytest.raises(KeyMismatch):
            load_key(rsa_private(numbers, **{name: wrong + 2}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        key_to_pem(OWN).decode() * 2,
        key_to_pem(OWN).decode().replace("PRIVATE", "EC PRIVATE"),
        key_to_pem(OWN).decode()[:-30],
        key_to_pem(OWN).decode().replace("\nM", "\n!M"),
        OWN.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode(),
    ],
)
def test_pem_that_we_did_not_write(text: str) -> None:
    with pytest.raises(BundleError):
        load_pem_key(text)


def test_certificates_may_stand_around_a_key_in_pem() -> None:
    other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    text = other + key_to_pem(OWN).decode() + other
    assert key_to_der(load_pem_key(text)) == key_to_der(OWN)


def test_a_curve_is_known_by_its_name_only() -> None:
    for curve in (ec.SECP256K1(), ec.SECP521R1(), ec.BrainpoolP256R1()):
        with pytest.raises(UnsuitableKey, match=curve.name):
            algorithm_of(ec.generate_private_key(curve).public_key(), "It")
