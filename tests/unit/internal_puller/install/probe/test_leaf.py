"""Two facts of a certificate, and of what is none."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from internal_puller.install.probe.leaf import key_kind, not_after

SIGNER = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[
    str | None, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
] = {
    "ecdsa": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    None: ed25519.Ed25519PrivateKey.generate(),
}


def certificate(kind: str | None, until: dt.datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 60)] * 9)
    built = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=KEYS[kind].public_key(),
        serial_number=2**158 + 1,
        not_valid_before=dt.datetime(1960, 1, 1, tzinfo=dt.UTC),
        not_valid_after=until,
    )
    return built.sign(SIGNER, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 9999])
def test_read_as_a_whole_parser_reads_it(kind: str | None, year: int) -> None:
    until = dt.datetime(year, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    der = certificate(kind, until)
    assert key_kind(der) == kind
    assert not_after(der) == until.timestamp()


@given(st.integers(0, 400), st.binary(max_size=40))
def test_what_is_damaged_is_not_known(cut: int, more: bytes) -> None:
    der = certificate("ecdsa", dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    for octets in (more, der[:cut] + more, der[cut:]):
        assert key_kind(octets) in ("rsa", "ecdsa", None)
        found = not_after(octets)
        assert found is None or isinstance(found, int)
