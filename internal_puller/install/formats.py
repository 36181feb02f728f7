"""The files that servers read, made from one chain and one key."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from internal_puller.install.layout import RECORD
from shared.contract.errors import ConfigurationError
from shared.host.trusted_file import PUBLIC, read_trusted

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from internal_puller.install.material import Material

FILE_NAMES: Final = {
    "fullchain": "fullchain.pem",
    "chain": "chain.pem",
    "cert": "cert.pem",
    "privkey": "privkey.pem",
    "combined": "combined.pem",
    "pkcs12": "bundle.p12",
}


OWN_COPY: Final = "own.pem"
"""Key and chain for us, where the other files are given to an account that hides them."""
_SECRET: Final = frozenset(FILE_NAMES[one] for one in ("privkey", "combined", "pkcs12"))


def is_secret(file_name: str) -> bool:
    """Tell whether a file of a generation holds the private key."""
    return file_name in _SECRET


@dataclass(frozen=True)
class FileContent:
    """Bytes of one file, whether they hold the private key, and whether it is for us alone."""

    content: bytes = field(repr=False)
    secret: bool
    own: bool = False


def render(
    material: Material,
    formats: tuple[str, ...],
    password: bytes | None,
    *,
    given_away: bool = False,
) -> dict[str, FileContent]:
    """Return the asked files by name, and the record ``generation.json``.

    Args:
        material: chain and key, matching.
        formats: names out of ``FILE_NAMES``.
        password: for PKCS#12.
        given_away: another account owns them, so a copy is for us.

    Raises:
        ConfigurationError: PKCS#12 without a password.
    """
    certificates = [certificate.public_bytes(Encoding.PEM) for certificate in material.chain]
    key = material.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    combined = key + b"".join(certificates)
    files = {RECORD: FileContent(_record(material), secret=False, own=True)}
    if given_away:
        copy = combined + _mark_of(password if "pkcs12" in formats else None)
        files[OWN_COPY] = FileContent(copy, secret=True, own=True)
    for name in formats:
        content = {
            "fullchain": b"".join(certificates),
            "chain": b"".join(certificates[1:]),
            "cert": certificates[0],
            "privkey": key,
            # The key first: Postfix insists on it, the others do not mind.
            "combined": combined,
        }.get(name)
        if content is None:
            content = _pkcs12(material, password)
        files[FILE_NAMES[name]] = FileContent(content, is_secret(FILE_NAMES[name]))
    return files


def _mark_of(password: bytes | None) -> bytes:
    """Tell passwords of bundle.p12 apart, beside the key that they protect."""
    digest = "" if password is None else hashlib.sha256(password).hexdigest()
    return f"# password of bundle.p12: SHA-256 {digest}\n".encode() if digest else b""


def _record(material: Material) -> bytes:
    record = {
        "certificate": material.certificate,
        "generation": material.generation,
        "leaf_sha256": material.leaf_sha256,
        "manifest_digest": material.manifest_digest,
        "not_after": material.not_after,
        "not_before": material.not_before,
    }
    return json.dumps(record, indent=2, sort_keys=True).encode() + b"\n"


def _pkcs12(material: Material, password: bytes | None) -> bytes:
    if not password:
        raise ConfigurationError(f"{material.certificate}: bundle.p12 needs a password file.")
    leaf, *rest = material.chain
    return pkcs12.serialize_key_and_certificates(
        material.certificate.encode(),
        material.private_key,
        leaf,
        rest,
        BestAvailableEncryption(password),
    )


def same_content(name: str, found: bytes, wanted: bytes, password: bytes | None) -> bool:
    """Tell whether a file on disk holds what it would be written with (PKCS#12 is salted)."""
    if name != FILE_NAMES["pkcs12"]:
        return hmac.compare_digest(found, wanted)
    return pkcs12_parts(found, password) == pkcs12_parts(wanted, password)


def pkcs12_parts(
    content: bytes, password: bytes | None
) -> tuple[bytes, tuple[x509.Certificate, ...]] | None:
    """Return (SPKI of the key, chain) of a PKCS#12 file; None if it cannot be opened."""
    opened = _open_pkcs12(content, password)
    if opened is None:
        return None
    key, chain = opened
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki, chain


def pkcs12_as_pem(content: bytes, password: bytes | None) -> tuple[bytes, bytes] | None:
    """Return (chain, key) of a PKCS#12 file in PEM; None if it cannot be opened."""
    opened = _open_pkcs12(content, password)
    if opened is None:
        return None
    key, chain = opened
    return (
        b"".join(one.public_bytes(Encoding.PEM) for one in chain),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _open_pkcs12(
    content: bytes, password: bytes | None
) -> tuple[PrivateKeyTypes, tuple[x509.Certificate, ...]] | None:
    try:
        store = pkcs12.load_pkcs12(content, password)
    except ValueError:
        return None
    if store.key is None or store.cert is None:
        return None
    return store.key, tuple(entry.certificate for entry in (store.cert, *store.additional_certs))


_OTHERS = 0o007  # a group may share a password; everybody may not


def read_password(path: Path | None) -> bytes | None:
    """Return the first line of a password file that nobody else may read.

    Raises:
        ConfigurationError: it cannot be read, is empty, no text, or open to others.
    """
    if path is None:
        return None
    content = read_trusted(path, "password file", mask=_OTHERS | PUBLIC)
    line = content.partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise ConfigurationError(f"{path} has no password in its first line.")
    try:
        line.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"The password in {path} is no UTF-8 text.") from None
    return line
