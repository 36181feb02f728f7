"""X.509: keys and CSRs made, chains read and checked.

Times are aware ``datetime`` objects in UTC or unix seconds, as each signature says.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.contract.errors import (
    KeyMismatch,
    MalformedBundle,
    NameMismatch,
    OutsideValidity,
    UntrustedChain,
)
from shared.contract.identifiers import MAX_NAMES, DnsName

MAX_CHAIN = 10
BACKDATE_GRACE = 300
_PEM_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----\r?\n?"
)
_MAX_CHAIN_TEXT = 200_000

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyAlgorithm(StrEnum):
    """What public CAs accept for a leaf (CA/Browser Forum BR 6.1.5)."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


def generate_key(algorithm: KeyAlgorithm) -> PrivateKey:
    match algorithm:
        case KeyAlgorithm.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.RSA_2048 | KeyAlgorithm.RSA_3072 | KeyAlgorithm.RSA_4096:
            return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa-")))
        case _ as never:
            assert_never(never)


def key_to_der(key: PrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8 DER: what is sealed, and nothing else is done with."""
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(der: bytes) -> PrivateKey:
    """Return the private key in PKCS#8 DER.

    Raises:
        KeyMismatch: no key that a leaf could have.
    """
    try:
        key = serialization.load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMismatch("The private key does not parse as PKCS#8.") from error
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return key
    raise KeyMismatch("The private key is neither EC nor RSA.")


def make_csr(key: PrivateKey, names: Sequence[DnsName]) -> x509.CertificateSigningRequest:
    """Return a CSR (RFC 2986) for exactly ``names``, with an empty subject."""
    digest = hashes.SHA384() if _is_p384(key) else hashes.SHA256()
    sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(sans, critical=True)
        .sign(key, digest)
    )


def _is_p384(key: PrivateKey) -> bool:
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"


def spki_sha256(
    holder: x509.Certificate | x509.CertificateSigningRequest | PrivateKey,
) -> str:
    """Return the lower-case hex SHA-256 of the SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)."""
    spki = holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def leaf_sha256(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def load_chain(pem: str) -> tuple[x509.Certificate, ...]:
    """Read a chain, leaf first, that consists of certificates in PEM and of nothing else.

    Raises:
        MalformedBundle: other text, no certificate, more than :data:`MAX_CHAIN`.
    """
    if len(pem) > _MAX_CHAIN_TEXT or not pem.isascii():
        raise MalformedBundle("The chain is not PEM text of a reasonable size.")
    blocks = _PEM_CERTIFICATE.findall(pem)
    if not blocks or _PEM_CERTIFICATE.sub("", pem).strip():
        raise MalformedBundle("The chain holds something else than certificates in PEM.")
    if len(blocks) > MAX_CHAIN:
        raise MalformedBundle(f"The chain has {len(blocks)} certificates, more than {MAX_CHAIN}.")
    try:
        return tuple(x509.load_pem_x509_certificate(block.encode("ascii")) for block in blocks)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedBundle("A certificate of the chain does not parse.") from error


def chain_to_pem(chain: Iterable[x509.Certificate]) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode("ascii") for one in chain)


def dns_names(certificate: x509.Certificate | x509.CertificateSigningRequest) -> tuple[str, ...]:
    """Return the sorted subjectAltName set.

    Raises:
        NameMismatch: no such extension, or other kinds of names in it.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise NameMismatch("The certificate has no readable subjectAltName.") from error
    names = tuple(extension.value)
    if not all(isinstance(name, x509.DNSName) for name in names) or len(names) > MAX_NAMES:
        raise NameMismatch("The certificate's subjectAltName holds something else than DNS names.")
    return tuple(sorted(name.value.lower() for name in names))


def check_validity(leaf: x509.Certificate, now: float) -> None:
    """
    Args:
        now: unix seconds.

    Raises:
        OutsideValidity: expired, or begins more than 300 s ahead of our clock.
    """
    if now >= leaf.not_valid_after_utc.timestamp():
        raise OutsideValidity(
            f"The certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC."
        )
    if now + BACKDATE_GRACE < leaf.not_valid_before_utc.timestamp():
        raise OutsideValidity(
            f"The certificate begins at {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, "
            "in this machine's future."
        )


def check_chain(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: float
) -> None:
    """Verify link by link up to one of ``roots``, as a TLS client would (RFC 5280 section 6).

    Args:
        chain: leaf first; at most :data:`MAX_CHAIN`.
        roots: trust anchors.
        now: unix seconds.

    Raises:
        UntrustedChain: no path, a broken link, or a leaf that is not for TLS servers.
    """
    leaf = chain[0]
    _check_server_auth(leaf)
    names = dns_names(leaf)
    if not roots:
        raise UntrustedChain("There is no root certificate to verify the chain with.")
    begin = leaf.not_valid_before_utc.timestamp()
    moment = datetime.fromtimestamp(max(now, begin), UTC)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(list(roots)))
        .time(moment)
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=_ca_policy(), ee_policy=_leaf_policy())
        .build_server_verifier(x509.DNSName(DnsName(names[0]).probe_name))
    )
    try:
        verifier.verify(leaf, list(chain[1:]))
    except (verification.VerificationError, InvalidSignature, ValueError) as error:
        raise UntrustedChain(f"The chain does not verify up to a trusted root: {error}.") from error


def _check_server_auth(leaf: x509.Certificate) -> None:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise UntrustedChain("The certificate does not say that it is for TLS servers.") from error
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise UntrustedChain("The certificate is not for TLS servers (serverAuth).")


def _leaf_policy() -> verification.ExtensionPolicy:
    """Web PKI, except where private CAs differ: a leaf without AKI, SAN or EKU critical or not."""
    any_criticality = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.AuthorityKeyIdentifier, verification.Criticality.NON_CRITICAL, None)
        .require_present(x509.SubjectAlternativeName, any_criticality, None)
        .require_present(x509.ExtendedKeyUsage, any_criticality, None)
    )


def _ca_policy() -> verification.ExtensionPolicy:
    return verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.AuthorityKeyIdentifier, verification.Criticality.NON_CRITICAL, None
    )


def check_names(leaf: x509.Certificate, expected: Sequence[str]) -> None:
    """
    Raises:
        NameMismatch: the SAN set is not exactly ``expected``.
    """
    found = dns_names(leaf)
    if found != tuple(sorted(expected)):
        raise NameMismatch(
            f"The certificate is for {', '.join(found):.200}, not for "
            f"{', '.join(sorted(expected)):.200}."
        )


def check_key(key: PrivateKey, leaf: x509.Certificate) -> None:
    """
    Raises:
        KeyMismatch: the key is not the leaf's.
    """
    if spki_sha256(key) != spki_sha256(leaf):
        raise KeyMismatch("The private key does not belong to the certificate.")


def load_roots(pem: bytes) -> list[x509.Certificate]:
    """Read trust anchors one by one, leaving out those that do not parse.

    System stores hold roots with serial numbers that a strict parser refuses; one such root must
    not make all others useless.
    """
    roots = []
    for block in _PEM_CERTIFICATE.findall(pem.decode("ascii", errors="replace")):
        with suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            roots.append(x509.load_pem_x509_certificate(block.encode("ascii")))
    return roots


def common_name(name: x509.Name) -> str:
    """Return a short text for an issuer or subject."""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return str(attribute.value)
    return name.rfc4514_string()
