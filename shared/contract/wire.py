"""The messages of the relay API, as both sides read and write them; normative: docs/FORMAT.md.

Plain records over :mod:`shared.contract.strict_json`: the quiet path of ``pull`` must stay lean,
and one reader for hostile bytes is enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from shared.contract import strict_json
from shared.contract.bundle import KEY_ORIGINS, MAX_ENVELOPE, read_names, read_sorted_names
from shared.contract.errors import (
    BundleError,
    ConfigurationError,
    InstallError,
    MalformedMessage,
    PolicyError,
    RelayError,
)
from shared.contract.http_signatures import MAX_BODY
from shared.contract.identifiers import check_certificate_id
from shared.contract.strict_json import Members

ENROLMENTS_PATH = "/v1/enrolments"
CERTIFICATES_PATH = "/v1/certificates"
RECEIPTS_PATH = "/v1/receipts"
DIRECT_PATH = "/v1/direct"

MAX_WAIT = 50
MIN_COME_BACK = 60
MAX_COME_BACK = 86400
MAX_ANSWER = 8 * 1024 * 1024
MAX_CERTIFICATES = 4000
_OFFER_FRAME = 192
"""Octets of an offer beside its id and its list of names, at most."""
JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"


def bundle_path(certificate: str) -> str:
    return f"{CERTIFICATES_PATH}/{check_certificate_id(certificate)}/bundle"


def csr_path(certificate: str) -> str:
    return f"{CERTIFICATES_PATH}/{check_certificate_id(certificate)}/csr"


def rehearsal_path(certificate: str) -> str:
    return f"{CERTIFICATES_PATH}/{check_certificate_id(certificate)}/rehearsal"


def clamp_come_back(seconds: int) -> int:
    """Return when to come back, between a minute and a day, whatever the agent says."""
    return max(MIN_COME_BACK, min(MAX_COME_BACK, seconds))


def _id(members: Members, name: str = "certificate") -> str:
    try:
        return check_certificate_id(members.text(name))
    except PolicyError as error:
        members.refuse(error.what.rstrip("."))


def _read(data: bytes, what: str, max_size: int) -> Members:
    return strict_json.decode_object(data, what, max_size=max_size, error=MalformedMessage)


# --- enrolment -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """Both public keys of a puller (32 octets each), its host name, and its time."""

    signing_key: bytes
    sealing_key: bytes
    host: str
    at: int

    def encode(self) -> bytes:
        return strict_json.encode(
            {
                "signing_key": strict_json.encode_base64(self.signing_key),
                "sealing_key": strict_json.encode_base64(self.sealing_key),
                "host": self.host,
                "at": self.at,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        members = _read(data, "The enrolment request", MAX_BODY)
        request = cls(
            signing_key=members.octets("signing_key", length=32),
            sealing_key=members.octets("sealing_key", length=32),
            host=members.text("host", max_length=255),
            at=members.integer("at"),
        )
        members.nothing_left()
        return request


@dataclass(frozen=True, slots=True)
class Grant:
    """A certificate that a puller may fetch: its id, and the names it stands for."""

    certificate: str
    names: tuple[str, ...]

    def members(self) -> dict[str, object]:
        return {"certificate": self.certificate, "names": list(self.names)}

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(_id(members), read_names(members))


@dataclass(frozen=True, slots=True)
class EnrolmentAnswer:
    """What the agent says to a puller that has enrolled: its id, and what it may fetch."""

    puller: str
    granted: tuple[Grant, ...]

    def encode(self) -> bytes:
        return strict_json.encode(
            {"puller": self.puller, "granted": [grant.members() for grant in self.granted]}
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        members = _read(data, "The answer to the enrolment", MAX_ANSWER)
        answer = cls(
            puller=members.hex_digest("puller"),
            granted=members.objects("granted", Grant.read, max_items=MAX_CERTIFICATES),
        )
        members.nothing_left()
        return answer


# --- listing ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """One granted certificate as it stands for this puller.

    Attributes:
        generation: the newest with a bundle for this puller; 0 while there is none.
        not_after: unix seconds of that generation; 0 while there is none.
        key_origin: ``agent`` or ``puller``, for the next generation.
        csr_wanted: the agent waits for a CSR.
    """

    certificate: str
    names: tuple[str, ...]
    generation: int
    not_after: int
    key_origin: str
    csr_wanted: bool

    def members(self) -> dict[str, object]:
        return {
            "certificate": self.certificate,
            "names": list(self.names),
            "generation": self.generation,
            "not_after": self.not_after,
            "key_origin": self.key_origin,
            "csr_wanted": self.csr_wanted,
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(
            certificate=_id(members),
            names=read_names(members),
            generation=members.integer("generation"),
            not_after=members.integer("not_after"),
            key_origin=members.one_of("key_origin", KEY_ORIGINS),
            csr_wanted=members.boolean("csr_wanted"),
        )


INSTALLATION = re.compile(r"[0-9a-f]{32}\Z")
HOST = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Machine:
    """Which machine asks for the list, so that a copy of it is noticed.

    Attributes:
        installation: 32 lower-case hexadecimal digits: the same until the next boot, and of no
            other machine.
        host: how it calls itself.
    """

    installation: str
    host: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything granted to one puller.

    Attributes:
        come_back: seconds until the agent expects something new; the puller clamps it.
        version: the agent's name for this state, which only the agent understands: ``since`` in
            the next request.
    """

    offers: tuple[Offer, ...]
    come_back: int
    version: str

    @classmethod
    def of(cls, offers: tuple[Offer, ...], come_back: int) -> Self:
        """Return the list with the name that this agent gives to its state (decision 0003)."""
        state = strict_json.encode([offer.members() for offer in offers])
        return cls(offers, come_back, hashlib.sha256(state).hexdigest()[:16])

    @staticmethod
    def fits(certificates: Iterable[tuple[str, str]]) -> bool:
        """Tell whether a list of these stays within :data:`MAX_ANSWER`, however they stand.

        Args:
            certificates: id and names of each, the names as JSON text.
        """
        whole = sum(len(one) + len(names) + _OFFER_FRAME for one, names in certificates)
        return whole <= MAX_ANSWER - _OFFER_FRAME

    def encode(self) -> bytes:
        return strict_json.encode(
            {
                "certificates": [offer.members() for offer in self.offers],
                "come_back": self.come_back,
                "version": self.version,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        members = _read(data, "The list of certificates", MAX_ANSWER)
        listing = cls(
            offers=members.objects("certificates", Offer.read, max_items=MAX_CERTIFICATES),
            come_back=members.integer("come_back"),
            version=_version(members),
        )
        members.nothing_left()
        return listing


VERSION = re.compile(r"[A-Za-z0-9._~-]{1,64}\Z")
"""How an agent may call a state of the list; it stands in a query as it is (RFC 3986 2.3)."""


def _version(members: Members) -> str:
    version = members.text("version")
    if not VERSION.match(version):
        members.refuse("member 'version' is not 1 to 64 of A-Z, a-z, 0-9, '.', '_', '~' and '-'")
    return version


# --- bundle ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BundleAnswer:
    """The newest bundle above a generation, or nothing new.

    Attributes:
        newest: the newest generation with a bundle for this puller; 0 if there is none.
        envelope: bytes of the DSSE envelope, or ``None`` when there is nothing above ``after``.
    """

    newest: int
    envelope: bytes | None

    def encode(self) -> bytes:
        text = None if self.envelope is None else self.envelope.decode("utf-8")
        return strict_json.encode({"newest": self.newest, "bundle": text})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        members = _read(data, "The answer with the bundle", MAX_ANSWER)
        envelope = (
            None
            if members.take_null("bundle")
            else members.text("bundle", max_length=MAX_ENVELOPE).encode("utf-8")
        )
        answer = cls(newest=members.integer("newest"), envelope=envelope)
        members.nothing_left()
        return answer


# --- receipts --------------------------------------------------------------------------------

OUTCOMES: frozenset[str] = frozenset(("installed", "rolled_back", "refused", "failed", "removed"))
NO_DIGEST = "0" * 64
"""Where a receipt is about no bundle."""


def _types(family: type[RelayError]) -> set[str]:
    found = {family.type}
    for member in family.__subclasses__():
        found |= _types(member)
    return found


RECEIPT_ERRORS: frozenset[str] = frozenset(
    {"none", "unexpected"} | _types(BundleError) | _types(InstallError) | _types(ConfigurationError)
)


@dataclass(frozen=True, slots=True)
class Served:
    """What a probe saw: the served leaf's digest, its end, and (if allowed) where."""

    leaf_sha256: str
    not_after: int
    address: str | None

    def members(self) -> dict[str, object]:
        return {
            "leaf_sha256": self.leaf_sha256,
            "not_after": self.not_after,
            "address": self.address,
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(
            leaf_sha256=members.hex_digest("leaf_sha256"),
            not_after=members.integer("not_after"),
            address=None
            if members.take_null("address")
            else members.text("address", max_length=255),
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a puller installed, and what its server really serves.

    Attributes:
        digest: hex manifest digest; of the body, if the bytes did not parse; or
            :data:`NO_DIGEST`.
        outcome: one of :data:`OUTCOMES`: ``failed`` is a fault on that machine before anything
            was tried, ``removed`` that no target there takes the certificate any more.
        error: one of :data:`RECEIPT_ERRORS`.
        at: unix seconds at the puller.
    """

    certificate: str
    generation: int
    digest: str
    outcome: str
    error: str
    served: tuple[Served, ...]
    at: int

    def encode(self) -> bytes:
        return strict_json.encode(
            {
                "certificate": self.certificate,
                "generation": self.generation,
                "digest": self.digest,
                "outcome": self.outcome,
                "error": self.error,
                "served": [one.members() for one in self.served],
                "at": self.at,
            }
        )

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(
            certificate=_id(members),
            generation=members.integer("generation"),
            digest=members.hex_digest("digest"),
            outcome=members.one_of("outcome", OUTCOMES),
            error=members.one_of("error", RECEIPT_ERRORS),
            served=members.objects("served", Served.read, max_items=16),
            at=members.integer("at"),
        )


def receipt_error(error: RelayError | None) -> str:
    """Return the receipt's word for an error: its type if the list has it."""
    if error is None:
        return "none"
    return error.type if error.type in RECEIPT_ERRORS else "unexpected"


# --- certificates that the puller gets by itself ----------------------------------------------

_ERROR_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*(?:/[a-z]+(?:-[a-z]+)*)?\Z")


@dataclass(frozen=True, slots=True)
class DirectReport:
    """How a certificate stands that the puller gets from a CA by itself; for operators to see.

    Attributes:
        names: sorted A-labels; what is wanted.
        generation: the puller's own number of the newest one; 0 while there is none.
        not_after: unix seconds of it; 0 while there is none.
        leaf_sha256: of it, hex; ``None`` while there is none.
        next_renewal: unix seconds at which the next one will be ordered; 0 is unknown.
        outcome: one of :data:`OUTCOMES`: ``failed`` is also an order that brought nothing,
            ``removed`` also that the puller wants it no more.
        error: ``none``, ``unexpected`` or a :attr:`RelayError.type`.
        at: unix seconds at the puller.
    """

    certificate: str
    names: tuple[str, ...]
    generation: int
    not_after: int
    leaf_sha256: str | None
    next_renewal: int
    outcome: str
    error: str
    served: tuple[Served, ...]
    at: int

    def encode(self) -> bytes:
        return strict_json.encode(
            {
                "certificate": self.certificate,
                "names": list(self.names),
                "generation": self.generation,
                "not_after": self.not_after,
                "leaf_sha256": self.leaf_sha256,
                "next_renewal": self.next_renewal,
                "outcome": self.outcome,
                "error": self.error,
                "served": [one.members() for one in self.served],
                "at": self.at,
            }
        )

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(
            certificate=_id(members),
            names=read_sorted_names(members),
            generation=members.integer("generation"),
            not_after=members.integer("not_after"),
            leaf_sha256=None
            if members.take_null("leaf_sha256")
            else members.hex_digest("leaf_sha256"),
            next_renewal=members.integer("next_renewal"),
            outcome=members.one_of("outcome", OUTCOMES),
            error=_error_word(members),
            served=members.objects("served", Served.read, max_items=16),
            at=members.integer("at"),
        )


def _error_word(members: Members) -> str:
    word = members.text("error", max_length=64)
    if not _ERROR_WORD.match(word):
        members.refuse("member 'error' is no type of an error")
    return word


# --- problem documents -----------------------------------------------------------------------

PROBLEM_PREFIX = "urn:split-horizon-relay:problem:"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document (RFC 9457).

    Attributes:
        slug: what follows :data:`PROBLEM_PREFIX` in ``type``; stable.
    """

    slug: str
    title: str
    status: int
    detail: str

    def encode(self) -> bytes:
        return strict_json.encode(
            {
                "type": PROBLEM_PREFIX + self.slug,
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        members = _read(data, "The problem document", MAX_BODY)
        problem = cls(
            slug=members.text("type").removeprefix(PROBLEM_PREFIX),
            title=members.text("title"),
            status=members.integer("status", minimum=100, maximum=599),
            detail=members.text("detail", max_length=4096),
        )
        members.nothing_left()
        return problem
