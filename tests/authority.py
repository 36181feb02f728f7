"""A small private CA for tests: root, intermediate, and leaves as a public CA would make them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Builder = x509.CertificateBuilder
Key = ec.EllipticCurvePrivateKey


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _ca(subject: str, key: Key, issuer: str, issuer_key: Key, path_length: int) -> x509.Certificate:
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    return (
        Builder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=365 * 30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass(frozen=True)
class Authority:
    """A root and the intermediate that issues."""

    root: x509.Certificate
    root_key: Key
    intermediate: x509.Certificate
    intermediate_key: Key

    @classmethod
    def make(cls) -> Authority:
        root_key, intermediate_key = new_key(), new_key()
        root = _ca("Test Root", root_key, "Test Root", root_key, 2)
        intermediate = _ca("Test Issuing CA", intermediate_key, "Test Root", root_key, 0)
        return cls(root, root_key, intermediate, intermediate_key)

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    def leaf(
        self,
        names: Sequence[str],
        key: Key,
        *,
        not_before: int,
        lifetime: int = 90 * 86400,
        edit: Callable[[Builder], Builder] = lambda builder: builder,
        server_auth: bool = True,
    ) -> x509.Certificate:
        """Return a leaf for ``names`` (DNS or IP), valid from ``not_before`` (unix seconds)."""
        begin = datetime.fromtimestamp(not_before, UTC)
        usages = (
            [ExtendedKeyUsageOID.SERVER_AUTH] if server_auth else [ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        builder = (
            Builder()
            .subject_name(x509.Name([]))
            .issuer_name(self.intermediate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(seconds=lifetime))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]),
                critical=True,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self.intermediate_key.public_key()
                ),
                critical=False,
            )
        )
        return edit(builder).sign(self.intermediate_key, hashes.SHA256())

    def chain(self, leaf: x509.Certificate) -> tuple[x509.Certificate, ...]:
        return (leaf, self.intermediate)


@cache
def common_authority() -> Authority:
    """One authority for a whole test process."""
    return Authority.make()


def self_signed(names: Sequence[str], key: Key, *, not_before: int) -> x509.Certificate:
    """Return a certificate that nobody but a pin accepts."""
    begin = datetime.fromtimestamp(not_before, UTC)
    return (
        Builder()
        .subject_name(_name("relay"))
        .issuer_name(_name("relay"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .sign(key, hashes.SHA256())
    )


def pem_pair(chain: Sequence[x509.Certificate], key: Key) -> bytes:
    """Return key and chain in one PEM, as ``ssl`` loads it."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + b"".join(one.public_bytes(Encoding.PEM) for one in chain)
