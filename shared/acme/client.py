"""The calls of RFC 8555 to one CA for one account, each one bounded and its answer checked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.b64 import b64encode
from requests.utils import parse_header_links

from shared.acme.answers import (
    read_authorization,
    read_challenge,
    read_directory,
    read_order,
    read_order_list,
)
from shared.acme.ari import ari_certificate_id, read_renewal_window
from shared.acme.chain import has_issuer
from shared.acme.jwk import key_authorization, thumbprint, to_jwk
from shared.acme.keys import AccountKey
from shared.acme.network import Answer, BoundedNetwork, Payload
from shared.acme.origin import Origin
from shared.acme.ports import (
    AuthorizationState,
    ChallengeState,
    Clock,
    DirectoryInfo,
    ExternalAccountBinding,
    Failpoint,
    OrderState,
    PendingChallenge,
    RenewalWindow,
    Sleep,
    no_failpoint,
)
from shared.acme.problems import plain_text
from shared.acme.registration import new_account
from shared.errors import (
    ClockWrong,
    ConfigurationError,
    IssuanceRejected,
    IssuanceUnavailable,
    OrderGone,
    RelayError,
)

MAX_CLOCK_SKEW = 300.0
_MOST_PAGES = 50
_MOST_EXAMINED = 100
_MOST_ALTERNATES = 10


Observe = Callable[[str, str, float, RelayError | None], None]
"""Is told of each call: the CA's host, the call, its seconds, and the error that it ended with."""


def unobserved(_host: str, _call: str, _seconds: float, _error: RelayError | None) -> None:
    """Count nothing."""


