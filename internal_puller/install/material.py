"""What is installed: a chain, its key, and which generation they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.contract.errors import KeyMismatch, UnsuitableKey
from shared.contract.key_policy import PrivateKey, load_pem_key


@dataclass(frozen=True)
class Material:
    """One generation, already accepted by the trust rules.

    Args:
        certificate: id of the certificate.
        generation: its number.
        manifest_digest: hex SHA-256 of the signed manifest.
        chain_pem: certificates, the leaf first, without the root.
        key_pem: the private key; never shown by ``repr``.
    """

    certificate: str
    generation: int
    manifest_digest: str
    chain_pem: str = field(repr=False)
    key_pem: bytes = field(repr=False)

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The parsed chain, the leaf first. Raises ``KeyMismatch`` if there is none."""
        try:
            return tuple(x509.load_pem_x509_certificates(self.chain_pem.encode()))
        except ValueError as error:
            raise KeyMismatch(f"{self._here}: the chain cannot be read.") from error

    @cached_property
    def private_key(self) -> PrivateKey:
        """The private key. Raises ``KeyMismatch`` if it is none that a certificate may have."""
        try:
            return load_pem_key(self.key_pem.decode("ascii", "replace"))
        except (KeyMismatch, UnsuitableKey) as error:
            # No cause: its text might quote what it could not read.
            raise KeyMismatch(f"{self._here}: {error.what}") from None

    @property
    def leaf_sha256(self) -> str:
        """Lowercase hex SHA-256 of the leaf's DER."""
        return hashlib.sha256(self.chain[0].public_bytes(Encoding.DER)).hexdigest()

    @property
    def key_kind(self) -> str:
        """``"rsa"`` or ``"ecdsa"``: which certificate it is of a server that has both."""
        return "rsa" if isinstance(self.private_key, rsa.RSAPrivateKey) else "ecdsa"

    @property
    def not_before(self) -> int:
        """Unix seconds at which the leaf begins to be valid."""
        return int(self.chain[0].not_valid_before_utc.timestamp())

    @property
    def not_after(self) -> int:
        """Unix seconds at which the leaf expires."""
        return int(self.chain[0].not_valid_after_utc.timestamp())

    @property
    def _here(self) -> str:
        return f"{self.certificate}, generation {self.generation}"

    def check_pair(self) -> None:
        """Raise ``KeyMismatch`` unless the key is the leaf's."""
        spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ours = self.private_key.public_key().public_bytes(*spki)
        if ours != self.chain[0].public_key().public_bytes(*spki):
            raise KeyMismatch(f"{self._here}: the private key is not that of the certificate.")
