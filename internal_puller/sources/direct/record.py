"""What direct mode keeps of one certificate: how it stands, the attempt under way, the newest pair.

    <state>/direct/certificates/<id>/progress.json   when to do something, and what went wrong
    <state>/direct/certificates/<id>/attempt.json    key, CSR and order of the attempt under way
    <state>/direct/certificates/<id>/issued.json     key and chain of the newest generation
    <state>/direct/account.key                       the ACME account key (PEM)
    <state>/direct/account.key.next                  only while the key is being replaced
    <state>/direct/accounts.json                     directory URL to account URL

Every file is 0600 and replaced whole, so a key and what belongs to it are never apart. Reading
``progress.json`` needs only the standard library: the quiet path of ``pull`` does it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from internal_puller.sources.direct.settings import DirectCertificate
from internal_puller.state.files import (
    opened,
    private_directory,
    read_private,
    sweep,
    write_private,
)
from internal_puller.state.progress import LastError
from shared.contract.errors import ConfigurationError

DIRECTORY: Final = "direct"
NO_MOMENT: Final = 2**53
_KEYS: Final = ("attempt.json", "issued.json")


@dataclass(slots=True)
class DirectProgress:
    """How one certificate stands. Losing it loses no safety: it is rebuilt from ``issued.json``.

    Attributes:
        generation: the newest issued; 0 is none.
        not_before, not_after: its leaf's, unix seconds.
        issued_at: unix seconds.
        leaf_sha256: hex.
        made_for: what it was ordered for, to see later whether something else is wanted.
        due_at, reason: when the next one is to be ordered, and why then.
        advice: the CA's renewal information as :class:`shared.issuing.renewal.Advice` keeps it.
        look_at: when the CA may be asked for it again.
        hurried: moments of renewals that were made because a window was past.
        renew: in words, why one is wanted at once; empty if not.
        persist_until: name to unix seconds at which its dns-persist-01 record ends, as it was seen
            when it was used last.
        failures: attempts that failed in a row.
        paused_at, paused_until: no attempt is made in between.
        error: the last failure, until the next success.
        standings: directory URL to how that CA stands, as
            :class:`shared.issuing.ca_choice.Standing` keeps it; empty while there is one CA.
        issued_by: directory URL of the CA that issued the newest generation.
    """

    generation: int = 0
    not_before: int = 0
    not_after: int = 0
    issued_at: int = 0
    leaf_sha256: str = ""
    made_for: str = ""
    due_at: int = 0
    reason: str = ""
    advice: dict[str, Any] | None = None
    look_at: int = NO_MOMENT
    hurried: list[int] = field(default_factory=list)
    renew: str = ""
    persist_until: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    paused_at: int = 0
    paused_until: int = 0
    error: LastError | None = None
    standings: dict[str, dict[str, Any]] = field(default_factory=dict)
    issued_by: str = ""

    @classmethod
    def decode(cls, data: bytes) -> DirectProgress | None:
        """Read it back; ``None`` for what does not fit (another release, damage)."""
        try:
            values: dict[str, Any] = json.loads(data)
            error = values.pop("error")
            return cls(**values, error=None if error is None else LastError(**error))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to get a generation; at most one order belongs to it.

    Attributes:
        key, csr: PEM.
        made_for: see :class:`DirectProgress`.
        begun: an order may have been made of which nothing is recorded.
        hurried: it is made because the CA's window was past.
    """

    generation: int
    names: tuple[str, ...]
    made_for: str
    directory: str
    key: str = field(repr=False)
    csr: str
    begun: bool = False
    order_url: str | None = None
    hurried: bool = False


@dataclass(frozen=True, slots=True)
class Issued:
    """The newest generation, as it is installed.

    Attributes:
        key, chain: PEM; the chain is leaf first.
        account: URL of the ACME account that ordered it.
        hurried: see :class:`Attempt`.
    """

    generation: int
    names: tuple[str, ...]
    made_for: str
    directory: str
    account: str
    key: str = field(repr=False)
    chain: str
    issued_at: int
    hurried: bool = False


T = TypeVar("T", Attempt, Issued)


def fingerprint(wanted: DirectCertificate, *directories: str) -> str:
    """Return what a generation is ordered for, in a form that can be compared.

    Args:
        directories: of all its CAs: whichever of them issues, it is what is wanted.
    """
    return json.dumps(
        [wanted.names, wanted.key_algorithm, wanted.profile, *directories], separators=(",", ":")
    )