class AcmeClient:
    """One CA, one account key. Used by one thread at a time; many clients may share an account.

    Args:
        directory_url: https URL of the CA's directory.
        account_key: EC P-256, P-384 or RSA.
        trusted_roots: PEM file that the CA's HTTPS server must chain to; None for public roots.
        proxy: URL of an HTTP proxy; the environment is never asked.
        account_url: the account's URL, when it is known already.
        clock: unix seconds.
        timeout: total seconds for one HTTP exchange.
        allowed_http_hosts: hosts that may be spoken to without TLS; for tests.
        failpoint: called as ``acme.CALL.before`` and ``acme.CALL.after``.
        observe: called once for each call.

    Every call raises IssuanceUnavailable, IssuanceRateLimited or IssuanceRejected.
    """

    def __init__(
        self,
        directory_url: str,
        account_key: AccountKey,
        *,
        trusted_roots: Path | None = None,
        proxy: str | None = None,
        user_agent: str = "split-horizon-relay",
        account_url: str | None = None,
        clock: Clock = time.time,
        sleep: Sleep = time.sleep,
        timeout: float = 30.0,
        allowed_http_hosts: frozenset[str] = frozenset(),
        failpoint: Failpoint = no_failpoint,
        observe: Observe = unobserved,
    ) -> None:
        self._directory_url = directory_url
        self._origin = Origin(directory_url, allowed_http_hosts)
        self._jwk = to_jwk(account_key)
        self._clock = clock
        self._failpoint = failpoint
        self._observe = observe
        self._directory: DirectoryInfo | None = None
        self._network = BoundedNetwork(
            account_key,
            self._origin,
            trusted_roots=trusted_roots,
            proxy=proxy,
            user_agent=user_agent,
            clock=clock,
            sleep=sleep,
            timeout=timeout,
        )
        self.account_url = account_url
        self._network.use_account(account_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the CA."""
        self._network.session.close()

    # --- directory and account ---------------------------------------------------------------

    def directory(self) -> DirectoryInfo:
        """Return the directory, fetched once by each client."""
        if self._directory is None:
            with self._call("directory"):
                answer = self._network.fetch(self._directory_url)
                self._directory = read_directory(answer, self._origin)
        return self._directory

    def clock_skew(self) -> float | None:
        """Return the seconds by which the CA's last Date is ahead of our clock, if it sent one."""
        return self._network.clock_skew

    def check_clock(self) -> None:
        """
        Raises:
            ClockWrong: our clock and the CA's differ by more than 300 s.
        """
        self.directory()
        skew = self.clock_skew()
        if skew is not None and abs(skew) > MAX_CLOCK_SKEW:
            side = "behind" if skew > 0 else "ahead of"
            raise ClockWrong(
                f"This machine's clock is {abs(skew):.0f} s {side} that of {self._origin.host}."
            )

    def ensure_account(
        self,
        contact: Sequence[str] = (),
        *,
        terms_agreed: bool,
        eab: ExternalAccountBinding | None = None,
    ) -> str:
        """Register the key, or find its account again; return the account URL.

        With a known account URL nothing is created: the CA is only asked whether it stands
        (`onlyReturnExisting`, RFC 8555 section 7.3.1).

        Args:
            contact: URLs such as ``mailto:ops@example.com``.

        Raises:
            ConfigurationError: terms not agreed to, or an external account binding is missing.
            IssuanceRejected: the account is unknown or deactivated, or the CA refuses.
        """
        directory = self.directory()
        if self.account_url is None:
            payload = new_account(directory, self._jwk, contact, terms_agreed, eab)
        else:
            payload = {"onlyReturnExisting": True}
        self._network.use_account(None)
        try:
            with self._call("new_account"):
                answer = self._post(directory.new_account, payload)
        finally:
            self._network.use_account(self.account_url)
        location = self._origin.check(answer.headers.get("Location"), "account")
        status = plain_text(answer.document().get("status", "valid"))
        if status != "valid":
            raise IssuanceRejected(
                f"The ACME account {location} is {status:.40} at the CA.",
                do="Use another account key; a deactivated account cannot be opened again.",
            )
        self.account_url = location
        self._network.use_account(location)
        return location

    def confirm_account(self) -> str:
        """Ask the CA whether the account stands, by an empty POST-as-GET; return its URL.

        Raises:
            ConfigurationError: no account is known yet.
            IssuanceRejected: the CA does not know it, or it was deactivated.
        """
        url = self.account_url
        if url is None:
            raise ConfigurationError(f"There is no account at {self._origin.host} yet.")
        with self._call("fetch_account"):
            status = plain_text(self._post(url, None).document().get("status", "valid"))
        if status != "valid":
            raise IssuanceRejected(f"The ACME account {url} is {status:.40} at the CA.")
        return url

    # --- orders ------------------------------------------------------------------------------

    def new_order(
        self, names: Sequence[str], *, profile: str | None = None, replaces: str | None = None
    ) -> OrderState:
        """Create an order (RFC 8555 section 7.4).

        Args:
            profile: one that the directory advertises.
            replaces: RFC 9773 certificate id; left out where the CA has no renewalInfo.

        Raises:
            ConfigurationError: the CA does not advertise this profile.
        """
        directory = self.directory()
        payload: dict[str, object] = {
            "identifiers": [{"type": "dns", "value": name} for name in names]
        }
        if profile is not None:
            payload["profile"] = _advertised(profile, directory)
        if replaces is not None and directory.renewal_info is not None:
            payload["replaces"] = replaces
        with self._call("new_order"):
            answer = self._post(directory.new_order, payload)
        return read_order(answer, answer.headers.get("Location", ""), self._origin)

    def find_unfinished_order(self, names: Sequence[str]) -> OrderState | None:
        """Return a pending or ready order of this account for exactly these names, if listed.

        A CA may offer no list (RFC 8555 section 7.1.2.1); then there is nothing to find.
        """
        wanted = frozenset(names)
        for url in self._listed_orders()[:_MOST_EXAMINED]:
            try:
                order = self.fetch_order(url)
            except IssuanceRejected:
                continue
            except IssuanceUnavailable as error:
                if not _stumbled(error):
                    raise
                continue
            alive = order.expires is None or order.expires > self._clock()
            if order.names == wanted and order.status in ("pending", "ready") and alive:
                return order
        return None

    def _listed_orders(self) -> list[str]:
        """Return the URLs in the account's list, the last first; empty where there is no list."""
        if self.account_url is None:
            return []
        listed: list[str] = []
        try:
            with self._call("fetch_account"):
                account = self._post(self.account_url, None).decoded()
            if not isinstance(account, dict) or "orders" not in account:
                return []
            page = self._origin.check(account["orders"], "list of orders")
            for _ in range(_MOST_PAGES):
                with self._call("list_orders"):
                    answer = self._post(page, None)
                listed += read_order_list(answer, self._origin)
                following = _links(answer, "next")
                if not following:
                    break
                page = self._origin.check(following[0], "list of orders")
        except IssuanceRejected:
            pass
        except IssuanceUnavailable as error:
            if not _stumbled(error):
                raise
        return listed[::-1]

    def fetch_order(self, url: str) -> OrderState:
        """Return the order as it is now.

        Raises:
            OrderGone: the CA no longer has it.
        """
        try:
            with self._call("fetch_order"):
                return read_order(self._post(url, None), url, self._origin)
        except IssuanceRejected as error:
            if error.problem is not None and error.problem.get("status") in (404, 410):
                raise OrderGone(error.what, problem=error.problem) from error
            raise

    def fetch_authorization(self, url: str) -> AuthorizationState:
        """Return the authorization as it is now (RFC 8555 section 7.5)."""
        with self._call("fetch_authorization"):
            return read_authorization(self._post(url, None), url, self._origin)

    def key_authorization(self, token: str) -> str:
        """Return the key authorization of this account for a token (RFC 8555 section 8.1)."""
        return key_authorization(token, self._jwk)

    @property
    def thumbprint(self) -> str:
        """The account key's JWK thumbprint (RFC 7638), base64url."""
        return thumbprint(self._jwk)

    def answer_challenge(self, challenge: PendingChallenge) -> ChallengeState:
        """Tell the CA to look now, by `{}` (RFC 8555 section 7.5.1)."""
        with self._call("answer_challenge"):
            answer = self._post(challenge.url, {})
            return read_challenge({"url": challenge.url, **answer.document()}, self._origin)

    def finalize(self, order: OrderState, csr_pem: bytes) -> OrderState:
        """Send the CSR (RFC 8555 section 7.4)."""
        csr = x509.load_pem_x509_csr(csr_pem).public_bytes(Encoding.DER)
        payload: dict[str, object] = {"csr": b64encode(csr).decode("ascii")}
        with self._call("finalize"):
            return read_order(self._post(order.finalize, payload), order.url, self._origin)

    # --- certificates ------------------------------------------------------------------------

    def download_chain(self, url: str, preferred_chain: str | None = None) -> bytes:
        """Return the PEM chain at `url`, unchecked.

        Args:
            preferred_chain: common name of the issuer of the last certificate; an alternate chain
                is taken if it has it and the default has not (RFC 8555 section 7.4.2).
        """
        with self._call("download_chain"):
            answer = self._post(url, None)
            if preferred_chain is None or has_issuer(answer.body, preferred_chain):
                return answer.body
            for alternate in _links(answer, "alternate")[:_MOST_ALTERNATES]:
                with contextlib.suppress(IssuanceRejected):
                    other = self._post(self._origin.check(alternate, "alternate chain"), None).body
                    if has_issuer(other, preferred_chain):
                        return other
            return answer.body

    def revoke(self, certificate_pem: bytes, reason: int = 0) -> None:
        """Revoke a certificate of this account (RFC 8555 section 7.6; reasons of RFC 5280)."""
        url = self.directory().revoke_cert
        if url is None:
            raise IssuanceRejected(f"The CA {self._origin.host} offers no revocation.")
        leaf = x509.load_pem_x509_certificate(certificate_pem).public_bytes(Encoding.DER)
        with self._call("revoke"):
            encoded = b64encode(leaf).decode("ascii")
            self._post(url, {"certificate": encoded, "reason": reason})

    def renewal_info(self, leaf_pem: bytes) -> RenewalWindow | None:
        """Return when the CA suggests to renew (RFC 9773); None where it has no opinion."""
        base = self.directory().renewal_info
        if base is None:
            return None
        with self._call("renewal_info"):
            url = f"{base.rstrip('/')}/{ari_certificate_id(leaf_pem)}"
            return read_renewal_window(self._network.fetch(url))

    # --- beneath -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _call(self, name: str) -> Iterator[None]:
        self._failpoint(f"acme.{name}.before")
        began = time.monotonic()
        failure: RelayError | None = None
        try:
            yield
        except RelayError as error:
            failure = error
            raise
        finally:
            self._observe(self._origin.host, name, time.monotonic() - began, failure)
        self._failpoint(f"acme.{name}.after")

    def _post(self, url: str, payload: dict[str, object] | None) -> Answer:
        signed = None if payload is None else Payload(payload)
        return self._network.sign_and_post(url, self.directory().new_nonce, signed)


def _stumbled(error: IssuanceUnavailable) -> bool:
    """A CA that stumbles over its own list must not be asked for it for ever."""
    return (error.problem or {}).get("status") in (500, 501)


def _advertised(profile: str, directory: DirectoryInfo) -> str:
    if profile in directory.profiles:
        return profile
    offered = ", ".join(sorted(directory.profiles)) or "none"
    raise ConfigurationError(
        f"The CA does not offer the certificate profile {profile!r:.80}; it offers: {offered:.200}."
    )


def _links(answer: Answer, relation: str) -> list[str]:
    """Return the targets of all Link headers of one relation (RFC 8288)."""
    parsed = parse_header_links(answer.headers.get("Link", ""))
    return [str(one["url"]) for one in parsed if one.get("rel") == relation]
