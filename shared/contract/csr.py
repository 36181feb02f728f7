"""Whether a CSR made elsewhere may be ordered for: every rule in one place, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID, SignatureAlgorithmOID

from shared.contract.errors import CsrRefused
from shared.contract.x509 import KeyAlgorithm

MAX_CSR = 32 * 1024
"""Octets: a hundred names of 253 octets and an RSA key of 4096 bits fit."""
_EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")
_SIGNATURES = frozenset(
    (
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
    )
)
_CURVES = {"secp256r1": KeyAlgorithm.EC_P256, "secp384r1": KeyAlgorithm.EC_P384}
_EXPONENT = 65537


def check_csr(
    der: bytes,
    names: Sequence[str],
    *,
    allowed: Collection[KeyAlgorithm] = tuple(KeyAlgorithm),
) -> x509.CertificateSigningRequest:
    """Return the CSR (RFC 2986, DER) if it asks for exactly what was granted and nothing else.

    Args:
        names: the granted names, A-labels in lower case.
        allowed: kinds of keys; by default all that public CAs accept.

    Raises:
        CsrRefused: for the first of the rules that it breaks, named in words.
    """
    csr = _parse(der)
    with _unreadable_is_refused():
        _check_key(csr, allowed)
        _check_signature(csr)
        _check_attributes(csr)
        _check_extensions(csr)
        _check_names(csr, names)
        _check_subject(csr, names)
    return csr


def csr_to_pem(der: bytes) -> bytes:
    """Return a CSR that was checked in the form that the ACME client takes."""
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


@contextmanager
def _unreadable_is_refused() -> Iterator[None]:
    """A CSR is parsed lazily: any later look at hostile DER can fail in the parser's own way."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise CsrRefused("The CSR cannot be read.") from error


def _parse(der: bytes) -> x509.CertificateSigningRequest:
    if len(der) > MAX_CSR:
        raise CsrRefused(f"The CSR has {len(der)} octets, more than {MAX_CSR}.")
    try:
        csr = x509.load_der_x509_csr(der)
        again = csr.public_bytes(Encoding.DER)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CsrRefused("The CSR is not a PKCS#10 request in DER.") from error
    if again != der:
        raise CsrRefused("The CSR is not a PKCS#10 request in DER and nothing else.")
    return csr


def _check_key(csr: x509.CertificateSigningRequest, allowed: Collection[KeyAlgorithm]) -> None:
    try:
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CsrRefused("The CSR's public key is of no kind that is allowed here.") from error
    found, words = _kind(key)
    if found is None or found not in allowed:
        raise CsrRefused(
            f"The CSR's key is {words}; allowed are {', '.join(str(one) for one in allowed)}."
        )


def _kind(key: CertificatePublicKeyTypes) -> tuple[KeyAlgorithm | None, str]:
    """Return what kind of key it is, if it is one of ours, and what it is in words."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name), f"EC on {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        words = f"RSA of {key.key_size} bits"
        if exponent != _EXPONENT:
            return None, f"{words} with a public exponent other than {_EXPONENT}"
        names = {str(one): one for one in KeyAlgorithm}
        return names.get(f"rsa-{key.key_size}"), words
    return None, "neither EC nor RSA"


def _check_signature(csr: x509.CertificateSigningRequest) -> None:
    if csr.signature_algorithm_oid not in _SIGNATURES:
        raise CsrRefused("The CSR is signed with an algorithm other than ECDSA or RSA on SHA-2.")
    if not csr.is_signature_valid:
        raise CsrRefused("The CSR's signature is not by its own key.")


def _check_attributes(csr: x509.CertificateSigningRequest) -> None:
    found = [attribute.oid for attribute in csr.attributes]
    if AttributeOID.CHALLENGE_PASSWORD in found:
        raise CsrRefused("The CSR carries a challenge password.")
    if [oid for oid in found if oid != _EXTENSION_REQUEST] or len(found) > 1:
        raise CsrRefused("The CSR carries attributes other than one request for extensions.")


def _check_extensions(csr: x509.CertificateSigningRequest) -> None:
    others = [
        extension.oid.dotted_string
        for extension in csr.extensions
        if extension.oid != x509.SubjectAlternativeName.oid
    ]
    if others:
        raise CsrRefused(
            f"The CSR asks for extensions other than subjectAltName: {', '.join(others):.200}."
        )


def _check_names(csr: x509.CertificateSigningRequest, names: Sequence[str]) -> None:
    try:
        extension = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound as error:
        raise CsrRefused("The CSR has no subjectAltName.") from error
    found = list(extension.value)
    if not all(isinstance(name, x509.DNSName) for name in found):
        raise CsrRefused("The CSR asks for something else than DNS names.")
    asked, granted = [str(name.value) for name in found], set(names)
    extra, missing = sorted(set(asked) - granted), sorted(granted - set(asked))
    if extra:
        raise CsrRefused(f"The CSR asks for {extra[0]!r:.260}, which is not granted.")
    if missing:
        raise CsrRefused(f"The CSR does not ask for {missing[0]!r:.260}, which was granted.")
    if len(asked) != len(granted):
        raise CsrRefused("The CSR asks for one name twice.")


def _check_subject(csr: x509.CertificateSigningRequest, names: Sequence[str]) -> None:
    attributes = list(csr.subject)
    if not attributes:
        return
    if len(attributes) > 1 or attributes[0].oid != NameOID.COMMON_NAME:
        raise CsrRefused("The CSR's subject holds something else than one common name.")
    if attributes[0].value not in names:
        raise CsrRefused("The CSR's common name is none of the granted names.")
