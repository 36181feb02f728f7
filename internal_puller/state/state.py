"""What the puller remembers: its keys, whom it is enrolled with, what it learned, how things stand.

    <state>/signing.key sealing.key   32 octets each
    <state>/enrolment.json            the agent, pinned
    <state>/floors.json               outlives enrolments, agents and targets
    <state>/own-keys.json             certificates that take only keys made here; outlives the same
    <state>/progress.json             for status and for the next run; losing it loses no safety

The directory is 0700 and every file 0600. Nothing here is needed to read for other programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from internal_puller.state.files import (
    MAX_BYTES,
    file_version,
    private_directory,
    read_private,
    write_private,
)
from internal_puller.state.floor import Floor
from internal_puller.state.progress import Progress
from shared.contract import strict_json
from shared.contract.enrolment_token import check_relay_url
from shared.contract.errors import (
    ConfigurationError,
    KeysRefused,
    LooseFileMode,
    PolicyError,
    TokenMalformed,
)
from shared.contract.identifiers import check_certificate_id
from shared.contract.sealing import Identity
from shared.contract.signing import SigningKey, VerifyKey
from shared.contract.strict_json import Members
from shared.contract.wire import MAX_CERTIFICATES, Grant

_NO_FLOORS = (
    "or remove it: then the agent can bring back an older generation, until the next is accepted."
)
_NO_OWN_KEYS = (
    "or remove it: then say again for which certificates it held: "
    "internal-puller target change NAME --key-origin puller"
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """With whom this machine is enrolled.

    Attributes:
        relay_url: origin of the relay API.
        agent: the pinned key; every answer and bundle is signed by it.
        tls_pin: hex SHA-256 of the relay certificate's SPKI, if the token had one.
        puller: our id there.
        granted: what the agent granted at enrolment.
        enrolled_at: unix seconds.
    """

    relay_url: str
    agent: VerifyKey
    tls_pin: str | None
    puller: str
    granted: tuple[Grant, ...]
    enrolled_at: int

    def encode(self) -> bytes:
        return strict_json.encode(
            {
                "relay_url": self.relay_url,
                "agent": strict_json.encode_base64(self.agent.public),
                "tls_pin": self.tls_pin,
                "puller": self.puller,
                "granted": [grant.members() for grant in self.granted],
                "enrolled_at": self.enrolled_at,
            }
        )

    @classmethod
    def decode(cls, data: bytes, path: Path) -> Enrolment:
        members = _members(data, path)
        try:
            enrolment = cls(
                relay_url=check_relay_url(members.text("relay_url")),
                agent=VerifyKey(members.octets("agent", length=32)),
                tls_pin=None if members.take_null("tls_pin") else members.hex_digest("tls_pin"),
                puller=members.hex_digest("puller"),
                granted=members.objects("granted", Grant.read, max_items=MAX_CERTIFICATES),
                enrolled_at=members.integer("enrolled_at"),
            )
        except (TokenMalformed, KeysRefused) as error:
            raise ConfigurationError(f"{path}: {error.what}", do="Enrol again.") from error
        members.nothing_left()
        return enrolment


def _members(data: bytes, path: Path) -> Members:
    return strict_json.decode_object(data, str(path), max_size=MAX_BYTES, error=ConfigurationError)


@contextmanager
def _or_restore(cost: str) -> Iterator[None]:
    """Without what was learned nothing is installed: say how to go on, and what that costs."""
    try:
        yield
    except LooseFileMode:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(error.what, do=f"Restore it from a backup; {cost}") from error


class StateDirectory:
    """The files of one puller; opened only if nobody else can look into them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._floors: tuple[object, dict[str, Floor]] | None = None
        self._own_keys: tuple[object, frozenset[str]] | None = None

    @classmethod
    def open(cls, path: Path) -> StateDirectory:
        """Open what an enrolment made.

        Raises:
            ConfigurationError: not enrolled.
            LooseFileMode: other users can get at it.
        """
        return cls(private_directory(path, create=False))

    @classmethod
    def create(cls, path: Path) -> StateDirectory:
        """Open it, or make it. Raises as :meth:`open`."""
        return cls(private_directory(path, create=True))

    # --- keys ---------------------------------------------------------------------------------

    def signing_key(self) -> SigningKey:
        return SigningKey(self._key("signing.key"))

    def identity(self) -> Identity:
        return Identity(self._key("sealing.key"))

    def make_keys(self) -> tuple[SigningKey, Identity]:
        """Return both keys, made now if missing: a repeated enrolment has to offer the same."""
        if read_private(self.path / "signing.key") is None:
            write_private(self.path / "signing.key", SigningKey.generate().seed())
        if read_private(self.path / "sealing.key") is None:
            write_private(self.path / "sealing.key", Identity.generate().private())
        return self.signing_key(), self.identity()

    def _key(self, name: str) -> bytes:
        content = read_private(self.path / name)
        if content is None or len(content) != 32:
            raise ConfigurationError(
                f"{self.path / name} is {'missing' if content is None else 'damaged'}.",
                do="Enrol first: internal-puller enroll.",
            )
        return content

    # --- enrolment ----------------------------------------------------------------------------

    def enrolment(self) -> Enrolment | None:
        path = self.path / "enrolment.json"
        content = read_private(path)
        return None if content is None else Enrolment.decode(content, path)

    def require_enrolment(self) -> Enrolment:
        """Raises ``ConfigurationError`` when there is none."""
        enrolment = self.enrolment()
        if enrolment is None:
            raise ConfigurationError(
                "This machine is not enrolled.", do="Enrol first: internal-puller enroll."
            )
        return enrolment

    def save_enrolment(self, enrolment: Enrolment) -> None:
        write_private(self.path / "enrolment.json", enrolment.encode())

    # --- floors -------------------------------------------------------------------------------

    def floors(self) -> dict[str, Floor]:
        """Return the floor of every certificate that has one.

        Raises:
            ConfigurationError: the file is damaged; going on without it would allow going back.
        """
        path = self.path / "floors.json"
        version = file_version(path)
        if self._floors is None or self._floors[0] != version:
            with _or_restore(_NO_FLOORS):
                self._floors = version, _read_floors(path)
        return dict(self._floors[1])

    def raise_floor(self, certificate: str, floor: Floor) -> None:
        """Make ``floor`` durable; one that stands higher already stays."""
        floors = self.floors()
        present = floors.get(certificate)
        if present == floor or (present and present.generation > floor.generation):
            return
        floors[certificate] = floor
        path = self.path / "floors.json"
        write_private(path, _encode_floors(floors))
        self._floors = file_version(path), floors

    # --- own keys -----------------------------------------------------------------------------

    def own_keys(self) -> frozenset[str]:
        """Return the certificates of which a key made here was accepted: they take no other.

        Raises:
            ConfigurationError: the file is damaged; without it the agent could bring in a key.
        """
        path = self.path / "own-keys.json"
        version = file_version(path)
        if self._own_keys is None or self._own_keys[0] != version:
            with _or_restore(_NO_OWN_KEYS):
                self._own_keys = version, _read_own_keys(path)
        return self._own_keys[1]

    def learn_own_keys(self, certificate: str) -> None:
        """Take only keys made here from now on; durable on return. For who holds the lock."""
        self._save_own_keys(self.own_keys() | {certificate})

    def forget_own_keys(self, certificate: str) -> None:
        """Take other keys again; only a command that says so comes here. For who holds the lock."""
        self._save_own_keys(self.own_keys() - {certificate})

    def _save_own_keys(self, certificates: frozenset[str]) -> None:
        if certificates != self.own_keys():
            path = self.path / "own-keys.json"
            write_private(path, strict_json.encode({"certificates": sorted(certificates)}))
            self._own_keys = file_version(path), certificates

    # --- progress -----------------------------------------------------------------------------

    def progress(self) -> Progress:
        """Return how things stand; what cannot be read or trusted is as if there were nothing."""
        try:
            content = read_private(self.path / "progress.json")
        except ConfigurationError:
            content = None
        return Progress() if content is None else Progress.decode(content)

    def progress_version(self) -> object:
        """Return what is another thing once any process has saved progress."""
        return file_version(self.path / "progress.json")

    def save_progress(self, progress: Progress, *, durable: bool) -> None:
        write_private(self.path / "progress.json", progress.encode(), durable=durable)


def _read_floors(path: Path) -> dict[str, Floor]:
    content = read_private(path)
    if content is None:
        return {}
    members = _members(content, path)
    floors = dict(members.objects("floors", _read_floor, max_items=100_000))
    members.nothing_left()
    return floors


def _read_own_keys(path: Path) -> frozenset[str]:
    content = read_private(path)
    if content is None:
        return frozenset()
    members = _members(content, path)
    certificates = frozenset(members.texts("certificates", max_items=100_000))
    members.nothing_left()
    return certificates


def _read_floor(members: Members) -> tuple[str, Floor]:
    try:
        certificate = check_certificate_id(members.text("certificate"))
    except PolicyError as error:
        members.refuse(error.what.rstrip("."))
    return certificate, Floor(
        members.integer("generation", minimum=1), members.hex_digest("digest")
    )


def _encode_floors(floors: Mapping[str, Floor]) -> bytes:
    entries = [
        {"certificate": certificate, "generation": floor.generation, "digest": floor.digest}
        for certificate, floor in sorted(floors.items())
    ]
    return json.dumps({"floors": entries}, separators=(",", ":")).encode()
