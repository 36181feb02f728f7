"""The manifest and the bundle: what the agent states about one generation, for one recipient.

Normative: docs/FORMAT.md. Bytes are verified first, and only verified bytes are parsed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from shared.contract import strict_json
from shared.contract.errors import MalformedBundle, PolicyError
from shared.contract.identifiers import MAX_NAMES, check_certificate_id, is_a_label_name
from shared.contract.signing import Envelope, SigningKey, sign_envelope
from shared.contract.strict_json import MAX_INTEGER, Members

PAYLOAD_TYPE = "application/vnd.split-horizon-relay.manifest.v1+json"
REHEARSAL_TYPE = "application/vnd.split-horizon-relay.rehearsal.v1+json"
"""Of a bundle that is made to be looked at: its signature is over the type, so it never passes for
one that is to be installed, nor the other way round."""
FORMAT = 1
MAX_PAYLOAD = 256 * 1024
MAX_ENVELOPE = 4 * (MAX_PAYLOAD // 3 + 1) + 1024
_MAX_CHAIN_TEXT = 200_000
_MAX_SEALED = 16 * 1024

KeyOrigin = Literal["agent", "puller"]
KEY_ORIGINS: frozenset[str] = frozenset(("agent", "puller"))


@dataclass(frozen=True, slots=True)
class Manifest:
    """The signed statement about one generation of a certificate, for one recipient.

    Attributes:
        agent: key id of the agent that signed.
        recipient: key id of the sealing key of the puller it is meant for.
        certificate: id, ``[a-z0-9._-]``.
        names: the exact SAN set of the leaf, sorted A-labels.
        generation: below 2^53, growing.
        issued_at: unix seconds.
        not_after: unix seconds, the leaf's.
        key_origin: where the private key was made.
        spki_sha256: hex, of the leaf's SubjectPublicKeyInfo.
        chain: PEM, leaf first, without the root.
        sealed_key: the key sealed to the recipient; only with ``key_origin == "agent"``.
    """

    agent: str
    recipient: str
    certificate: str
    names: tuple[str, ...]
    generation: int
    issued_at: int
    not_after: int
    key_origin: KeyOrigin
    spki_sha256: str
    chain: str
    sealed_key: bytes | None

    def encode(self) -> bytes:
        """Return the payload bytes; their SHA-256 is the manifest digest."""
        members: dict[str, object] = {
            "format": FORMAT,
            "agent": self.agent,
            "recipient": self.recipient,
            "certificate": self.certificate,
            "names": list(self.names),
            "generation": self.generation,
            "issued_at": self.issued_at,
            "not_after": self.not_after,
            "key_origin": self.key_origin,
            "spki_sha256": self.spki_sha256,
            "chain": self.chain,
        }
        if self.sealed_key is not None:
            members["sealed_key"] = strict_json.encode_base64(self.sealed_key)
        return strict_json.encode(members)

    @classmethod
    def decode(cls, payload: bytes) -> Manifest:
        """Read payload bytes whose signature has been verified.

        Raises:
            MalformedBundle: any other shape than docs/FORMAT.md gives.
        """
        members = strict_json.decode_object(payload, "The manifest", max_size=MAX_PAYLOAD)
        if members.integer("format") != FORMAT:
            members.refuse(f"its format is not {FORMAT}; a newer puller may be needed")
        key_origin: KeyOrigin = (
            "agent" if members.one_of("key_origin", KEY_ORIGINS) == "agent" else "puller"
        )
        manifest = cls(
            agent=members.hex_digest("agent"),
            recipient=members.hex_digest("recipient"),
            certificate=_certificate_id(members),
            names=read_sorted_names(members),
            generation=members.integer("generation", minimum=1),
            issued_at=members.integer("issued_at"),
            not_after=members.integer("not_after"),
            key_origin=key_origin,
            spki_sha256=members.hex_digest("spki_sha256"),
            chain=members.text("chain", max_length=_MAX_CHAIN_TEXT),
            sealed_key=(
                members.octets("sealed_key", max_length=_MAX_SEALED)
                if key_origin == "agent"
                else None
            ),
        )
        members.nothing_left()
        return manifest


def _certificate_id(members: Members) -> str:
    try:
        return check_certificate_id(members.text("certificate"))
    except PolicyError as error:
        raise MalformedBundle(f"The manifest: {error.what}") from error


def read_names(members: Members) -> tuple[str, ...]:
    """Take the member ``names``: 1 to 100 names in the grammar of docs/FORMAT.md, section 1."""
    names = members.texts("names", max_items=MAX_NAMES)
    if not names:
        members.refuse("member 'names' is empty")
    for name in names:
        if not is_a_label_name(name):
            members.refuse(f"member 'names' holds {name!r:.80}, which is not a name in A-labels")
    return names


def read_sorted_names(members: Members) -> tuple[str, ...]:
    """Take the member ``names`` where it is a set: as :func:`read_names`, and sorted."""
    names = read_names(members)
    if list(names) != sorted(set(names)):
        members.refuse("member 'names' is not sorted, or holds a name twice")
    return names


def manifest_digest(payload: bytes) -> str:
    """Return the hex SHA-256 of payload bytes as they were signed; never of bytes built again."""
    return hashlib.sha256(payload).hexdigest()


def sign_bundle(
    manifest: Manifest, key: SigningKey, *, payload_type: str = PAYLOAD_TYPE
) -> tuple[bytes, str]:
    """Return (envelope bytes, manifest digest).

    Args:
        payload_type: :data:`PAYLOAD_TYPE` or :data:`REHEARSAL_TYPE`.

    Raises:
        MalformedBundle: the manifest could not be read back; nothing was signed.
    """
    payload = manifest.encode()
    if Manifest.decode(payload) != manifest or manifest.generation > MAX_INTEGER:
        raise MalformedBundle("The manifest does not survive its own encoding.")
    return sign_envelope(payload, payload_type, key), manifest_digest(payload)


def parse_envelope(data: bytes, *, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """Read the shape of a bundle; nothing in it is to be believed before ``Envelope.open``.

    Args:
        payload_type: the one kind of bundle that is taken.

    Raises:
        MalformedBundle: not a bundle.
    """
    return Envelope.parse(data, payload_type, max_payload=MAX_PAYLOAD)