class DirectFiles:
    """The files of all direct certificates of one machine."""

    def __init__(self, state_directory: Path) -> None:
        self.path = state_directory / DIRECTORY

    @property
    def lock_path(self) -> Path:
        """Held by whoever talks to a CA, so that two runs make one order."""
        return self.path / "lock"

    def create(self) -> None:
        """Make the directories. Raises ``LooseFileMode``, ``ConfigurationError``."""
        private_directory(self.path, create=True)
        private_directory(self.path / "certificates", create=True)

    def of(self, certificate: str) -> CertificateFiles:
        return CertificateFiles(self.path / "certificates" / certificate)

    def certificates(self) -> list[str]:
        """Return the ids of all certificates of which something is kept."""
        above = self.path / "certificates"
        return sorted(one.name for one in above.iterdir()) if above.is_dir() else []

    # --- the account --------------------------------------------------------------------------

    def account_key(self) -> bytes:
        """Return the PEM. Raises ``ConfigurationError`` if there is none."""
        content = read_private(self.path / "account.key")
        if content is None:
            raise ConfigurationError(
                f"There is no ACME account key {self.path / 'account.key'}.",
                do="Restore it from a backup, or make one: internal-puller direct init.",
            )
        return content

    def has_account_key(self) -> bool:
        return read_private(self.path / "account.key") is not None

    def save_account_key(self, pem: bytes) -> None:
        write_private(self.path / "account.key", pem)

    def next_account_key(self) -> bytes | None:
        """Return the PEM of the key that a roll-over under way gives the account."""
        return read_private(self.path / "account.key.next")

    def save_next_account_key(self, pem: bytes) -> None:
        write_private(self.path / "account.key.next", pem)

    def take_next_account_key(self) -> None:
        """Let it be the account's key: written whole before the other is removed."""
        following = self.next_account_key()
        if following is not None:
            self.save_account_key(following)
            (self.path / "account.key.next").unlink()

    def account_url(self, directory: str) -> str | None:
        return self._accounts().get(directory)

    def directories(self) -> list[str]:
        """Return the directory URLs of all CAs where there is an account."""
        return sorted(self._accounts())

    def save_account_url(self, directory: str, url: str | None) -> None:
        """Keep the account's URL; ``None`` forgets it."""
        accounts = {key: value for key, value in self._accounts().items() if key != directory}
        if url is not None:
            accounts[directory] = url
        write_private(self.path / "accounts.json", json.dumps(accounts).encode())

    def _accounts(self) -> dict[str, str]:
        content = read_private(self.path / "accounts.json")
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class CertificateFiles:
    """The files of one direct certificate."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def progress(self) -> DirectProgress | None:
        """Return how it stands; ``None`` if nothing is known (any more)."""
        content = read_private(self.path / "progress.json")
        return None if content is None else DirectProgress.decode(content)

    def save_progress(self, progress: DirectProgress) -> None:
        self._write("progress.json", asdict(progress))

    def attempt(self) -> Attempt | None:
        """Raises ``ConfigurationError``: the file is damaged."""
        values = self._read("attempt.json")
        return None if values is None else _made(Attempt, values, self.path / "attempt.json")

    def save_attempt(self, attempt: Attempt) -> None:
        self._write("attempt.json", asdict(attempt))

    def drop_attempt(self) -> None:
        (self.path / "attempt.json").unlink(missing_ok=True)

    def has_attempt(self) -> bool:
        return (self.path / "attempt.json").exists()

    def issued(self) -> Issued | None:
        """Raises ``ConfigurationError``: the file is damaged."""
        values = self._read("issued.json")
        return None if values is None else _made(Issued, values, self.path / "issued.json")

    def save_issued(self, issued: Issued) -> None:
        self._write("issued.json", asdict(issued))

    def sweep(self) -> None:
        sweep(self.path.parents[2], *self._way)

    def remove(self) -> None:
        """Delete everything, the keys first.

        Raises:
            ConfigurationError: it cannot be removed.
        """
        try:
            with opened(self.path.parents[2], *self._way) as place:
                for name in sorted(os.listdir(place), key=_KEYS.__contains__, reverse=True):  # noqa: PTH208
                    os.unlink(name, dir_fd=place)
            with opened(self.path.parents[2], *self._way[:-1]) as above:
                os.rmdir(self.path.name, dir_fd=above)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be removed: {error.strerror}.") from error

    @property
    def _way(self) -> tuple[str, ...]:
        """The names that lead here from the state directory."""
        return self.path.parts[-3:]

    def _read(self, name: str) -> dict[str, Any] | None:
        content = read_private(self.path / name)
        if content is None:
            return None
        try:
            values = json.loads(content)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise _damaged(self.path / name)
        return values

    def _write(self, name: str, values: dict[str, Any]) -> None:
        private_directory(self.path, create=True)
        write_private(self.path / name, json.dumps(values, separators=(",", ":")).encode())


def _made(kind: type[T], values: dict[str, Any], path: Path) -> T:
    try:
        return kind(**values | {"names": tuple(values["names"])})
    except (TypeError, KeyError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is damaged.", do="Remove it: a new certificate is ordered, the old one serves on."
    )
