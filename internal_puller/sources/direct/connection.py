"""The connection to the CA of direct mode: outward only, directly or through a proxy."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from internal_puller.settings.config import Settings
from internal_puller.settings.proxies import choose_proxy
from internal_puller.sources.direct.record import DirectFiles
from internal_puller.sources.direct.settings import DirectSettings
from internal_puller.state.files import read_private, write_private
from shared.acme.client import AcmeClient
from shared.acme.jwk import thumbprint, to_jwk
from shared.acme.keys import AccountKey, load_account_key
from shared.acme.ports import Clock, ExternalAccountBinding, Failpoint, Sleep, no_failpoint
from shared.contract.errors import CaNotConfigured, ConfigurationError
from shared.host.public_roots import public_roots_file
from shared.host.trusted_file import SECRET, read_trusted


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

    def open(self, directory: str, *, with_account: bool = True) -> AcmeClient:
        """Return a client whose CA agrees with us on the time; the caller closes it.

        Args:
            directory: URL of the CA's directory; one that the file does not know is reached like
                the default one.
            with_account: register the account if the CA has none of ours yet.

        Raises:
            ClockWrong: nothing may be ordered.
            IssuanceError, ConfigurationError: no connection, or no account.
        """
        direct = self._direct.at(directory)
        client = self._client(direct, load_account_key(self._files.account_key()))
        try:
            client.check_clock()
            if client.account_url is not None:
                client = self._with_known_key(direct, client)
            if with_account and client.account_url is None:
                self._register(client, direct)
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

    def _with_known_key(self, direct: DirectSettings, client: AcmeClient) -> AcmeClient:
        """While a roll-over is under way, find out which of the keys the CA knows.

        The one that ended it may have died between the CA's answer and our record of it.
        """
        following = self._files.next_account_key()
        if following is None:
            return client
        other = self._client(direct, load_account_key(following), known=False)
        try:
            known = other.knows_key() and other.account_url == client.account_url
        except BaseException:
            other.close()
            raise
        (client if known else other).close()
        return other if known else client

    def _client(self, direct: DirectSettings, key: AccountKey, *, known: bool = True) -> AcmeClient:
        return AcmeClient(
            direct.directory,
            key,
            trusted_roots=self._roots(direct),
            proxy=self._proxy(direct),
            account_url=self._files.account_url(direct.directory) if known else None,
            clock=self._clock,
            sleep=self._sleep,
            failpoint=self._failpoint,
        )

    def forget_account(self, directory: str) -> None:
        """The CA does not know it any more: register again at the next connection."""
        self._files.save_account_url(directory, None)

    def _register(self, client: AcmeClient, direct: DirectSettings) -> None:
        url = client.ensure_account(
            direct.contact, terms_agreed=direct.terms_agreed, eab=_binding(direct)
        )
        self._files.save_account_url(direct.directory, url)

    def _proxy(self, direct: DirectSettings) -> str | None:
        own = direct.proxy
        host = urlsplit(direct.directory).hostname or ""
        return choose_proxy(self._settings.proxy if own is None else own, host)

    def _roots(self, direct: DirectSettings) -> Path | None:
        """Return the file of roots for the CA's HTTPS: with those of a proxy that opens TLS."""
        more = self._settings.roots_file
        if more is None:
            return direct.ca_root
        content = b"\n".join(
            (
                public_roots_file().read_bytes()
                if direct.ca_root is None
                else read_trusted(direct.ca_root, "file of roots"),
                read_trusted(more, "file of roots"),
            )
        )
        path = self._files.path / "roots.pem"
        if read_private(path) != content:
            write_private(path, content)
        return path


def _binding(direct: DirectSettings) -> ExternalAccountBinding | None:
    """
    Raises:
        CaNotConfigured: the key of the external account binding is unusable.
    """
    path = direct.eab_hmac_key_file
    if path is None or direct.eab_key_id is None:
        return None
    try:
        secret = read_trusted(path, "EAB key file", mask=SECRET)
    except ConfigurationError as error:
        raise CaNotConfigured(error.what, do=error.do) from error
    key = secret.decode("ascii", errors="replace").strip()
    return ExternalAccountBinding(direct.eab_key_id, key)
