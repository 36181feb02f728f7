"""Facts out of a certificate's DER, however odd the rest of it is (RFC 5280 section 4.1).

A listener may show anything: what a strict parser would refuse has been seen all the same.
"""

from __future__ import annotations

import time
from calendar import timegm
from typing import TYPE_CHECKING, Final

from shared.contract.plain_text import one_line

if TYPE_CHECKING:
    from cryptography import x509

_MOST_NAMES: Final = 3
_LONGEST: Final = 200
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_RSA: Final = bytes.fromhex("2a864886f70d0101")  # rsaEncryption, and RSASSA-PSS
_EC: Final = bytes.fromhex("2a8648ce3d0201")


def element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return tag, content and what follows (X.690 section 8.1)."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    if len(data) < start + length:
        raise ValueError("it ends too early")
    return data[0], data[start : start + length], data[start + length :]


def _to_be_signed(der: bytes) -> list[tuple[int, bytes]]:
    """Return the members of the TBSCertificate from ``validity`` on."""
    _, certificate, _ = element(der)
    _, rest, _ = element(certificate)
    members = []
    while rest:
        tag, content, rest = element(rest)
        members.append((tag, content))
    return members[4 if members[0][0] == _VERSION else 3 :]


def not_after(der: bytes) -> int | None:
    """Return until when it is valid, in unix seconds; ``None`` if that cannot be read."""
    try:
        (_, validity), *_ = _to_be_signed(der)
        _, _, rest = element(validity)
        tag, content, _ = element(rest)
        text = content.decode("ascii")
        if tag == _UTC_TIME:  # section 4.1.2.5.1: 50 and later are of the last century
            text = ("19" if text[:2] >= "50" else "20") + text
        return timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))
    except (ValueError, IndexError):
        return None


def key_kind(der: bytes) -> str | None:
    """Return ``"rsa"`` or ``"ecdsa"``, and ``None`` for a key of another kind."""
    try:
        _, _, (_, key), *_ = _to_be_signed(der)
        _, algorithm, _ = element(key)
        _, identifier, _ = element(algorithm)
    except (ValueError, IndexError):
        return None
    if identifier == _EC:
        return "ecdsa"
    return "rsa" if identifier.startswith(_RSA) else None


def whose(der: bytes) -> str:
    """Return its DNS names, some of them where there are many; else its subject; or nothing.

    For a message: a plain line, whatever stands in the certificate.
    """
    from cryptography import x509

    try:
        leaf = x509.load_der_x509_certificate(der)
        names = _names(leaf) or [leaf.subject.rfc4514_string()]
    except ValueError:
        return ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return one_line(", ".join(names[:_MOST_NAMES]))[:_LONGEST] + more


def _names(leaf: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)
