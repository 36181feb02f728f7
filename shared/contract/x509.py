"""X.509: CSRs made, chains read and checked.

Times are aware ``datetime`` objects in UTC or unix seconds, as each signature says.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from shared.contract.errors import (
    KeyMismatch,
    MalformedBundle,
    NameMismatch,
    OutsideValidity,
)
from shared.contract.identifiers import MAX_NAMES, DnsName
from shared.contract.key_policy import PrivateKey

MAX_CHAIN = 10
BACKDATE_GRACE = 300
_PEM_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----[ \t]*\r?\n[A-Za-z0-9+/= \t\r\n]+-----END CERTIFICATE-----"
)
_MAX_CHAIN_TEXT = 200_000


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
    """Read a chain, leaf first, spelled exactly as :func:`chain_to_pem` does it (RFC 7468 strict).

    Raises:
        MalformedBundle: other text, another spelling, no certificate, more than :data:`MAX_CHAIN`.
    """
    chain = read_certificates(pem)
    if len(chain) > MAX_CHAIN:
        raise MalformedBundle(f"The chain has {len(chain)} certificates, more than {MAX_CHAIN}.")
    if chain_to_pem(chain) != pem:
        raise MalformedBundle(
            "The chain is not certificates in PEM and nothing else, in lines of 64 characters."
        )
    return chain


def read_certificates(text: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates in a text, which may hold other things and lines of any length.

    This is how CAs and administrators write; what we write is read by :func:`load_chain`.

    Raises:
        MalformedBundle: no certificate, one that does not parse, too much text.
    """
    if len(text) > _MAX_CHAIN_TEXT:
        raise MalformedBundle(f"The chain is longer than {_MAX_CHAIN_TEXT} characters.")
    blocks = _PEM_CERTIFICATE.findall(text)
    if not blocks:
        raise MalformedBundle("The chain holds no certificate in PEM.")
    with in_words(MalformedBundle, "A certificate of the chain"):
        return tuple(x509.load_pem_x509_certificate(block.encode("ascii")) for block in blocks)


@contextmanager
def in_words(refuse: Callable[[str], Exception], whose: str) -> Iterator[None]:
    """Say what the library stumbled over; it parses lazily, so any look at hostile DER can fail.

    Args:
        refuse: makes the error that is raised.
        whose: begins its message: "The CSR".
    """
    try:
        yield
    except x509.DuplicateExtension as error:
        raise refuse(f"{whose} has the extension {error.oid.dotted_string} twice.") from error
    except x509.UnsupportedGeneralNameType as error:
        raise refuse(f"{whose} has a name of a kind that X.509 does not know.") from error
    except x509.InvalidVersion as error:
        raise refuse(f"{whose} has the version {error.parsed_version}, not 3 or 1.") from error
    except UnsupportedAlgorithm as error:
        raise refuse(f"{whose} uses an algorithm that is not known here.") from error
    except (ValueError, TypeError) as error:
        raise refuse(f"{whose} holds a part that does not parse ({error!s:.200}).") from error


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
