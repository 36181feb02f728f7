"""Looks for a secret in any octets, in every form in which programs keep and print one.

A needle is half of a secret, so a copy that is partly overwritten is found, and so is one with a
line break in it: the lines of PEM and of base64 are longer than a half.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.contract.key_policy import PrivateKey

_DIGIT = 30  # bits in a digit of a Python integer
_PAGE = 4096
_OPENSSL_LINE = 15  # octets in a line of `openssl pkey -text`


@dataclass(frozen=True)
class Secret:
    """What must not be found: its name in messages, and its octets in each notation."""

    name: str
    needles: Mapping[str, bytes]


def secret(name: str, octets: bytes) -> Secret:
    """Return the needles for `octets`, such as a scalar (big-endian) or a seed."""
    middle = len(octets) // 2
    needles: dict[str, bytes] = {}
    for half, part in (("first", octets[:middle]), ("second", octets[middle:])):
        for notation, needle in _notations(part):
            needles[f"{half} half, {notation}"] = needle
    for half, needle in _python_integer(int.from_bytes(octets, "big")):
        needles[f"{half} half, Python integer"] = needle
    needles["a line of OpenSSL's text"] = binascii.hexlify(octets[:_OPENSSL_LINE], ":")
    needles["decimal"] = str(int.from_bytes(octets, "big")).encode()
    return Secret(name, needles)


def private_key(name: str, pem: bytes) -> Secret:
    """Return the needles for the scalar of an EC key in PEM."""
    key = load_pem_private_key(pem, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    (found,) = secrets_of(name, key)
    return found


def scalar(key: EllipticCurvePrivateKey) -> bytes:
    """Return the secret number of an EC key, big-endian, as long as its curve says."""
    return key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")


def secrets_of(name: str, key: PrivateKey) -> list[Secret]:
    """Return what tells a key: the scalar of an EC key, the beginnings of both primes of RSA."""
    if isinstance(key, EllipticCurvePrivateKey):
        return [secret(name, scalar(key))]
    primes = key.private_numbers()
    size = key.key_size // 16
    return [
        secret(f"{name}, prime {which}", prime.to_bytes(size, "big")[:32])
        for which, prime in (("p", primes.p), ("q", primes.q))
    ]


def leaks(directory: Path, keys: Iterable[PrivateKey]) -> list[str]:
    """Return where a key, or the mark of any unencrypted one, stands below `directory`."""
    secrets = [one for number, key in enumerate(keys) for one in secrets_of(f"key {number}", key)]
    mark = Secret("any key", {"PEM": b"PRIVATE KEY-----"})
    return find_in_files([directory], [*secrets, mark])


def find(haystack: bytes, secrets: Iterable[Secret]) -> list[str]:
    """Return which secrets are in `haystack`, and in what notation."""
    return [
        f"{one.name}: {notation}"
        for one in secrets
        for notation, needle in one.needles.items()
        if needle in haystack
    ]


def find_in_files(
    paths: Iterable[Path], secrets: Iterable[Secret], *, besides: Iterable[Path] = ()
) -> list[str]:
    """Return what :func:`find` says of each file below `paths`, with the file's name in front."""
    wanted, passed_over = list(secrets), {path.resolve() for path in besides}
    return [
        f"{path}: {found}"
        for path in _files(paths)
        if path.resolve() not in passed_over
        for found in find(without_empty_pages(path.read_bytes()), wanted)
    ]


def without_empty_pages(octets: bytes) -> bytes:
    """Return `octets` without the pages of a core that hold nothing, which are most of it."""
    if len(octets) < 256 * _PAGE:
        return octets
    pages = (octets[at : at + _PAGE] for at in range(0, len(octets), _PAGE))
    empty = bytes(_PAGE)
    return b"".join(page for page in pages if page != empty)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            for directory, _, names in os.walk(path):
                yield from (Path(directory, name) for name in sorted(names))
        else:
            yield path


def _notations(part: bytes) -> Iterator[tuple[str, bytes]]:
    yield "big-endian", part
    yield "little-endian", part[::-1]
    yield "hex", binascii.hexlify(part)
    yield "upper-case hex", binascii.hexlify(part).upper()
    yield "hex with colons", binascii.hexlify(part, ":")
    for offset in range(3):
        text = _base64_at(part, offset)
        yield f"base64 at {offset}", text
        yield f"base64url at {offset}", text.translate(bytes.maketrans(b"+/", b"-_"))


def _base64_at(part: bytes, offset: int) -> bytes:
    """The characters that say `part` and nothing else when it stands at `offset` modulo 3."""
    text = base64.b64encode(b"\0" * offset + part)
    first = -(-offset * 8 // 6)
    return text[first : (offset + len(part)) * 8 // 6]


def _python_integer(number: int) -> Iterator[tuple[str, bytes]]:
    digits = []
    while number >> _DIGIT:  # the last digit is not full and says little
        digits.append(number & ((1 << _DIGIT) - 1))
        number >>= _DIGIT
    middle = len(digits) // 2
    for half, some in (("first", digits[:middle]), ("second", digits[middle:])):
        yield half, struct.pack(f"<{len(some)}I", *some)
