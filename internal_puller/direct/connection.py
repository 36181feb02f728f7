"""The connection to the CA of direct mode: outward only, directly or through a proxy."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import certifi

from internal_puller.config import Settings
from internal_puller.direct.record import DirectFiles
from internal_puller.direct.settings import DirectSettings
from internal_puller.files import read_private, write_private
from internal_puller.proxies import choose_proxy
from shared.acme.client import AcmeClient
from shared.acme.jwk import thumbprint, to_jwk
from shared.acme.keys import AccountKey, load_account_key
from shared.acme.ports import Clock, ExternalAccountBinding, Failpoint, Sleep, no_failpoint
from shared.errors import ConfigurationError
from shared.host.secret_file import read_secret_file


class DirectConnection:
    """Gives a client of the CA for each run.

    Args:
        settings: of the puller: its proxy, and its roots for a proxy that opens TLS.
        failpoint: see :class:`shared.acme.client.AcmeClient`.
    """

    def __init__(
        self,
        direct: DirectSettings,
        settings: Settings,
        files: DirectFiles,
        *,
        clock: Clock = time.time,
        sleep: Sleep = time.sleep,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._direct, self._settings, self._files = direct, settings, files
        self._clock, self._sleep, self._failpoint = clock, sleep, failpoint

    def open(self, *, with_account: bool = True) -> AcmeClient:
        """Return a client whose CA agrees with us on the time; the caller closes it.

        Args:
            with_account: register the account if the CA has none of ours yet.

        Raises:
            ClockWrong: nothing may be ordered.
            IssuanceError, ConfigurationError: no connection, or no account.
        """
        key = load_account_key(self._files.account_key())
        client = self._client(key)
        try:
            client.check_clock()
            if client.account_url is not None:
                client = self._with_known_key(client)
            if with_account and client.account_url is None:
                self._register(client)
        except BaseException:
            client.close()
            raise
        return client

    def is_rolled_over(self, client: AcmeClient) -> bool:
        """Tell whether this client signs with the key of a roll-over under way."""
        following = self._files.next_account_key()
        return following is not None and client.thumbprint == thumbprint(
            to_jwk(load_account_key(following))
        )

    def _with_known_key(self, client: AcmeClient) -> AcmeClient:
        """While a roll-over is under way, find out which of the keys the CA knows.

        The one that ended it may have died between the CA's answer and our record of it.
        """
        following = self._files.next_account_key()
        if following is None:
            return client
        other = self._client(load_account_key(following), known=False)
        try:
            known = other.knows_key() and other.account_url == client.account_url
        except BaseException:
            other.close()
            raise
        (client if known else other).close()
        return other if known else client

    def _client(self, key: AccountKey, *, known: bool = True) -> AcmeClient:
        direct = self._direct
        return AcmeClient(
            direct.directory,
            key,
            trusted_roots=self._roots(),
            proxy=self._proxy(),
            account_url=self._files.account_url(direct.directory) if known else None,
            clock=self._clock,
            sleep=self._sleep,
            failpoint=self._failpoint,
        )

    def forget_account(self) -> None:
        """The CA does not know it any more: register again at the next connection."""
        self._files.save_account_url(self._direct.directory, None)

    def _register(self, client: AcmeClient) -> None:
        url = client.ensure_account(
            self._direct.contact, terms_agreed=self._direct.terms_agreed, eab=self._binding()
        )
        self._files.save_account_url(self._direct.directory, url)

    def _binding(self) -> ExternalAccountBinding | None:
        path = self._direct.eab_hmac_key_file
        if path is None or self._direct.eab_key_id is None:
            return None
        key = read_secret_file(path, "the EAB key").decode("ascii", errors="replace").strip()
        return ExternalAccountBinding(self._direct.eab_key_id, key)

    def _proxy(self) -> str | None:
        own = self._direct.proxy
        host = urlsplit(self._direct.directory).hostname or ""
        return choose_proxy(self._settings.proxy if own is None else own, host)

    def _roots(self) -> Path | None:
        """Return the file of roots for the CA's HTTPS: with those of a proxy that opens TLS."""
        more = self._settings.roots_file
        if more is None:
            return self._direct.ca_root
        usual = self._direct.ca_root or Path(certifi.where())
        try:
            content = usual.read_bytes() + b"\n" + more.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"The roots in {error.filename} cannot be read: {error.strerror}."
            ) from error
        path = self._files.path / "roots.pem"
        if read_private(path) != content:
            write_private(path, content)
        return path
