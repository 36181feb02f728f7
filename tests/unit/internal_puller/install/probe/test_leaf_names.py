"""Whose a leaf is, of any certificate, and of what is none."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from internal_puller.install.probe.leaf import whose

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(*names: x509.GeneralName, critical: bool = False) -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old")])
    built = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=KEY.public_key(),
        serial_number=1,
        not_valid_before=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        not_valid_after=dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName(names), critical)
    return built.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


@pytest.mark.parametrize("critical", [False, True])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("old.example.com",), "old.example.com"),
        (("a.example.com", "b.example.com"), "a.example.com, b.example.com"),
        (("a.b", "c.d", "e.f", "g.h", "i.j"), "a.b, c.d, e.f and 2 more"),
        (("x" * 60 + ".example.com",) * 3, ", ".join(["x" * 60 + ".example.com"] * 3)),
    ],
)
def test_the_names_are_said(names: tuple[str, ...], said: str, critical: bool) -> None:
    assert whose(certificate(*dns(*names), critical=critical)) == said


def test_other_names_are_passed_over() -> None:
    mail = x509.RFC822Name("a@example.com")
    assert whose(certificate(mail, *dns("a.example.com"))) == "a.example.com"
    assert whose(certificate(mail)) == whose(certificate()) == ""


@given(st.binary(max_size=80))
def test_what_is_no_certificate_has_none(octets: bytes) -> None:
    whose(octets)
    whose(b"\x06\x03\x55\x1d\x11" + octets)


def test_a_certificate_that_is_cut_has_none_or_its_own() -> None:
    whole = certificate(*dns("a.example.com"))
    assert {whose(whole[:end]) for end in range(len(whole))} == {"", "a.example.com"}
