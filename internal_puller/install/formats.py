"""The files that servers read, made from one chain and one key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from internal_puller.install.layout import RECORD
from internal_puller.settings.presets.preset import LEAF_FIRST
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
    "cert-der": "cert.der",
    "privkey-der": "privkey.der",
}
OWN_COPY: Final = "own.pem"
"""Key and chain for us, where the other files are given to an account that hides them."""
_SECRET: Final = frozenset(
    FILE_NAMES[one] for one in ("privkey", "combined", "pkcs12", "privkey-der")
)


def is_secret(file_name: str) -> bool:
    """Tell whether a file of a generation holds the private key."""
    return file_name in _SECRET


@dataclass(frozen=True)
class FileContent:
    """Bytes of one file, whether they hold the private key, and whether it is for us alone."""

    content: bytes = field(repr=False)
    secret: bool
    own: bool = False


@dataclass(frozen=True)
class Rendering:
    """Which files a target gets, and how those are written that can be written in several ways.

    Args:
        formats: names out of ``FILE_NAMES``.
        password: for PKCS#12.
        pkcs12_algorithms: ``modern`` (PBES2 of RFC 8018 with AES-256; HMAC-SHA-256) or ``legacy``
            (3DES and SHA-1 of RFC 7292, appendix C).
        combined: what ``combined.pem`` holds, in its order.
        given_away: another account owns the files, so a copy is for us.
    """

    formats: tuple[str, ...]
    password: bytes | None = field(default=None, repr=False)
    pkcs12_algorithms: str = "modern"
    combined: tuple[str, ...] = LEAF_FIRST
    given_away: bool = False


def render(material: Material, wanted: Rendering) -> dict[str, FileContent]:
    """Return the asked files by name, and the record ``generation.json``.

    Every text has LF line endings, one at its end. DER is a certificate of RFC 5280 and a
    private key as PKCS#8 of RFC 5208 (version 0 of RFC 5958), which PEM holds in base64.

    Args:
        material: chain and key, matching.

    Raises:
        ConfigurationError: PKCS#12 without a password.
    """
    certificates = [certificate.public_bytes(Encoding.PEM) for certificate in material.chain]
    key = _key_as(material.private_key, Encoding.PEM)
    files = {RECORD: FileContent(_record(material), secret=False, own=True)}
    if wanted.given_away:
        copy = b"".join((key, *certificates, _mark_of(wanted)))
        files[OWN_COPY] = FileContent(copy, secret=True, own=True)
    texts = {"fullchain": b"".join(certificates), "privkey": key}
    contents = {
        "fullchain": lambda: texts["fullchain"],
        "chain": lambda: b"".join(certificates[1:]),
        "cert": lambda: certificates[0],
        "privkey": lambda: key,
        "combined": lambda: b"".join(texts[part] for part in wanted.combined),
        "pkcs12": lambda: _pkcs12(material, wanted),
        "cert-der": lambda: material.chain[0].public_bytes(Encoding.DER),
        "privkey-der": lambda: _key_as(material.private_key, Encoding.DER),
    }
    for name in wanted.formats:
        file_name = FILE_NAMES[name]
        files[file_name] = FileContent(contents[name](), is_secret(file_name))
    return files


def _key_as(key: PrivateKeyTypes, encoding: Encoding) -> bytes:
    return key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())


def _mark_of(wanted: Rendering) -> bytes:
    """Tell apart, beside the key, how files were written that we cannot read ourselves."""
    marks = []
    if "combined" in wanted.formats:
        marks.append(f"# combined.pem: {' '.join(wanted.combined)}\n")
    if "pkcs12" in wanted.formats and wanted.password is not None:
        digest = hashlib.sha256(wanted.password).hexdigest()
        marks.append(f"# bundle.p12: {wanted.pkcs12_algorithms}, SHA-256 of password {digest}\n")
    return "".join(marks).encode()


def _record(material: Material) -> bytes:
    record = {
        "certificate": material.certificate,
        "certificates": len(material.chain),
        "generation": material.generation,
        "key_kind": material.key_kind,
        "leaf_sha256": material.leaf_sha256,
        "manifest_digest": material.manifest_digest,
        "not_after": material.not_after,
        "not_before": material.not_before,
    }
    return json.dumps(record, indent=2, sort_keys=True).encode() + b"\n"


def _pkcs12(material: Material, wanted: Rendering) -> bytes:
    if not wanted.password:
        raise ConfigurationError(f"{material.certificate}: bundle.p12 needs a password file.")
    leaf, *rest = material.chain
    return pkcs12.serialize_key_and_certificates(
        material.certificate.encode(),
        material.private_key,
        leaf,
        rest,
        _encryption(wanted.pkcs12_algorithms, wanted.password),
    )


def _encryption(algorithms: str, password: bytes) -> KeySerializationEncryption:
    builder = PrivateFormat.PKCS12.encryption_builder()
    if algorithms == "legacy":
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        builder = builder.hmac_hash(hashes.SHA1())  # noqa: S303 - what old readers know
    else:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        builder = builder.hmac_hash(hashes.SHA256())
    return builder.build(password)


_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13, RFC 8018


def same_content(name: str, found: bytes, wanted: bytes, password: bytes | None) -> bool:
    """Tell whether a file on disk is what it would be written as (PKCS#12 is salted)."""
    if name == FILE_NAMES["pkcs12"]:
        return (_PBES2 in found) == (_PBES2 in wanted) and agrees(name, found, wanted, password)
    return hmac.compare_digest(found, wanted)


def agrees(name: str, found: bytes, wanted: bytes, password: bytes | None) -> bool:
    """Tell whether two files hold the same key and certificates, in whatever way written."""
    if name == FILE_NAMES["pkcs12"]:
        return pkcs12_parts(found, password) == pkcs12_parts(wanted, password)
    if name == FILE_NAMES["combined"]:
        return split_pem(found) == split_pem(wanted)
    return hmac.compare_digest(found, wanted)


_PEM: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.+?\r?\n-----END \1-----\n?", re.DOTALL
)


def split_pem(content: bytes) -> tuple[bytes, bytes]:
    """Return (certificates, everything else) of a PEM text, each in its order."""
    blocks = [(found[1] == b"CERTIFICATE", found[0]) for found in _PEM.finditer(content)]
    return (
        b"".join(block for is_certificate, block in blocks if is_certificate),
        b"".join(block for is_certificate, block in blocks if not is_certificate),
    )


def as_pem(label: str, der: bytes) -> bytes:
    """Return DER as PEM (RFC 7468), whatever it holds: ``label`` such as ``CERTIFICATE``."""
    body = base64.b64encode(der).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


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
        _key_as(key, Encoding.PEM),
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
