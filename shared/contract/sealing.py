"""Sealing: a private key that only one machine can open.

An X25519 SealedBox (libsodium ``crypto_box_seal``) over a digest of the context and the key.
Sealing says nothing about the sender; that is what the signature around it is for.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Self

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from shared.contract.errors import KeysRefused, SealBroken
from shared.contract.signing import key_id

_CONTEXT_PREFIX = b"split-horizon-relay/seal/v1\0"


@dataclass(frozen=True, slots=True)
class SealContext:
    """What a sealed key is for; it opens for nothing else.

    Attributes:
        agent: key id of the agent (hex).
        recipient: key id of the sealing key that opens it (hex).
        generation: below 2^53.
        spki_sha256: hex digest of the public key's SubjectPublicKeyInfo.
        certificate: the certificate's id.
    """

    agent: str
    recipient: str
    generation: int
    spki_sha256: str
    certificate: str

    def digest(self) -> bytes:
        name = self.certificate.encode("ascii")
        return hashlib.sha256(
            _CONTEXT_PREFIX
            + bytes.fromhex(self.agent)
            + bytes.fromhex(self.recipient)
            + struct.pack(">Q", self.generation)
            + bytes.fromhex(self.spki_sha256)
            + struct.pack(">H", len(name))
            + name
        ).digest()


class Recipient:
    """Who may open: an X25519 public key."""

    __slots__ = ("_box", "id", "public")

    def __init__(self, public: bytes) -> None:
        """
        Raises:
            KeysRefused: not a key that something can be sealed to (an all-zero or low-order one
                would break sealing for every recipient later).
        """
        try:
            self._box = SealedBox(PublicKey(public))
            self._box.encrypt(b"trial")
        except (CryptoError, ValueError, TypeError, RuntimeError) as error:
            raise KeysRefused("Nothing can be sealed to the offered X25519 key.") from error
        self.public = public
        self.id = key_id(public)

    def seal(self, key_der: bytes, context: SealContext) -> bytes:
        """Return ``key_der`` (PKCS#8) sealed to this recipient for ``context``."""
        if context.recipient != self.id:
            raise KeysRefused("The seal context names another recipient.")
        return self._box.encrypt(context.digest() + key_der)

    def __repr__(self) -> str:
        return f"Recipient({self.id[:16]}…)"


class Identity:
    """Who opens: an X25519 private key; its representation never shows the secret."""

    __slots__ = ("_key", "recipient")

    def __init__(self, private: bytes) -> None:
        if len(private) != 32:
            raise KeysRefused(f"An X25519 key has 32 octets, not {len(private)}.")
        self._key = PrivateKey(private)
        self.recipient = Recipient(bytes(self._key.public_key))

    @classmethod
    def generate(cls) -> Self:
        return cls(bytes(PrivateKey.generate()))

    @property
    def id(self) -> str:
        return self.recipient.id

    def private(self) -> bytes:
        """Return the 32 secret octets, for the key's own file."""
        return bytes(self._key)

    def open(self, sealed: bytes, context: SealContext) -> bytes:
        """Return the PKCS#8 DER key sealed for exactly ``context``.

        Raises:
            SealBroken: sealed to somebody else, changed, or sealed for another context.
        """
        try:
            opened = SealedBox(self._key).decrypt(sealed)
        except (CryptoError, ValueError, TypeError) as error:
            raise SealBroken("The sealed key does not open with this machine's key.") from error
        if not hmac.compare_digest(opened[:32], context.digest()):
            raise SealBroken(
                "The sealed key was sealed for another certificate, generation or machine."
            )
        return opened[32:]

    def __repr__(self) -> str:
        return f"Identity({self.id[:16]}…)"
