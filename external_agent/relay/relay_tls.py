"""The relay's own public certificate (``relay.tls = "acme"``): wanted, keyed, and put in place.

It is a certificate like the others, ordered by the same engine, but nobody pulls it: its key is
made here and stays here, because this process serves with it. Key and chain are files named after
the key, so a pair never mixes, whenever the process is killed.

    <state>/relay-tls/<SPKI SHA-256>.key    0600, durable before anything is ordered
    <state>/relay-tls/<SPKI SHA-256>.pem    the chain, once it is issued
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from external_agent.facts.policy import RELAY_CERTIFICATE, wanted_names
from external_agent.records.rows import CertificateRow, PreparedKey
from external_agent.settings import keys
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.contract.errors import ConfigurationError, NameRefused, PolicyError
from shared.contract.identifiers import DnsName
from shared.contract.key_policy import generate_key, key_to_pem
from shared.contract.x509 import make_csr, spki_sha256
from shared.issuing.renewal import HOUR

DIRECTORY = "relay-tls"


@dataclass(frozen=True, slots=True)
class Pair:
    """Files to serve with, until ``not_after`` (unix seconds)."""

    certificate: Path
    key: Path
    not_after: int


def relay_names(settings: Settings) -> tuple[str, ...]:
    """Return the host names under which pullers reach this agent.

    Raises:
        ConfigurationError: one is no name that a public CA signs, or the challenge cannot do it.
    """
    hosts = [urlsplit(url).hostname or "" for url in settings.relay_origins]
    try:
        return tuple(sorted(wanted_names(hosts, settings.relay.challenge)))
    except (NameRefused, PolicyError) as error:
        raise ConfigurationError(
            f'relay.tls = "acme" cannot be: {error.what}',
            do="Give relay.url a public host name, or use another relay.tls.",
        ) from error


def settle(store: Store, settings: Settings, now: int) -> None:
    """Let the store want what the settings say: this certificate, changed, or none.

    Raises:
        ConfigurationError: see :func:`relay_names`. StoreUnavailable.
    """
    row = store.certificate(RELAY_CERTIFICATE)
    present = row is not None and row.removed_at is None
    if settings.relay.tls != "acme":
        if present:
            store.remove_certificate(RELAY_CERTIFICATE, now=now, actor="settings")
        return
    names, directory = relay_names(settings), settings.acme.directory
    challenge = settings.relay.challenge
    if row is None or not present:
        store.add_certificate(
            RELAY_CERTIFICATE,
            names,
            directory_url=directory,
            cas=(directory,),
            challenge=challenge,
            profile=settings.acme.profile,
            now=now,
            actor="settings",
        )
    elif (row.names, row.challenge, row.cas) != (names, challenge, (directory,)):
        store.change_certificate(
            RELAY_CERTIFICATE,
            names=None if row.names == names else names,
            challenge=None if row.challenge == challenge else challenge,
            cas=() if row.cas == (directory,) else (directory,),
            now=now,
            actor="settings",
        )


class RelayKeys:
    """The files of the relay's own certificate.

    Args:
        state_directory: of the agent.
    """

    def __init__(self, store: Store, state_directory: Path) -> None:
        self._store = store
        self._directory = state_directory / DIRECTORY

    def prepare(self, row: CertificateRow) -> PreparedKey:
        """Make a key, durable before anything is ordered with it, and its CSR.

        Raises:
            ConfigurationError, LooseFileMode: it cannot be written.
        """
        keys.make_directory(self._directory)
        key = generate_key(row.key_algorithm)
        spki = spki_sha256(key)
        keys.write_secret(self._directory / f"{spki}.key", key_to_pem(key))
        csr = make_csr(key, [DnsName.parse(name) for name in row.names])
        return PreparedKey(csr.public_bytes(Encoding.PEM), spki, {})

    def pair(self, now: int) -> Pair | None:
        """Return what to serve with now; ``None`` before the first, and when it has expired.

        Raises:
            ConfigurationError, LooseFileMode: the key cannot be read. StoreUnavailable.
        """
        row = self._store.certificate(RELAY_CERTIFICATE)
        newest = None if row is None else self._store.newest_issued(RELAY_CERTIFICATE)
        if row is None or row.removed_at is not None or newest is None or newest.chain is None:
            return None
        key = self._directory / f"{newest.spki_sha256}.key"
        if (newest.not_after or 0) <= now or not key.exists():
            return None
        keys.read_secret(key)
        chain = key.with_suffix(".pem")
        if not chain.exists():
            keys.write_secret(chain, newest.chain.encode("ascii"))
        self._remove_old(newest.spki_sha256, now)
        return Pair(chain, key, newest.not_after or 0)

    def ask_again_for_a_lost_key(self, now: int) -> None:
        """Without the key of the newest generation that is worth nothing: want another.

        Raises:
            StoreUnavailable: nothing could be written.
        """
        row = self._store.certificate(RELAY_CERTIFICATE)
        newest = self._store.newest_issued(RELAY_CERTIFICATE)
        if row is None or row.removed_at is not None or row.renewal_wanted or newest is None:
            return
        if not (self._directory / f"{newest.spki_sha256}.key").exists():
            self._store.request_renewal(
                RELAY_CERTIFICATE, "its key is not in the state directory", now=now, actor="agent"
            )

    def _remove_old(self, in_use: str, now: int) -> None:
        """Delete the keys of older generations; a young one may be of an attempt under way."""
        attempt = self._store.unfinished_attempt(RELAY_CERTIFICATE)
        wanted = {in_use, attempt.spki_sha256 if attempt else in_use}
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stem not in wanted and path.stat().st_mtime < now - HOUR:
                    path.unlink()
