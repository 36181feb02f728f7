"""Connections to CAs: one client for each attempt, one account for each CA."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from external_agent.clock import Clock, system_clock
from external_agent.store.interface import CertificateStore
from shared.acme.client import AcmeClient, Observe, unobserved
from shared.acme.keys import AccountKey
from shared.acme.ports import ExternalAccountBinding, Failpoint, Sleep, no_failpoint


def no_binding() -> None:
    """The CA wants no external account binding."""


@dataclass(frozen=True)
class CaSettings:
    """How CAs are reached, and as whom.

    Attributes:
        eab: called when an account is registered, and only then; a :class:`RelayError` it raises
            is that attempt's.
        trusted_roots: PEM file for the CA's HTTPS server; ``None`` for public roots.
        allowed_http_hosts: hosts that may be spoken to without TLS; for tests.
    """

    account_key: AccountKey = field(repr=False)
    contact: tuple[str, ...] = ()
    terms_agreed: bool = False
    eab: Callable[[], ExternalAccountBinding | None] = no_binding
    trusted_roots: Path | None = None
    proxy: str | None = None
    allowed_http_hosts: frozenset[str] = frozenset()


class Connector(Protocol):
    """Gives a client of a CA, ready to order; the caller closes it."""

    def connect(self, directory_url: str, sleep: Sleep) -> AcmeClient: ...

    def visit(self, directory_url: str, sleep: Sleep) -> AcmeClient:
        """Give a client that may only ask; no account is registered."""

    def forget_account(self, directory_url: str) -> None:
        """The CA does not know it any more: register again at the next connection."""


class CertificateAuthorities:
    """A :class:`Connector` that registers an account where there is none yet.

    Args:
        settings: called for each connection, so that a reload takes effect with the next one.
    """

    def __init__(
        self,
        store: CertificateStore,
        settings: Callable[[], CaSettings],
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
        self._accounts: dict[str, str] = {}
        self._forgotten: set[str] = set()

    def connect(self, directory_url: str, sleep: Sleep = time.sleep) -> AcmeClient:
        """Return a new client whose account stands and whose CA agrees with us on the time.

        Raises:
            ClockWrong: nothing may be prepared or ordered.
            IssuanceError, ConfigurationError, StoreUnavailable: no account.
        """
        settings = self._settings()
        client = self._client(settings, directory_url, self._known_account(directory_url), sleep)
        try:
            client.check_clock()
            if client.account_url is None:
                self._register(client, directory_url, settings)
        except BaseException:
            client.close()
            raise
        return client

    def visit(self, directory_url: str, sleep: Sleep = time.sleep) -> AcmeClient:
        """Return a new client for what needs no account: the directory, renewal information."""
        return self._client(self._settings(), directory_url, None, sleep)

    def _client(
        self, settings: CaSettings, directory_url: str, account_url: str | None, sleep: Sleep
    ) -> AcmeClient:
        return AcmeClient(
            directory_url,
            settings.account_key,
            trusted_roots=settings.trusted_roots,
            proxy=settings.proxy,
            account_url=account_url,
            clock=self._clock,
            sleep=sleep,
            allowed_http_hosts=settings.allowed_http_hosts,
            failpoint=self._failpoint,
            observe=self._observe,
        )

    def forget_account(self, directory_url: str) -> None:
        with self._lock:
            self._forgotten.add(directory_url)
            self._accounts.pop(directory_url, None)

    def _known_account(self, directory_url: str) -> str | None:
        if directory_url in self._forgotten:
            return None
        found = self._accounts.get(directory_url)
        if found is None and (row := self._store.account(directory_url)) is not None:
            found = self._accounts[directory_url] = row.account_url
        return found

    def _register(self, client: AcmeClient, directory_url: str, settings: CaSettings) -> None:
        """Many workers may come at once; a CA limits accounts, though it knows the key again."""
        with self._lock:
            url = client.ensure_account(
                settings.contact, terms_agreed=settings.terms_agreed, eab=settings.eab()
            )
            if self._accounts.get(directory_url) != url:
                self._store.save_account(directory_url, url, settings.contact, now=self._now())
                self._accounts[directory_url] = url
            self._forgotten.discard(directory_url)
