"""The search for secrets finds what is planted, in every form, and nothing where nothing is."""

from __future__ import annotations

import base64
import ctypes
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.canary import Secret, find, find_in_files, leaks, private_key, scalar, secret

Key = ec.EllipticCurvePrivateKey


def serialised(key: Key, encoding: Encoding, form: PrivateFormat) -> bytes:
    return key.private_bytes(encoding, form, NoEncryption())


def pkcs8(key: Key) -> bytes:
    return serialised(key, Encoding.DER, PrivateFormat.PKCS8)


def sec1(key: Key) -> bytes:
    return serialised(key, Encoding.DER, PrivateFormat.TraditionalOpenSSL)


def pem(key: Key) -> bytes:
    return serialised(key, Encoding.PEM, PrivateFormat.PKCS8)


def sec1_pem(key: Key) -> bytes:
    return serialised(key, Encoding.PEM, PrivateFormat.TraditionalOpenSSL)


def raw(key: Key) -> bytes:
    return scalar(key)


def integer_in_memory(key: Key) -> bytes:
    number = key.private_numbers().private_value
    return ctypes.string_at(id(number), sys.getsizeof(number))


FORMS: dict[str, Callable[[Key], bytes]] = {
    "scalar": raw,
    "bignum": lambda key: raw(key)[::-1],
    "pkcs8": pkcs8,
    "sec1": sec1,
    "pem": pem,
    "sec1 pem": sec1_pem,
    "pem with CRLF": lambda key: pem(key).replace(b"\n", b"\r\n"),
    "pem in JSON": lambda key: json.dumps({"key": pem(key).decode()}).encode(),
    "pem as one line": lambda key: pem(key).replace(b"\n", b""),
    "hex": lambda key: raw(key).hex().encode(),
    "HEX": lambda key: raw(key).hex().upper().encode(),
    "he:xa": lambda key: raw(key).hex(":").encode(),
    "der in hex": lambda key: pkcs8(key).hex().encode(),
    "decimal": lambda key: str(key.private_numbers().private_value).encode(),
    "integer": integer_in_memory,
    "repr of octets in base64": lambda key: repr(base64.b64encode(raw(key))).encode(),
    **{
        f"{name} after {offset}": lambda key, encode=encode, offset=offset: encode(  # type: ignore[misc]
            b"x" * offset + raw(key) + b"y"
        )
        for offset in range(4)
        for name, encode in (
            ("base64", base64.b64encode),
            ("base64url", base64.urlsafe_b64encode),
        )
    },
    **{
        f"lines of base64 after {offset}": lambda key, offset=offset: base64.encodebytes(  # type: ignore[misc]
            b"x" * offset + raw(key) + b"y"
        )
        for offset in range(20, 58)
    },
    "openssl text": lambda key: raw(key)[:15].hex(":").encode() + b":\n    ...",
    "first half gone": lambda key: bytes(16) + raw(key)[16:],
    "second half gone": lambda key: raw(key)[:16] + bytes(16),
    "first half of the bignum gone": lambda key: bytes(16) + raw(key)[::-1][16:],
}


@pytest.fixture(scope="module")
def key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def wanted(key: Key) -> Secret:
    return private_key("canary", pem(key))


def noise(length: int = 100_000) -> bytes:
    return random.Random(length).randbytes(length)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", [0, 4095])
def test_every_form_is_found(key: Key, wanted: Secret, form: str, place: int) -> None:
    planted = noise()[:place] + FORMS[form](key) + noise()[place:]
    assert find(planted, [wanted]) != []


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_in_a_file(key: Key, wanted: Secret, form: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    planted = tmp_path / "deep" / "file"
    planted.write_bytes(noise() + FORMS[form](key))
    found = find_in_files([tmp_path], [wanted])
    assert found and all(line.startswith(f"{planted}: canary: ") for line in found)
    assert find_in_files([tmp_path], [wanted], besides=[planted]) == []


def test_what_is_public_is_no_find(key: Key, wanted: Secret) -> None:
    public = key.public_key()
    other = ec.generate_private_key(ec.SECP256R1())
    for octets in (
        noise(),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key.sign(b"", ec.ECDSA(SHA256())),
        pem(other),
        pkcs8(other),
    ):
        assert find(octets, [wanted]) == []


def test_a_seed_is_found_in_a_token() -> None:
    seed = random.Random(1).randbytes(32)
    body = json.dumps({"seed": base64.b64encode(seed).decode(), "url": "https://x"}).encode()
    for text in (body, seed, seed.hex().encode()):
        assert find(text, [secret("seed", seed)]) != []


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_no_needle_is_short(curve: ec.EllipticCurve) -> None:
    made = private_key("any", pem(ec.generate_private_key(curve)))
    assert min(map(len, made.needles.values())) >= 16


def test_an_rsa_key_is_found_by_either_prime(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "key.der").write_bytes(
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    )
    found = leaks(tmp_path, [key])
    assert any("prime p" in one for one in found)
    assert any("prime q" in one for one in found)
    assert leaks(tmp_path, [rsa.generate_private_key(65537, 2048)]) == []
