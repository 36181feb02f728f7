"""Whether a CSR made elsewhere may be ordered for: every rule in one place, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID

from shared.contract.errors import CsrRefused, UnsuitableKey
from shared.contract.key_policy import SIGNATURES, check_public_key
from shared.contract.x509 import in_words

MAX_CSR = 32 * 1024
"""Octets: a hundred names of 253 octets and an RSA key of 4096 bits fit."""
_EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")
_OTHER_NAMES: dict[type[x509.GeneralName], str] = {
    x509.IPAddress: "the IP address",
    x509.RFC822Name: "the e-mail address",
    x509.UniformResourceIdentifier: "the URI",
}


def check_csr(der: bytes, names: Sequence[str]) -> x509.CertificateSigningRequest:
    """Return the CSR (RFC 2986, DER) if it asks for exactly what was granted and nothing else.

    Args:
        names: the granted names, A-labels in lower case.

    Raises:
        CsrRefused: for the first of the rules that it breaks, named in words.
    """
    csr = _parse(der)
    with in_words(CsrRefused, "The CSR"):
        _check_key(csr)
        _check_signature(csr)
        _check_attributes(csr)
        _check_extensions(csr)
        _check_names(csr, names)
        _check_subject(csr, names)
    return csr


def csr_to_pem(der: bytes) -> bytes:
    """Return a CSR that was checked in the form that the ACME client takes."""
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


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


def _check_key(csr: x509.CertificateSigningRequest) -> None:
    try:
        check_public_key(csr, "The CSR's key")
    except UnsuitableKey as error:
        raise CsrRefused(error.what) from error


def _check_signature(csr: x509.CertificateSigningRequest) -> None:
    if csr.signature_algorithm_oid not in SIGNATURES:
        raise CsrRefused("The CSR is signed with an algorithm other than ECDSA or RSA on SHA-2.")
    if not csr.is_signature_valid:
        raise CsrRefused("The CSR's signature is not by its own key.")


def _check_attributes(csr: x509.CertificateSigningRequest) -> None:
    try:
        found = [attribute.oid for attribute in csr.attributes]
    except ValueError as error:
        raise CsrRefused(
            f"The CSR carries an attribute that is not one value of a known type ({error})."
        ) from error
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
    asked, granted = [_dns_name(name) for name in extension.value], set(names)
    extra, missing = sorted(set(asked) - granted), sorted(granted - set(asked))
    if extra:
        raise CsrRefused(f"The CSR's SAN {extra[0]!r:.260} {_why_not(extra[0], granted)}.")
    if missing:
        raise CsrRefused(f"The CSR does not ask for {missing[0]!r:.260}, which was granted.")
    if len(asked) != len(granted):
        raise CsrRefused("The CSR asks for one name twice.")


def _dns_name(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DNSName):
        return name.value
    kind = _OTHER_NAMES.get(type(name), "a name of another kind,")
    raise CsrRefused(f"The CSR asks for {kind} {name.value!s:.100}; only DNS names are granted.")


def _why_not(name: str, granted: set[str]) -> str:
    """Return in words what is wrong with a name that is none of the granted ones."""
    if not name.isascii():
        return "is not in A-labels"
    if name.rstrip(".").lower() not in granted:
        return "is not granted"
    return "ends with a dot" if name.endswith(".") else "is not in lower case"


def _check_subject(csr: x509.CertificateSigningRequest, names: Sequence[str]) -> None:
    attributes = list(csr.subject)
    if not attributes:
        return
    if len(attributes) > 1 or attributes[0].oid != NameOID.COMMON_NAME:
        raise CsrRefused("The CSR's subject holds something else than one common name.")
    if attributes[0].value not in names:
        raise CsrRefused("The CSR's common name is none of the granted names.")
