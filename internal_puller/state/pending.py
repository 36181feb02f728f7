"""Private keys made here whose certificates are still to come: kept apart, at most four.

    <state>/pending/<certificate>/<number>.<spki>                 its certificate has not come
    <state>/pending/<certificate>/<number>.<spki>.<generation>    it has

A key is durable here before its CSR leaves this machine, and stays until a newer generation is
active. What the names say is enough for the quiet path of ``pull``; only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from internal_puller.state.files import (
    opened,
    private_directory,
    read_private,
    sweep,
    write_private,
)
from shared.contract import strict_json
from shared.contract.errors import ConfigurationError, LooseFileMode

MOST_KEYS = 4
_DIRECTORY = "pending"
_NAME = re.compile(r"([0-9]{8})\.([0-9a-f]{64})(?:\.([1-9][0-9]{0,15}))?")
_MAX_FILE = 128 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file, as its name tells.

    Attributes:
        number: grows with each key that is made.
        spki: hex SHA-256 of its SubjectPublicKeyInfo.
        generation: of the certificate that came for it; 0 before.
    """

    number: int
    spki: str
    generation: int

    @property
    def name(self) -> str:
        tail = f".{self.generation}" if self.generation else ""
        return f"{self.number:08d}.{self.spki}{tail}"

    @classmethod
    def parse(cls, name: str) -> Entry | None:
        match = _NAME.fullmatch(name)
        return match and cls(int(match[1]), match[2], int(match[3] or 0))


@dataclass(frozen=True, slots=True)
class PendingKey:
    """
    Attributes:
        key: PKCS#8 DER.
        csr: DER, as it was or is to be left with the agent.
        names: that the CSR asks for.
        algorithm: name of a ``shared.contract.x509.KeyAlgorithm``.
    """

    key: bytes = field(repr=False)
    csr: bytes
    names: tuple[str, ...]
    algorithm: str


def pending_certificates(state: Path) -> set[str]:
    """Return the certificates of which keys are kept; none if that cannot be seen."""
    try:
        with opened(state, _DIRECTORY) as place:
            return set(os.listdir(place))  # noqa: PTH208 - an open one
    except OSError:
        return set()


class PendingKeys:
    """The pending keys of one certificate; changed only by who holds the installation lock."""

    def __init__(self, state: Path, certificate: str) -> None:
        self._state, self._certificate = state, certificate
        self._all = state / _DIRECTORY
        self._directory = self._all / certificate

    def entries(self) -> list[Entry]:
        """Return what is there, the oldest first."""
        try:
            with self._opened() as place:
                names = os.listdir(place)  # noqa: PTH208 - an open one
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ConfigurationError(
                f"{self._directory} cannot be read: {error.strerror}."
            ) from error
        return sorted(entry for name in names if (entry := Entry.parse(name)))

    @property
    def unused(self) -> Entry | None:
        """The newest key that no certificate has come for."""
        return next((one for one in reversed(self.entries()) if not one.generation), None)

    def read(self, entry: Entry) -> PendingKey | None:
        """Return a key; ``None`` if its file is damaged, which is as if it were lost.

        Raises:
            LooseFileMode: other users could read it.
        """
        for directory in (self._all, self._directory):
            private_directory(directory, create=False)
        try:
            content = read_private(self._directory / entry.name)
            return None if content is None else _decode(content)
        except LooseFileMode:
            raise
        except ConfigurationError:
            return None

    def by_spki(self) -> dict[str, bytes]:
        """Return every key (PKCS#8 DER) by the hex SHA-256 of its SPKI. Raises as :meth:`read`."""
        found = ((entry.spki, self.read(entry)) for entry in self.entries())
        return {spki: pending.key for spki, pending in found if pending is not None}

    def add(self, spki: str, pending: PendingKey) -> Entry:
        """Keep a new key, durably; beyond four the oldest goes.

        Raises:
            ConfigurationError: it cannot be written.
        """
        for directory in (self._all, self._directory):
            private_directory(directory, create=True)
        sweep(self._state, _DIRECTORY, self._certificate)
        present = self.entries()
        entry = Entry(present[-1].number + 1 if present else 1, spki, 0)
        write_private(self._directory / entry.name, _encode(pending))
        for old in present[: max(0, len(present) + 1 - MOST_KEYS)]:
            self._remove(old)
        return entry

    def came(self, spki: str, generation: int) -> None:
        """Note that a certificate came for a key; it is not to be certified again."""
        for entry in self.entries():
            if entry.spki == spki and entry.generation != generation:
                noted = Entry(entry.number, spki, generation)
                # If it is not, its CSR is offered once more, and refused.
                with contextlib.suppress(OSError), self._opened() as place:
                    os.rename(entry.name, noted.name, src_dir_fd=place, dst_dir_fd=place)

    def in_place(self, spki: str, generation: int) -> None:
        """Forget what a generation that is in place has outlived.

        Args:
            spki: of its key, wherever that was made.
        """
        present = self.entries()
        mine = next((one.number for one in present if one.spki == spki), 0)
        for entry in present:
            if entry.spki != spki and (entry.number < mine or 0 < entry.generation < generation):
                self._remove(entry)

    def drop(self, entry: Entry) -> None:
        """Forget a key that nothing was or will be made from."""
        self._remove(entry)

    def clear(self) -> None:
        """Forget them all."""
        for entry in self.entries():
            self._remove(entry)
        with contextlib.suppress(OSError), opened(self._state, _DIRECTORY) as place:
            os.rmdir(self._certificate, dir_fd=place)

    def _remove(self, entry: Entry) -> None:
        with contextlib.suppress(OSError), self._opened() as place:
            os.unlink(entry.name, dir_fd=place)

    def _opened(self) -> contextlib.AbstractContextManager[int]:
        return opened(self._state, _DIRECTORY, self._certificate)


def _encode(pending: PendingKey) -> bytes:
    return strict_json.encode(
        {
            "key": strict_json.encode_base64(pending.key),
            "csr": strict_json.encode_base64(pending.csr),
            "names": list(pending.names),
            "algorithm": pending.algorithm,
        }
    )


def _decode(content: bytes) -> PendingKey:
    members = strict_json.decode_object(
        content, "A pending key", max_size=_MAX_FILE, error=ConfigurationError
    )
    pending = PendingKey(
        key=members.octets("key", max_length=_MAX_FILE),
        csr=members.octets("csr", max_length=_MAX_FILE),
        names=members.texts("names", max_items=100),
        algorithm=members.text("algorithm"),
    )
    members.nothing_left()
    return pending
