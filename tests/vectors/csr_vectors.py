"""CSRs that pullers leave, good and hostile; each hostile one breaks one rule."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from shared.contract.csr import MAX_CSR
from tests.vectors.vector import Vector
from tests.vectors.world import NAME, ec_key

# Primes of RSA keys that protect nothing, so that the vectors are the same octets in every run.
_PRIMES = {
    1024: (
        "d987f41524129727149d6843d5c1ff912d08367e812d0369c52f3299f9d8b1ac"
        "f349e13703edbaadedff1a42512b93f2192d14f42a1e4f5e17dd08ec1f3d4481",
        "d74b9f59550d62d477df3360f35d5e94606f0f8a0b644878ca191675fe71faaf"
        "652fd5f29dcf3f948569425a5a8cd7a5c126c360e50ba7a5af453831518d8e1d",
    ),
    2048: (
        "d8b185b923423b7bfc26a995ebbe92e46de4494bc48fbc1f18c73f2a5eefdca5"
        "f2099abf8f7b34079f60aa12f129a27374aaebb85c26c8bbabbbb186b1f7bb45"
        "6097a380e7e9ee68030fb943e6ca8e8a6cbf3ced8da3ef342494b4f3be9137ee"
        "7b78c085f21e8edd58043ca37e371cf36805463e3ec4fc6890d2abfc123a4e41",
        "bfe0692d6419736a5b26ff84a894dd2a2acc5872a35e3f899145500082e3e914"
        "cb7c800cab9cd89df46f52b465e43c4864f5fb29eecac13e44ee755d593da1be"
        "8d56d40652f61400f67c8e71fc003a93f9d2f9cab9760af05ed6be3dafcb77bb"
        "31a4ac05259ba93259d75126dbae31162d73d0a942cc083c1ba499312f014021",
    ),
}
_REFUSED = "policy/csr"


def _rsa(bits: int, exponent: int = 65537) -> rsa.RSAPrivateKey:
    p, q = (int(text, 16) for text in _PRIMES[bits])
    d = pow(exponent, -1, (p - 1) * (q - 1))
    return rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        rsa.rsa_crt_dmp1(d, p),
        rsa.rsa_crt_dmq1(d, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(exponent, p * q),
    ).private_key()


def _curve(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(b"vector csr").digest()) >> 1, curve)


def _names(*names: str | x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [x509.DNSName(one) if isinstance(one, str) else one for one in names]
    )


def _subject(**attributes: str) -> x509.Name:
    oids = {"common": NameOID.COMMON_NAME, "organization": NameOID.ORGANIZATION_NAME}
    return x509.Name([x509.NameAttribute(oids[key], text) for key, text in attributes.items()])


def make(
    *names: str | x509.GeneralName,
    key: Any = None,
    subject: x509.Name | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (),
    attributes: tuple[tuple[x509.ObjectIdentifier, bytes], ...] = (),
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    """A CSR in DER, the same octets in every run."""
    key = key or ec_key("Vector Leaf")
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    if names:
        builder = builder.add_extension(_names(*names), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    for oid, value in attributes:
        builder = builder.add_attribute(oid, value)
    plain = isinstance(key, ed25519.Ed25519PrivateKey)
    signed = builder.sign(
        key,
        None if plain else digest or hashes.SHA256(),
        ecdsa_deterministic=True if isinstance(key, ec.EllipticCurvePrivateKey) else None,
    )
    return signed.public_bytes(Encoding.DER)


def _good() -> list[tuple[str, str, str, bytes]]:
    other, wild = "app.example.org", "*.intra.example.com"
    return [
        ("good", "EC P-256, empty subject", NAME, make(NAME)),
        ("good-p384", "EC P-384", NAME, make(NAME, key=_curve(ec.SECP384R1()))),
        ("good-rsa-2048", "RSA of 2048 bits", NAME, make(NAME, key=_rsa(2048))),
        (
            "good-common-name",
            "a common name that is one of the names",
            NAME,
            make(NAME, subject=_subject(common=NAME)),
        ),
        (
            "good-names",
            "two names and a wildcard, in another order",
            f"{wild},{other},{NAME}",
            make(NAME, wild, other),
        ),
    ]


def _hostile() -> list[tuple[str, str, str, bytes]]:
    good, other = make(NAME), "app.example.org"
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    password = ((AttributeOID.CHALLENGE_PASSWORD, b"let me in"),)
    unstructured = ((AttributeOID.UNSTRUCTURED_NAME, b"hello"),)
    address = x509.IPAddress(ipaddress.ip_address("192.0.2.1"))
    ed = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"vector ed").digest())
    public_of_another = good.replace(_point("Vector Leaf"), _point("Vector Other Leaf"))
    return [
        ("self-signature", "one bit of the signature is another", "own key", _flip(good, -1)),
        ("self-signature-other", "the public key is another", "own key", public_of_another),
        ("signature-sha1", "signed with SHA-1", "algorithm", _rsa_sha1()),
        ("key-rsa-1024", "RSA of 1024 bits", "RSA of 1024", make(NAME, key=_rsa(1024))),
        ("key-rsa-2047", "RSA of 2047 bits", "RSA of 2047", _rsa_2047()),
        (
            "key-rsa-exponent",
            "RSA with the public exponent 257",
            "public exponent",
            make(NAME, key=_rsa(2048, 257)),
        ),
        ("key-p521", "EC P-521", "secp521r1", make(NAME, key=_curve(ec.SECP521R1()))),
        ("key-secp256k1", "EC on secp256k1", "secp256k1", make(NAME, key=_curve(ec.SECP256K1()))),
        ("key-ed25519", "Ed25519", "neither EC nor RSA", make(NAME, key=ed)),
        ("names-extra", "one name more", "which is not granted", make(NAME, other)),
        ("names-missing", "no name of those granted", "no subjectAltName", make()),
        ("names-twice", "one name twice", "twice", make(NAME, NAME)),
        ("names-capitals", "not in lower case", "which is not granted", make(NAME.upper())),
        ("names-address", "an address beside the name", "else than DNS", make(NAME, address)),
        ("names-wildcard", "the wildcard above it", "not granted", make(NAME, "*.example.com")),
        (
            "extension-constraints",
            "basicConstraints of a CA",
            "2.5.29.19",
            make(NAME, extensions=(constraints,)),
        ),
        ("extension-usage", "codeSigning", "2.5.29.37", make(NAME, extensions=(usage,))),
        ("extension-staple", "must-staple", "1.3.6.1.5.5.7.1.24", _must_staple()),
        ("attribute-password", "a password", "challenge pass", make(NAME, attributes=password)),
        ("attribute-other", "another attribute", "attributes", make(NAME, attributes=unstructured)),
        (
            "subject-other",
            "a common name that was not granted",
            "common name is none",
            make(NAME, subject=_subject(common=other)),
        ),
        (
            "subject-organization",
            "an organisation",
            "subject holds",
            make(NAME, subject=_subject(organization="Example")),
        ),
        ("empty", "nothing", "not a PKCS#10", b""),
        ("not-der", "the same in PEM", "not a PKCS#10", _pem(good)),
        ("cut", "the last octet is missing", "not a PKCS#10", good[:-1]),
        ("trailing", "an octet behind it", "not a PKCS#10", good + b"\0"),
        ("too-large", "larger than any honest one", "octets", good + bytes(MAX_CSR)),
    ]


def vectors() -> list[Vector]:
    missing = "wiki.example.net"
    return [
        *(
            Vector(name, {"expect": "success", "comment": comment, "names": names}, body)
            for name, comment, names, body in _good()
        ),
        *(
            Vector(
                name,
                {"expect": _REFUSED, "comment": comment, "says": says, "names": NAME},
                body,
            )
            for name, comment, says, body in _hostile()
        ),
        Vector(
            "names-fewer",
            {
                "expect": _REFUSED,
                "comment": "one name less",
                "says": "does not ask for",
                "names": f"{missing},{NAME}",
            },
            make(NAME),
        ),
    ]


def _flip(octets: bytes, at: int) -> bytes:
    changed = bytearray(octets)
    changed[at] ^= 1
    return bytes(changed)


def _point(label: str) -> bytes:
    numbers = ec_key(label).public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


def _must_staple() -> bytes:
    return make(NAME, extensions=(x509.TLSFeature([x509.TLSFeatureType.status_request]),))


def _rsa_sha1() -> bytes:
    """The library signs with SHA-1 no more: only the names of the algorithm are changed."""
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    return make(NAME, key=_rsa(2048)).replace(sha256, sha1)


def _rsa_2047() -> bytes:
    """The modulus of 2048 bits with its first bit taken away; who signed it does not matter."""
    p, q = (int(text, 16) for text in _PRIMES[2048])
    modulus = (p * q).to_bytes(256, "big")
    shorter = bytes([modulus[0] & 0x3F | 0x40]) + modulus[1:]
    whole = make(NAME, key=_rsa(2048))
    assert b"\0" + modulus in whole
    return _shortened(whole, modulus, shorter)


def _shortened(whole: bytes, modulus: bytes, shorter: bytes) -> bytes:
    """DER writes no leading zero before a first octet below 0x80: five lengths are one less."""
    tail = whole.replace(b"\x02\x82\x01\x01\0" + modulus, b"\x02\x82\x01\x00" + shorter)
    for before in (b"\x03\x82\x01\x0f\0\x30\x82\x01\x0a", b"\x30\x82\x01\x22"):
        tail = tail.replace(before, _one_less(before))
    outer = int.from_bytes(tail[2:4], "big")
    inner = int.from_bytes(tail[6:8], "big")
    return b"\x30\x82%b\x30\x82%b%b" % (
        (outer - 1).to_bytes(2, "big"),
        (inner - 1).to_bytes(2, "big"),
        tail[8:],
    )


def _one_less(header: bytes) -> bytes:
    """Return DER headers with every two-octet length one less."""
    parts = header.split(b"\x82")
    lowered = [parts[0]]
    for part in parts[1:]:
        lowered.append((int.from_bytes(part[:2], "big") - 1).to_bytes(2, "big") + part[2:])
    return b"\x82".join(lowered)
