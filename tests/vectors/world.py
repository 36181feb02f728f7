"""The fixed keys, certificates and moments from which every vector is made, bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from nacl.bindings import crypto_box
from nacl.hash import blake2b
from nacl.public import PrivateKey

from shared.contract import strict_json
from shared.contract.bundle import PAYLOAD_TYPE, Manifest
from shared.contract.key_policy import key_to_der
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import SigningKey
from shared.contract.x509 import chain_to_pem, spki_sha256

NOW = 1_800_000_000
DAY = 86_400
NAME = "www.intra.example.com"
GENERATION = NOW - 100

AGENT = SigningKey(hashlib.sha256(b"vector agent").digest())
OTHER_AGENT = SigningKey(hashlib.sha256(b"vector other agent").digest())
IDENTITY = Identity(hashlib.sha256(b"vector puller").digest())
OTHER_IDENTITY = Identity(hashlib.sha256(b"vector other puller").digest())
PULLER = SigningKey(hashlib.sha256(b"vector puller signing").digest())
TOKEN_KEY = SigningKey(hashlib.sha256(b"vector token").digest())


@cache
def ec_key(label: str) -> ec.EllipticCurvePrivateKey:
    """An EC P-256 key that is the same in every run."""
    secret = int.from_bytes(hashlib.sha256(label.encode()).digest()) % (2**255)
    return ec.derive_private_key(secret, ec.SECP256R1())


def curve_key(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """A key on any curve that is the same in every run."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(b"vector csr").digest()) >> 1, curve)


def serial(label: str) -> int:
    return int.from_bytes(hashlib.sha256(b"serial " + label.encode()).digest()[:16]) >> 1


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_USUAL = frozenset(
    (
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.SubjectAlternativeName.oid,
        x509.ExtendedKeyUsage.oid,
    )
)
_KEY_USAGES = (
    "digital_signature content_commitment key_encipherment data_encipherment "
    "key_agreement key_cert_sign crl_sign encipher_only decipher_only"
)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) if text else x509.Name([])


def _key(key: str | Key) -> Key:
    return ec_key(key) if isinstance(key, str) else key


def certificate(
    subject: str,
    issuer: str,
    *,
    ca: bool,
    key: str | Key = "",
    signed_by: str | Key = "",
    identified_by: str | Key = "",
    sans: tuple[x509.GeneralName, ...] = (),
    begin: int = NOW - DAY,
    end: int = NOW + 44 * DAY,
    usage: x509.ObjectIdentifier | None = None,
    bits: tuple[str, ...] = (),
    path_length: int | None = None,
    without: tuple[type[x509.ExtensionType], ...] = (),
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    digest: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    """A certificate whose keys are named after its subject and its issuer, unless others are given.

    Args:
        identified_by: the key that the authority key identifier is of.
        bits: of keyUsage, instead of the usual ones.
        without: extensions to leave out.
        extensions: more of them, or one instead of a usual one, each with whether it is critical.
    """
    own, signer = _key(key or subject), _key(signed_by or issuer)
    above = _key(identified_by or issuer)
    usual = ("key_cert_sign", "crl_sign") if ca else ("digital_signature",)
    usage_bits = {bit: bit in (bits or usual) for bit in _KEY_USAGES.split()}
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject if ca else ""))
        .issuer_name(_name(issuer))
        .public_key(own.public_key())
        .serial_number(serial(subject + issuer))
        .not_valid_before(datetime.fromtimestamp(begin, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
    )
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=ca, path_length=path_length), True),
        (x509.KeyUsage(**usage_bits), True),
        (x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False),
    ]
    if sans:
        found.append((x509.SubjectAlternativeName(sans), True))
    if usage:
        found.append((x509.ExtendedKeyUsage([usage]), False))
    replaced = without + tuple(type(one) for one, _ in extensions if one.oid in _USUAL)
    for extension, critical in [one for one in found if not isinstance(one[0], replaced)]:
        builder = builder.add_extension(extension, critical=critical)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return builder.sign(signer, None)
    deterministic = True if isinstance(signer, ec.EllipticCurvePrivateKey) else None
    return builder.sign(signer, digest or hashes.SHA256(), ecdsa_deterministic=deterministic)


YEAR = 365 * DAY
ROOT = certificate("Vector Root", "Vector Root", ca=True, begin=NOW - YEAR, end=NOW + 20 * YEAR)
INTERMEDIATE = certificate(
    "Vector Intermediate", "Vector Root", ca=True, begin=NOW - YEAR, end=NOW + 10 * YEAR
)


