"""Connections to CAs: one client for each attempt, one account for each CA."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from external_agent.clock import Clock, system_clock
from external_agent.records.rows import AccountRow
from external_agent.store.interface import CertificateStore
from shared.acme.client import AcmeClient
from shared.acme.connection import Observe, unobserved
from shared.acme.jwk import thumbprint, to_jwk
from shared.acme.keys import AccountKey
from shared.acme.ports import ExternalAccountBinding, Failpoint, Sleep, no_failpoint
from shared.contract.errors import ConfigurationError


def no_binding() -> None:
    """The CA wants no external account binding."""


@dataclass(frozen=True)
class CaSettings:
    """How CAs are reached, and as whom.

    Attributes:
        account_key: the key of accounts that are opened now.
        next_key: the key that a roll-over under way gives them; the CA may know either.
        eab: called when an account is registered, and only then; a :class:`RelayError` it raises
            is that attempt's.
        profile: asked for where this CA is not the first of a certificate.
        preferred_chain: common name of the issuer that the chain should end in.
        trusted_roots: PEM file for the CA's HTTPS server; ``None`` for public roots.
        allowed_http_hosts: hosts that may be spoken to without TLS; for tests.
    """

    account_key: AccountKey = field(repr=False)
    next_key: AccountKey | None = field(default=None, repr=False)
    contact: tuple[str, ...] = ()
    terms_agreed: bool = False
    eab: Callable[[], ExternalAccountBinding | None] = no_binding
    trusted_roots: Path | None = None
    proxy: str | None = None
    profile: str | None = None
    preferred_chain: str | None = None
    allowed_http_hosts: frozenset[str] = frozenset()


class Connector(Protocol):
    """Gives a client of a CA, ready to order; the caller closes it."""

    def connect(self, directory_url: str, sleep: Sleep) -> AcmeClient: ...

    def visit(self, directory_url: str, sleep: Sleep) -> AcmeClient:
        """Give a client that may only ask; no account is registered."""

    def forget_account(self, directory_url: str) -> None:
        """The CA does not know it any more: register again at the next connection."""

    def profile(self, directory_url: str) -> str | None:
        """The profile that is set for this CA."""

    def preferred_chain(self, directory_url: str) -> str | None:
        """Common name of the issuer that the chain of this CA should end in, if it is set."""


class CertificateAuthorities:
    """A :class:`Connector` that registers an account where there is none yet.

    Args:
        settings: called with the directory URL for each connection, so that a reload takes effect
            with the next one.
    """

    def __init__(
        self,
        store: CertificateStore,
        settings: Callable[[str], CaSettings],
        *,
        clock: Callable[[], float] = time.time,
        now: Clock = system_clock,
        failpoint: Failpoint = no_failpoint,
        observe: Observe = unobserved,
    ) -> None:
        self._store, self._settings = store, settings
        self._clock, self._now, self._failpoint = clock, now, failpoint
        self._observe = observe
        self._lock = threading.Lock()
        self._forgotten: set[str] = set()

    def connect(self, directory_url: str, sleep: Sleep = time.sleep) -> AcmeClient:
        """Return a new client whose account stands and whose CA agrees with us on the time.

        Raises:
            ClockWrong: nothing may be prepared or ordered.
            ConfigurationError: no account, or it was deactivated.
            IssuanceError, StoreUnavailable: no account.
        """
        settings = self._settings(directory_url)
        row = None if directory_url in self._forgotten else self._store.account(directory_url)
        key = _key_of(settings, row)
        account = None if row is None or key is None else row.account_url
        client = self._client(settings, directory_url, key or settings.account_key, account, sleep)
        try:
            client.check_clock()
            if row is not None and key is not None and settings.next_key is not None:
                client = self._with_known_key(client, settings, row, sleep)
            if client.account_url is None:
                self._register(client, directory_url, settings)
        except BaseException:
            client.close()
            raise
        return client

    def visit(self, directory_url: str, sleep: Sleep = time.sleep) -> AcmeClient:
        """Return a new client for what needs no account: the directory, renewal information."""
        settings = self._settings(directory_url)
        return self._client(settings, directory_url, settings.account_key, None, sleep)

    def _with_known_key(
        self, client: AcmeClient, settings: CaSettings, row: AccountRow, sleep: Sleep
    ) -> AcmeClient:
        """While a roll-over is under way, find out which of the keys the CA knows.

        The one that ended it may have died between the CA's answer and our record of it.
        """
        assert settings.next_key is not None
        new = thumbprint(to_jwk(settings.next_key))
        if row.thumbprint == new:
            return client
        other = self._client(settings, row.directory_url, settings.next_key, None, sleep)
        try:
            known = other.knows_key() and other.account_url == row.account_url
        except BaseException:
            other.close()
            raise
        if not known:
            other.close()
            return client
        self._store.note_account_key(row.directory_url, new, now=self._now(), actor="agent")
        client.close()
        return other

    def _client(
        self,
        settings: CaSettings,
        directory_url: str,
        key: AccountKey,
        account_url: str | None,
        sleep: Sleep,
    ) -> AcmeClient:
        return AcmeClient(
            directory_url,
            key,
            trusted_roots=settings.trusted_roots,
            proxy=settings.proxy,
            account_url=account_url,
            clock=self._clock,
            sleep=sleep,
            allowed_http_hosts=settings.allowed_http_hosts,
            failpoint=self._failpoint,
            observe=self._observe,
        )

    def profile(self, directory_url: str) -> str | None:
        return self._settings(directory_url).profile

    def preferred_chain(self, directory_url: str) -> str | None:
        return self._settings(directory_url).preferred_chain

    def forget_account(self, directory_url: str) -> None:
        with self._lock:
            self._forgotten.add(directory_url)

    def _register(self, client: AcmeClient, directory_url: str, settings: CaSettings) -> None:
        """Many workers may come at once; a CA limits accounts, though it knows the key again."""
        with self._lock:
            url = client.ensure_account(
                settings.contact, terms_agreed=settings.terms_agreed, eab=settings.eab()
            )
            known = self._store.account(directory_url)
            if known is None or (known.account_url, known.thumbprint) != (url, client.thumbprint):
                self._store.save_account(
                    directory_url,
                    url,
                    settings.contact,
                    now=self._now(),
                    thumbprint=client.thumbprint,
                )
            self._forgotten.discard(directory_url)


def _key_of(settings: CaSettings, row: AccountRow | None) -> AccountKey | None:
    """Return the key of a known account; ``None`` where another account is to be opened.

    Raises:
        ConfigurationError: we deactivated it and have no other key yet.
    """
    if row is None:
        return None
    keys = [settings.account_key, *([settings.next_key] if settings.next_key else [])]
    by_thumbprint = {thumbprint(to_jwk(key)): key for key in keys}
    if row.status == "valid":
        return settings.account_key if row.thumbprint is None else by_thumbprint.get(row.thumbprint)
    if row.thumbprint in by_thumbprint:
        raise ConfigurationError(
            f"The ACME account at {row.directory_url} was deactivated, and an account key opens "
            "one account only.",
            do="To use this CA again: external-agent account roll-over, which makes another key.",
        )
    return None
