"""Writes records through the HTTP API of acme-dns, which serves nothing but challenge zones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests

from shared.acme.dns01.names import TxtRecord
from shared.acme.dns01.settings import AcmeDnsSettings, check_acme_dns_url
from shared.acme.problems import plain_text
from shared.acme.watchdog import Watchdog, WatchedAdapter
from shared.contract.errors import ConfigurationError, DnsFailure
from shared.host.public_roots import public_roots_file
from shared.host.trusted_file import SECRET, check_trusted, read_trusted

_MOST_OCTETS = 65536
_WHAT = "file of acme-dns accounts"
_MEMBERS = ("username", "password", "subdomain", "fulldomain")


@dataclass(frozen=True)
class AcmeDnsAccount:
    """What acme-dns gave out when a domain was registered there."""

    url: str
    username: str
    subdomain: str
    fulldomain: str
    password: str = field(repr=False)


class AcmeDnsPublisher:
    """One POST to ``/update`` for each value; acme-dns keeps the last two of an account.

    Raises:
        ConfigurationError, LooseFileMode: the accounts or the roots cannot be used.
    """

    needs_zone = False

    def __init__(self, settings: AcmeDnsSettings) -> None:
        self._settings = settings
        self._accounts = read_accounts(settings)
        if settings.ca_root is not None:
            check_trusted(settings.ca_root, "file of roots of dns01.acme_dns.ca_root")
        if settings.proxy is not None and not settings.proxy.startswith(("http://", "https://")):
            raise ConfigurationError("dns01.acme_dns.proxy is no http or https URL.")

    def add(self, record: TxtRecord) -> None:
        """
        Raises:
            DnsFailure: no account, no CNAME to it, refused, or no answer.
        """
        account = self._account(record)
        body = {"subdomain": account.subdomain, "txt": record.value}
        headers = {"X-Api-User": account.username, "X-Api-Key": account.password}
        status, answer = self._post(f"{account.url}/update", body, headers)
        if status == 200 and answer.get("txt") == record.value:
            return
        why = plain_text(answer.get("error")) or "no such answer as acme-dns gives"
        raise DnsFailure(
            f"The acme-dns server {account.url} refused the record for {record.domain}: HTTP "
            f"status {status}, {why}.",
            do="Compare the account with the server's, and the addresses it allows updates from.",
        )

    def remove(self, record: TxtRecord) -> None:
        """Do nothing: acme-dns has no such call, and newer values take an old one's place."""

    def _account(self, record: TxtRecord) -> AcmeDnsAccount:
        account = self._accounts.get(record.domain)
        if account is None:
            raise DnsFailure(
                f"{self._settings.accounts_file} has no acme-dns account for {record.domain}; it "
                f"has those of {', '.join(sorted(self._accounts)) or 'no domain'}.",
                do="Register the domain at the acme-dns server and set the CNAME.",
            )
        if record.owner != account.fulldomain:
            raise DnsFailure(
                f"_acme-challenge.{record.domain} leads to {record.owner}, not to its acme-dns "
                "account.",
                do=f"Set in the public zone: _acme-challenge.{record.domain}. CNAME "
                f"{account.fulldomain}.",
            )
        return account

    def _post(
        self, url: str, body: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, object]]:
        """Return status and JSON members of the whole answer, within one total time."""
        watchdog = Watchdog()
        try:
            with requests.Session() as session, watchdog.within(self._settings.timeout):
                session.trust_env = False
                for scheme in ("http://", "https://"):
                    session.mount(scheme, WatchedAdapter(watchdog))
                return self._send(session, url, body, headers)
        except (requests.RequestException, OSError) as error:
            late = f"no whole answer within {self._settings.timeout:g} s"
            why = late if watchdog.bit else plain_text(str(error))
            raise DnsFailure(
                f"No usable answer from the acme-dns server {url}: {why}.",
                do="Look at the server and the network between.",
            ) from error

    def _send(
        self,
        session: requests.Session,
        url: str,
        body: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> tuple[int, Mapping[str, object]]:
        own = self._settings
        with session.post(
            url,
            json=body,
            headers={**headers, "Accept-Encoding": "identity"},
            verify=str(own.ca_root or public_roots_file()),
            proxies={} if own.proxy is None else {"http": own.proxy, "https": own.proxy},
            timeout=own.timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            octets = b""
            for part in response.iter_content(4096):
                octets += part
                if len(octets) > _MOST_OCTETS:
                    break
        return response.status_code, _members(octets)


def _members(octets: bytes) -> Mapping[str, object]:
    try:
        decoded = json.loads(octets)
    except (ValueError, RecursionError):
        decoded = None
    return decoded if isinstance(decoded, dict) else {}


def read_accounts(settings: AcmeDnsSettings) -> dict[str, AcmeDnsAccount]:
    """Return the accounts by domain, as clients of acme-dns keep them in JSON.

    Raises:
        ConfigurationError: missing, malformed, or an account without its server.
        LooseFileMode: others may read it.
    """
    path = settings.accounts_file
    try:
        document = json.loads(read_trusted(path, _WHAT, mask=SECRET))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"The {_WHAT} {path} is no JSON.") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"The {_WHAT} {path} is no JSON object of domain to account.")
    return {
        str(domain).lower().rstrip("."): _read_account(path, str(domain), members, settings.url)
        for domain, members in document.items()
    }


def _read_account(path: Path, domain: str, members: object, url: str | None) -> AcmeDnsAccount:
    found = members if isinstance(members, dict) else {}
    missing = [name for name in _MEMBERS if not isinstance(found.get(name), str)]
    if missing:
        raise ConfigurationError(
            f"The acme-dns account of {domain:.100} in {path} has no {missing[0]}."
        )
    server = found.get("server_url") or url
    if not isinstance(server, str):
        raise ConfigurationError(
            f"The acme-dns account of {domain:.100} in {path} does not say its server.",
            do="Set dns01.acme_dns.url.",
        )
    return AcmeDnsAccount(
        url=check_acme_dns_url(server),
        username=found["username"],
        subdomain=found["subdomain"],
        fulldomain=found["fulldomain"].lower().rstrip("."),
        password=found["password"],
    )
