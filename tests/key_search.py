"""Looks for a private key in files, in every form that a careless program may leave one."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.x509 import PrivateKey


def forms_of(key: PrivateKey) -> dict[str, bytes]:
    """Return what to look for: raw numbers, DER, PEM bodies, base64 at any alignment, hex."""
    found: dict[str, bytes] = {}
    for name, secret in _secrets(key):
        found[name] = secret
        found[f"{name} in hex"] = secret.hex().encode()
        found[f"{name} in HEX"] = secret.hex().upper().encode()
        for shift in range(3):
            # Leave out the first and last characters: they depend on what stands beside.
            body = base64.b64encode(bytes(shift) + secret)[4:-4]
            found[f"{name} in base64, shifted {shift}"] = body
            found[f"{name} in base64url, shifted {shift}"] = body.translate(
                bytes.maketrans(b"+/", b"-_")
            )
    for style in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        pem = key.private_bytes(Encoding.PEM, style, NoEncryption())
        for number, line in enumerate(_secret_lines(pem, [one for _, one in _secrets(key)])):
            found[f"{style} PEM line {number}"] = line
    return found


def _secret_lines(pem: bytes, secrets: list[bytes]) -> Iterator[bytes]:
    """Yield the whole lines that hold at least 16 octets of a secret; others are public."""
    lines = pem.splitlines()[1:-1]
    der = base64.b64decode(b"".join(lines))
    spans = [(at, at + len(one)) for one in secrets if (at := der.find(one)) > 0]
    for number, line in enumerate(lines):
        begin, end = 48 * number, 48 * number + 48
        if len(line) == 64 and any(min(end, b) - max(begin, a) >= 16 for a, b in spans):
            yield line


def _secrets(key: PrivateKey) -> Iterator[tuple[str, bytes]]:
    yield "PKCS#8", key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = key.private_numbers()
        yield "scalar", numbers.private_value.to_bytes((key.key_size + 7) // 8, "big")
        yield (
            "scalar, little end first",
            numbers.private_value.to_bytes((key.key_size + 7) // 8, "little"),
        )
    else:
        primes = key.private_numbers()
        yield "prime p", primes.p.to_bytes((primes.p.bit_length() + 7) // 8, "big")
        yield "prime q", primes.q.to_bytes((primes.q.bit_length() + 7) // 8, "big")


def leaks(directory: Path, keys: list[PrivateKey]) -> list[str]:
    """Return where a key, or the mark of any unencrypted one, was found below ``directory``."""
    wanted = {
        form: f"key {n}: {name}"
        for n, key in enumerate(keys)
        for name, form in forms_of(key).items()
    }
    wanted[b"PRIVATE KEY-----"] = "a PEM private key"
    found = []
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += [f"{path.name}: {name}" for form, name in wanted.items() if form in data]
    return found