def leaf(*names: str, **changes: Any) -> x509.Certificate:
    sans = tuple(x509.DNSName(name) for name in names or (NAME,))
    return certificate(
        changes.pop("subject", "Vector Leaf"),
        changes.pop("issuer", "Vector Intermediate"),
        ca=False,
        **({"sans": sans, "usage": ExtendedKeyUsageOID.SERVER_AUTH} | changes),
    )


def intermediate(**changes: Any) -> x509.Certificate:
    """One instead of the usual :data:`INTERMEDIATE`."""
    span = {"begin": NOW - YEAR, "end": NOW + 10 * YEAR}
    return certificate("Vector Intermediate", "Vector Root", ca=True, **(span | changes))


def seal(key_der: bytes, to: Identity, context: SealContext) -> bytes:
    """``crypto_box_seal`` with an ephemeral key that is the same in every run."""
    ephemeral = PrivateKey(hashlib.sha256(b"vector ephemeral").digest())
    public = bytes(ephemeral.public_key)
    nonce = blake2b(public + to.recipient.public, digest_size=24, encoder=_Raw)
    return public + crypto_box(
        context.digest() + key_der, nonce, to.recipient.public, bytes(ephemeral)
    )


class _Raw:
    encode = staticmethod(bytes)
    decode = staticmethod(bytes)


def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"vector ed").digest())


def pkcs8(key: Key) -> bytes:
    """Any key as PKCS#8 DER, allowed or not."""
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True)
class Bundle:
    """A good bundle and the ways in which it can be made bad; each field is one thing to change."""

    chain: tuple[x509.Certificate, ...] = field(default_factory=lambda: (leaf(), INTERMEDIATE))
    chain_pem: str | None = None
    members: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    key_der: bytes | None = None
    sealed_to: Identity = IDENTITY
    signer: SigningKey = AGENT

    def payload_members(self) -> dict[str, Any]:
        first = self.chain[0]
        names = sorted(
            str(name.value)
            for name in first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
        manifest = Manifest(
            agent=AGENT.id,
            recipient=IDENTITY.id,
            certificate=NAME,
            names=tuple(names),
            generation=GENERATION,
            issued_at=NOW - 90,
            not_after=int(first.not_valid_after_utc.timestamp()),
            key_origin="agent",
            spki_sha256=spki_sha256(first),
            chain=chain_to_pem(self.chain) if self.chain_pem is None else self.chain_pem,
            sealed_key=b"",
        )
        members: dict[str, Any] = strict_json.json.loads(manifest.encode()) | self.members
        context = SealContext(
            **{
                "agent": AGENT.id,
                "recipient": IDENTITY.id,
                "generation": members["generation"],
                "spki_sha256": spki_sha256(first),
                "certificate": members["certificate"],
                **self.context,
            }
            if type(members.get("generation")) is int and 0 <= members["generation"] < 2**53
            else {
                "agent": AGENT.id,
                "recipient": IDENTITY.id,
                "generation": GENERATION,
                "spki_sha256": spki_sha256(first),
                "certificate": NAME,
            }
        )
        key_der = key_to_der(ec_key("Vector Leaf")) if self.key_der is None else self.key_der
        if "sealed_key" not in self.members:
            members["sealed_key"] = strict_json.encode_base64(
                seal(key_der, self.sealed_to, context)
            )
        if members["key_origin"] == "puller" and "sealed_key" not in self.members:
            del members["sealed_key"]
        for name in self.without:
            del members[name]
        return members

    def payload(self) -> bytes:
        return strict_json.encode(self.payload_members())

    def envelope(self) -> dict[str, Any]:
        return envelope(self.payload(), self.signer)

    def encode(self) -> bytes:
        return strict_json.encode(self.envelope())


def pae(payload: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def envelope(
    payload: bytes, signer: SigningKey = AGENT, *, signed: bytes | None = None
) -> dict[str, Any]:
    signature = signer.sign(pae(payload) if signed is None else signed)
    return {
        "payload": strict_json.encode_base64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": signer.id, "sig": strict_json.encode_base64(signature)}],
    }


def changed(**changes: Any) -> bytes:
    """The good bundle with some of its fields changed."""
    return replace(Bundle(), **changes).encode()
