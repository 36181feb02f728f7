"""Facts out of a certificate's DER, however odd the rest of it is (RFC 5280 section 4.1).

A listener may show anything: what a strict parser would refuse has been seen all the same.
"""

from __future__ import annotations

import time
from calendar import timegm
from typing import Final

from shared.contract.plain_text import one_line

_MOST_NAMES: Final = 3
_ALT_NAMES: Final = bytes.fromhex("0603551d11")  # subjectAltName, RFC 5280 section 4.2.1.6
_OCTETS, _DNS_NAME = 0x04, 0x82
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
    """Return its DNS names for a message, some of them where there are many; empty if none."""
    try:
        names = _dns_names(der)
    except (ValueError, IndexError):
        return ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return one_line(", ".join(names[:_MOST_NAMES])) + more


def _dns_names(der: bytes) -> list[str]:
    _, _, rest = der.partition(_ALT_NAMES)
    if not rest:
        return []
    tag, content, rest = element(rest)
    if tag != _OCTETS:  # it is critical: a BOOLEAN stands before
        _, content, _ = element(rest)
    _, general_names, _ = element(content)
    names = []
    while general_names:
        tag, content, general_names = element(general_names)
        if tag == _DNS_NAME:
            names.append(content.decode("ascii"))
    return names
