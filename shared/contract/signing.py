"""Ed25519 keys and DSSE envelopes.

PyNaCl (libsodium) is the only verifier: it refuses low-order public keys, under which one
signature would fit every message, where OpenSSL does not.

DSSE: https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md.
"""

from __future__ import annotations

import hashlib
from typing import Self

from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import SigningKey as _NaclSigningKey
from nacl.signing import VerifyKey as _NaclVerifyKey

from shared.contract import strict_json
from shared.contract.errors import BadSignature, KeysRefused, MalformedBundle

SEED_SIZE = 32
SIGNATURE_SIZE = 64


def key_id(public: bytes) -> str:
    """Return the id of a public key: lower-case hex SHA-256 of its 32 raw octets."""
    return hashlib.sha256(public).hexdigest()


class VerifyKey:
    """The public half of an Ed25519 key."""

    __slots__ = ("_key", "id", "public")

    def __init__(self, public: bytes) -> None:
        """
        Raises:
            KeysRefused: not 32 octets.
        """
        if len(public) != 32:
            raise KeysRefused(f"An Ed25519 public key has 32 octets, not {len(public)}.")
        self.public = public
        self.id = key_id(public)
        self._key = _NaclVerifyKey(public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if ``signature`` is this key's over ``message``.

        Raises:
            BadSignature: it is not, or the key is one under which anything would verify.
        """
        try:
            if len(signature) != SIGNATURE_SIZE:
                raise BadSignatureError("length")
            self._key.verify(message, signature)
        except (BadSignatureError, CryptoError, ValueError) as error:
            raise BadSignature(f"A signature does not verify with key {self.id[:16]}….") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and other.public == self.public

    def __hash__(self) -> int:
        return hash(self.public)

    def __repr__(self) -> str:
        return f"VerifyKey({self.id[:16]}…)"


class SigningKey:
    """An Ed25519 key; its representation never shows the secret."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise KeysRefused(f"An Ed25519 seed has {SEED_SIZE} octets, not {len(seed)}.")
        self._key = _NaclSigningKey(seed)
        self.public = VerifyKey(bytes(self._key.verify_key))

    @classmethod
    def generate(cls) -> Self:
        return cls(bytes(_NaclSigningKey.generate()))

    @property
    def id(self) -> str:
        return self.public.id

    def seed(self) -> bytes:
        """Return the 32 secret octets, for the key's own file."""
        return bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 octets of an Ed25519 signature (RFC 8032)."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"SigningKey({self.id[:16]}…)"


def _pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, payload_type: str, key: SigningKey) -> bytes:
    """Return a DSSE envelope in JSON form with exactly one signature."""
    signature = key.sign(_pre_authentication_encoding(payload_type, payload))
    return strict_json.encode(
        {
            "payload": strict_json.encode_base64(payload),
            "payloadType": payload_type,
            "signatures": [{"keyid": key.id, "sig": strict_json.encode_base64(signature)}],
        }
    )


class Envelope:
    """A DSSE envelope whose shape is right and whose signature nobody has looked at yet."""

    __slots__ = ("_payload", "_signature", "_type", "key_id")

    def __init__(self, payload: bytes, payload_type: str, keyid: str, signature: bytes) -> None:
        self._payload = payload
        self._type = payload_type
        self._signature = signature
        self.key_id = keyid

    @classmethod
    def parse(cls, data: bytes, payload_type: str, *, max_payload: int) -> Self:
        """Read the shape of an envelope.

        Args:
            max_payload: octets of payload at most.

        Raises:
            MalformedBundle: anything but one envelope of that type with one signature.
        """
        max_size = 4 * (max_payload // 3 + 1) + 1024
        members = strict_json.decode_object(data, "The envelope", max_size=max_size)
        payload = members.octets("payload", max_length=max_payload)
        if members.text("payloadType") != payload_type:
            members.refuse(f"its payloadType is not {payload_type}")
        signatures = members.objects(
            "signatures",
            lambda one: (one.hex_digest("keyid"), one.octets("sig", length=SIGNATURE_SIZE)),
            max_items=1,
        )
        members.nothing_left()
        if len(signatures) != 1:
            raise MalformedBundle("The envelope has no signature.")
        return cls(payload, payload_type, *signatures[0])

    def open(self, key: VerifyKey) -> bytes:
        """Return the payload, signed by ``key``.

        Raises:
            BadSignature: signed by another key, or the payload was changed.
        """
        if self.key_id != key.id:
            raise BadSignature(
                f"The envelope is signed by key {self.key_id[:16]}…, not by the pinned agent "
                f"{key.id[:16]}…."
            )
        key.verify(self._signature, _pre_authentication_encoding(self._type, self._payload))
        return self._payload
