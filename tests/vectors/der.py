"""DER by hand: private keys and certificates that no library would write."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_EC, _RSA = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06092a864886f70d010101")
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NAMED_P256 = bytes.fromhex("06082a8648ce3d030107")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_RSA_SHA1 = bytes.fromhex("300d06092a864886f70d0101050500")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_SHA1_INFO = bytes.fromhex("3021300906052b0e03021a05000414")


def tlv(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def sequence(*content: bytes) -> bytes:
    return tlv(0x30, *content)


def integer(number: int) -> bytes:
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def explicit_p256() -> bytes:
    """ECParameters of P-256 spelled out (SEC 1, C.2) where its name belongs."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    base = point(ec.derive_private_key(1, ec.SECP256R1()))
    return sequence(
        integer(1),
        sequence(bytes.fromhex("06072a8648ce3d0101"), integer(prime)),
        sequence(*(tlv(4, number.to_bytes(32, "big")) for number in (prime - 3, b))),
        tlv(4, base),
        integer(P256_ORDER),
        integer(1),
    )


def point(key: ec.EllipticCurvePrivateKey, form: PublicFormat | None = None) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, form or PublicFormat.UncompressedPoint)


def ec_private(
    scalar: int,
    public: bytes | None,
    *,
    curve: bytes = NAMED_P256,
    size: int = 32,
    version: int = 0,
    parameters: bool = False,
    attributes: bool = False,
) -> bytes:
    """PKCS#8 of an EC key of any scalar, public half and parameters.

    Args:
        parameters: whether the curve is named within the key, too (RFC 5915).
        attributes: whether some follow the key (RFC 5208): a friendly name.
    """
    half = [] if public is None else [tlv(0xA1, tlv(3, b"\0", public))]
    again = [tlv(0xA0, curve)] if parameters else []
    key = sequence(integer(1), tlv(4, scalar.to_bytes(size, "big")), *again, *half)
    name = sequence(bytes.fromhex("06092a864886f70d010914"), tlv(0x31, tlv(0x1E, b"\0k")))
    behind = [tlv(0xA0, name)] if attributes else []
    return sequence(integer(version), sequence(_EC, curve), tlv(4, key), *behind)


def rsa_private(numbers: rsa.RSAPrivateNumbers, **changes: int) -> bytes:
    """PKCS#8 of an RSA key with some of its numbers changed."""
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    values = {"n": n, "e": e, "d": numbers.d, "p": numbers.p, "q": numbers.q}
    values |= {"dmp1": numbers.dmp1, "dmq1": numbers.dmq1, "iqmp": numbers.iqmp} | changes
    key = sequence(integer(0), *map(integer, values.values()))
    return sequence(integer(0), sequence(_RSA, tlv(5)), tlv(4, key))


def ec_spki(public: bytes, curve: bytes = NAMED_P256) -> bytes:
    return sequence(sequence(_EC, curve), tlv(3, b"\0", public))


def with_spki(
    certificate: x509.Certificate, spki: bytes, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """The same certificate with its public key written otherwise, signed again (ECDSA, SHA-256)."""
    usual = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tbs = sequence(_content(certificate.tbs_certificate_bytes).replace(usual, spki))
    return x509.load_der_x509_certificate(sequence(tbs, *signed(tbs, signer)))


def signed(tbs: bytes, signer: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """What follows the signed part of a certificate or CSR: algorithm and signature."""
    how = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return _ECDSA_SHA256, tlv(3, b"\0", signer.sign(tbs, how))


def with_sha1(certificate: x509.Certificate, signer: rsa.RSAPrivateKey) -> x509.Certificate:
    """The same certificate signed with RSA on SHA-1 (RFC 8017 9.2), which libraries do no more."""
    tbs = certificate.tbs_certificate_bytes.replace(_RSA_SHA256, _RSA_SHA1)
    info = _SHA1_INFO + hashlib.sha1(tbs).digest()
    size = signer.key_size // 8
    padded = b"\0\1" + b"\xff" * (size - 3 - len(info)) + b"\0" + info
    numbers = signer.private_numbers()
    signed = pow(int.from_bytes(padded, "big"), numbers.d, numbers.public_numbers.n)
    return x509.load_der_x509_certificate(
        sequence(tbs, _RSA_SHA1, tlv(3, b"\0", signed.to_bytes(size, "big")))
    )


def _content(element: bytes) -> bytes:
    """What is in a SEQUENCE of 256 to 65,535 octets."""
    return element[4:]
