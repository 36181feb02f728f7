"""The CA's X.509 side: a root, an intermediate, leaves as in the Web PKI, and CSR checks."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .problems import Problem

DAY = 86400.0
_DOMAIN_VALIDATED = x509.ObjectIdentifier("2.23.140.1.2.1")


def moment(now: float) -> dt.datetime:
    """Return unix seconds as an aware time of whole seconds."""
    return dt.datetime.fromtimestamp(int(now), dt.UTC)


def common_name(text: str) -> x509.Name:
    """Return a name that holds a common name only."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(certificates: Iterable[x509.Certificate]) -> str:
    """Return the certificates as PEM text, one after the other."""
    return "".join(
        certificate.public_bytes(serialization.Encoding.PEM).decode()
        for certificate in certificates
    )


def key_usage(**wanted: bool) -> x509.KeyUsage:
    """Return a key usage with only the wanted bits."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    bits = dict.fromkeys(names, False)
    return x509.KeyUsage(**{**bits, **wanted})


def spki(key: object) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a public key."""
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


class Authority:
    """A CA certificate and its key."""

    def __init__(
        self,
        name: str,
        now: float,
        *,
        issuer: Authority | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        path_length: int | None = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        signer = issuer or self
        public = self.key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(common_name(name))
            .issuer_name(issuer.certificate.subject if issuer else common_name(name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment(now - 365 * DAY))
            .not_valid_after(moment(now + 20 * 365 * DAY))
            .add_extension(x509.BasicConstraints(True, path_length), critical=True)
            .add_extension(
                key_usage(key_cert_sign=True, crl_sign=True, digital_signature=True), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        if issuer:
            builder = builder.add_extension(issuer.key_identifier(), critical=False)
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            )
        self.certificate: x509.Certificate = builder.sign(signer.key, hashes.SHA256())

    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """Return the AKI that certificates from here carry."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def sign_leaf(
        self,
        names: Sequence[str],
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        not_before: dt.datetime,
        not_after: dt.datetime,
        *,
        with_common_name: bool = False,
    ) -> x509.Certificate:
        """Return a server certificate for `names` (DNS names and IP addresses)."""
        subject = x509.Name([])
        if with_common_name and len(names[0]) <= 64:
            subject = common_name(names[0])
        is_rsa = isinstance(public_key, rsa.RSAPublicKey)
        usage = key_usage(digital_signature=True, key_encipherment=is_rsa)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(
                x509.SubjectAlternativeName([general_name(name) for name in names]),
                critical=len(subject.rdns) == 0,
            )
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(self.key_identifier(), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
            .add_extension(
                x509.CertificatePolicies([x509.PolicyInformation(_DOMAIN_VALIDATED, None)]), False
            )
            .sign(self.key, hashes.SHA256())
        )


def general_name(name: str) -> x509.GeneralName:
    """Return an iPAddress or dNSName."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Hierarchy:
    """Two roots, and one intermediate that either of them has signed."""

    def __init__(self, now: float) -> None:
        self.root = Authority("Lab Root X1", now)
        self.alternate_root = Authority("Lab Root X2", now)
        self.intermediate = Authority("Lab E1", now, issuer=self.root, path_length=0)
        self.cross_signed = Authority(
            "Lab E1", now, issuer=self.alternate_root, key=self.intermediate.key, path_length=0
        )
        self._now = now
        self._fillers: list[x509.Certificate] = []

    def fillers(self, count: int) -> list[x509.Certificate]:
        """Return so many more CA certificates, for chains that are too long."""
        while len(self._fillers) < count:
            name = f"Lab Filler {len(self._fillers)}"
            self._fillers.append(Authority(name, self._now, issuer=self.root).certificate)
        return self._fillers[:count]


def listener_context(names: Sequence[str], now: float) -> tuple[ssl.SSLContext, str]:
    """Return the TLS context of the HTTPS listener and the PEM of the root that vouches for it."""
    root = Authority("Lab Listener Root", now)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = root.sign_leaf(
        names, key.public_key(), moment(now - DAY), moment(now + 365 * DAY), with_common_name=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(private + pem([leaf]).encode())
        file.flush()
        context.load_cert_chain(Path(file.name))
    return context, pem([root.certificate])


def check_csr(
    der: bytes, names: Iterable[str], account_spki: bytes
) -> x509.CertificateSigningRequest:
    """Return the CSR when it asks for exactly `names` with a good key; badCSR otherwise."""
    try:
        csr = x509.load_der_x509_csr(der)
        good = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, TypeError) as error:
        raise Problem("badCSR", f"the CSR cannot be read: {error}") from None
    if not good:
        raise Problem("badCSR", "the CSR's own signature does not verify")
    _check_key(key, account_spki)
    asked = _names_in(csr)
    if asked != set(names):
        raise Problem(
            "badCSR", f"the CSR asks for {sorted(asked)}, the order is for {sorted(names)}"
        )
    return csr


def _check_key(key: object, account_spki: bytes) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in (2048, 3072, 4096):
            raise Problem("badCSR", f"an RSA key of {key.key_size} bits is not accepted")
        if key.public_numbers().e != 65537:
            raise Problem("badCSR", "the RSA exponent is not 65537")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in (
        "secp256r1",
        "secp384r1",
    ):
        raise Problem("badCSR", "only RSA, P-256 and P-384 keys are accepted")
    if spki(key) == account_spki:
        raise Problem("badCSR", "the certificate key is the account key")


def _names_in(csr: x509.CertificateSigningRequest) -> set[str]:
    names = {
        str(attribute.value).lower()
        for attribute in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    }
    try:
        extension = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return names
    except ValueError as error:
        raise Problem("badCSR", f"the CSR's extensions cannot be read: {error}") from None
    for name in extension.value:
        if not isinstance(name, x509.DNSName):
            raise Problem("badCSR", "the CSR asks for something that is not a DNS name")
        names.add(name.value.lower())
    return names
