"""CSRs that pullers leave, good and hostile; each hostile one breaks one rule."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from shared.contract.csr import MAX_CSR
from tests.vectors.der import ec_spki, explicit_p256, integer, point, sequence, signed, tlv
from tests.vectors.rsa_keys import rsa_key, rsa_numbers
from tests.vectors.vector import Vector
from tests.vectors.world import NAME, curve_key, ec_key

_REFUSED = "csr-refused"


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
        ("good-p384", "EC P-384", NAME, make(NAME, key=curve_key(ec.SECP384R1()))),
        ("good-rsa-2048", "RSA of 2048 bits", NAME, make(NAME, key=rsa_key(2048))),
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
    mail = x509.RFC822Name("root@example.com")
    uri = x509.UniformResourceIdentifier("https://example.com/")
    own = ec_key("Vector Leaf")
    san = _san(tlv(0x82, NAME.encode()))
    broken = sequence(_SAN_OID, tlv(4, b"\x30\x05\x82"))
    two_passwords = tlv(0x31, tlv(0x0C, b"let"), tlv(0x0C, b"me in"))
    public_of_another = good.replace(_point("Vector Leaf"), _point("Vector Other Leaf"))
    return [
        ("self-signature", "one bit of the signature is another", "own key", _flip(good, -1)),
        ("self-signature-other", "the public key is another", "own key", public_of_another),
        ("signature-sha1", "signed with SHA-1", "algorithm", _rsa_sha1()),
        ("key-rsa-1024", "RSA of 1024 bits", "RSA of 1024", make(NAME, key=rsa_key(1024))),
        ("key-rsa-2047", "RSA of 2047 bits", "RSA of 2047", _rsa_2047()),
        (
            "key-rsa-exponent",
            "RSA with the public exponent 257",
            "public exponent",
            make(NAME, key=rsa_key(2048, 257)),
        ),
        ("key-p521", "EC P-521", "secp521r1", make(NAME, key=curve_key(ec.SECP521R1()))),
        (
            "key-secp256k1",
            "EC on secp256k1",
            "secp256k1",
            make(NAME, key=curve_key(ec.SECP256K1())),
        ),
        ("key-ed25519", "Ed25519", "neither EC nor RSA", make(NAME, key=ed)),
        (
            "key-explicit-parameters",
            "P-256 by its parameters, not by its name",
            "named curve",
            _other_spki(ec_spki(point(own), explicit_p256())),
        ),
        (
            "key-compressed-point",
            "a point of which one half is left out",
            "whole point",
            _other_spki(ec_spki(point(own, PublicFormat.CompressedPoint))),
        ),
        ("names-extra", "one name more", "is not granted", make(NAME, other)),
        ("names-dot", "a dot at the end of a name", "ends with a dot", make(NAME + ".")),
        ("names-u-label", "a U-label", "is not in A-labels", _u_label()),
        ("names-mail", "an e-mail address beside the name", "the e-mail address", make(NAME, mail)),
        ("names-uri", "a URI beside the name", "the URI", make(NAME, uri)),
        ("names-unknown-kind", "a name of no kind there is", "does not parse", _unknown_kind()),
        ("extension-twice", "two lists of names", "2.5.29.17 twice", _extensions(san, san)),
        ("extension-broken", "names that are not DER", "does not parse", _extensions(broken)),
        (
            "attribute-password-two",
            "two passwords in one attribute",
            "not one value",
            _attributes(_PASSWORD, two_passwords),
        ),
        (
            "attribute-request-two",
            "one request for extensions with two values",
            "not one value",
            _attributes(_REQUEST, tlv(0x31, sequence(san), sequence(san))),
        ),
        ("version-2", "a version that does not exist", "not a PKCS#10", _version(1)),
        ("names-missing", "no name of those granted", "no subjectAltName", make()),
        ("names-twice", "one name twice", "twice", make(NAME, NAME)),
        ("names-capitals", "not in lower case", "not in lower case", make(NAME.upper())),
        (
            "names-address",
            "an address beside the name",
            "the IP address 192.0.2.1",
            make(NAME, address),
        ),
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


_PASSWORD, _REQUEST = (
    bytes.fromhex(oid) for oid in ("06092a864886f70d010907", "06092a864886f70d01090e")
)
_SAN_OID = bytes.fromhex("0603551d11")


def _san(*names: bytes) -> bytes:
    return sequence(_SAN_OID, tlv(4, sequence(*names)))


def _by_hand(attributes: bytes, *, version: int = 0, spki: bytes | None = None) -> bytes:
    """A CSR as no library would write it, with an empty subject, signed by the usual key."""
    own = ec_key("Vector Leaf")
    tbs = sequence(integer(version), sequence(), spki or ec_spki(point(own)), tlv(0xA0, attributes))
    return sequence(tbs, *signed(tbs, own))


def _attributes(kind: bytes, values: bytes) -> bytes:
    other = sequence(kind, values)
    return _by_hand(other if kind == _REQUEST else other + _usual())


def _extensions(*extensions: bytes) -> bytes:
    return _by_hand(sequence(_REQUEST, tlv(0x31, sequence(*extensions))))


def _u_label() -> bytes:
    return _extensions(_san(tlv(0x82, "bücher.example.com".encode())))


def _unknown_kind() -> bytes:
    return _extensions(_san(tlv(0x82, NAME.encode()), tlv(0x8F, b"x")))


def _usual() -> bytes:
    return sequence(_REQUEST, tlv(0x31, sequence(_san(tlv(0x82, NAME.encode())))))


def _version(number: int) -> bytes:
    return _by_hand(_usual(), version=number)


def _other_spki(spki: bytes) -> bytes:
    return _by_hand(_usual(), spki=spki)


def _must_staple() -> bytes:
    return make(NAME, extensions=(x509.TLSFeature([x509.TLSFeatureType.status_request]),))


def _rsa_sha1() -> bytes:
    """The library signs with SHA-1 no more: only the names of the algorithm are changed."""
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    return make(NAME, key=rsa_key(2048)).replace(sha256, sha1)


def _rsa_2047() -> bytes:
    """The modulus of 2048 bits with its first bit taken away; who signed it does not matter."""
    modulus = rsa_numbers(2048).public_numbers.n.to_bytes(256, "big")
    shorter = bytes([modulus[0] & 0x3F | 0x40]) + modulus[1:]
    whole = make(NAME, key=rsa_key(2048))
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
