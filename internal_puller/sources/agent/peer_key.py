"""The public key of a TLS peer, read from its certificate without an X.509 library.

The quiet path of ``pull`` compares one hash; importing a whole parser for it would cost more than
all the rest. Strict DER (X.690): definite, minimal lengths, nothing left over.
"""

from __future__ import annotations

import hashlib

_SEQUENCE = 0x30
_INTEGER = 0x02
_VERSION = 0xA0


class NotACertificate(ValueError):
    """The octets are not a certificate as far as it was looked at."""


def spki_sha256(certificate: bytes) -> str:
    """Return the hex SHA-256 of the SubjectPublicKeyInfo (RFC 5280 section 4.1).

    Raises:
        NotACertificate: not DER of the expected shape.
    """
    body, end = _content(certificate, 0, _SEQUENCE)
    if end != len(certificate):
        raise NotACertificate("octets after the certificate")
    position, end = _content(certificate, body, _SEQUENCE)  # tbsCertificate
    if certificate[position : position + 1] == bytes((_VERSION,)):
        position = _content(certificate, position, _VERSION)[1]
    position = _content(certificate, position, _INTEGER)[1]  # serialNumber
    for _ in ("signature", "issuer", "validity", "subject"):
        position = _content(certificate, position, _SEQUENCE)[1]
    stop = _content(certificate, position, _SEQUENCE)[1]
    if stop > end:
        raise NotACertificate("a field reaches beyond its parent")
    return hashlib.sha256(certificate[position:stop]).hexdigest()


def _content(data: bytes, position: int, tag: int) -> tuple[int, int]:
    """Return (start, end) of the content of the element with ``tag`` at ``position``."""
    header = data[position : position + 2]
    if len(header) < 2 or header[0] != tag:
        raise NotACertificate(f"no element with tag {tag:#04x} at octet {position}")
    start, length = position + 2, header[1]
    if length >= 0x80:
        count = length & 0x7F
        octets = data[start : start + count]
        length = int.from_bytes(octets, "big")
        if not 1 <= count <= 3 or len(octets) != count or not octets[0] or length < 0x80:
            raise NotACertificate(f"a length that is not DER at octet {position}")
        start += count
    if start + length > len(data):
        raise NotACertificate(f"an element that is cut at octet {position}")
    return start, start + length
