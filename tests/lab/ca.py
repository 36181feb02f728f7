"""LabCa: a whole ACME CA in this process, put together and taken apart."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from .ca_accounts import Accounts
from .ca_authorizations import Authorizations
from .ca_certificates import Certificates
from .ca_faults import Faults
from .ca_http01 import Http01
from .ca_model import (
    Account,
    Issued,
    LogEntry,
    Options,
    Order,
    State,
    Window,
    frozen_profiles,
    seconds,
)
from .ca_orders import Orders
from .ca_pki import DAY, Hierarchy, listener_context, pem
from .ca_protocol import Exchange, Protocol, document
from .ca_validation import Validation
from .http_server import Answer, HttpServer
from .resolver import Resolver, as_resolver

PROFILES: dict[str, float | dt.timedelta] = {
    "classic": 90 * DAY,
    "tlsserver": 45 * DAY,
    "shortlived": 160 * 3600.0,
}
CHALLENGES = ("http-01", "dns-01", "dns-persist-01")


class LabCa:
    """An ACME CA over HTTPS that verifies what it is told and errs when it is told to.

    Args:
        resolver: a `Resolver` (such as `SplitDns.resolver`), a table of names and addresses, or
            None for a world in which every name is 127.0.0.1.
        http_port, https_port: where the world's ports 80 and 443 really are.
        host, port: where to listen; port 0 is any free one.
        public_name: the host in every URL; `host` when omitted.
        profiles: validity (seconds or timedelta) by profile; the first is the default one.
        validity: validity of orders without a profile, in seconds or timedelta.
        backdate: how long before now certificates begin; at most a tenth of their validity.
        clock: unix seconds; Date, validity and expiry follow it.
        challenges: the kinds offered.
        eab: HMAC keys by key id (bytes or base64url); None asks for no binding.
        order_reuse: give the pending or ready order for the same names again, as Boulder does.
        authorization_reuse: keep valid authorizations for later orders.
        asynchronous: finalize answers `processing` and issues in the background.
        settle: seconds that a poll may wait for background work before it says "not yet".
        retry_after: seconds sent with pending and processing answers; None sends none.
        persist_draft: 1 or 2, the draft of dns-persist-01.
        issuer_domains: the CA's names in CAA and dns-persist-01 records.
        terms_of_service: a URL that new accounts must agree to.
        caa: look CAA records up before issuing.
        ari: offer renewalInfo.
        orders_page: length of a page of an account's orders.
        refused_names: says which names policy refuses.
        perspectives: simultaneous http-01 fetches.
        validation_timeout: seconds for each step of an http-01 fetch.
        hierarchy: roots and intermediate of an earlier run, to go on with them.
    """

    def __init__(
        self,
        resolver: Resolver | Mapping[str, str | Iterable[str]] | None = None,
        http_port: int = 5002,
        https_port: int = 5001,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        public_name: str | None = None,
        profiles: Mapping[str, float | dt.timedelta] | None = PROFILES,
        validity: float | dt.timedelta | None = None,
        backdate: float = 3600.0,
        clock: Callable[[], float] = time.time,
        challenges: Sequence[str] = CHALLENGES,
        eab: Mapping[str, bytes | str] | None = None,
        order_reuse: bool = True,
        authorization_reuse: bool = False,
        asynchronous: bool = True,
        settle: float = 0.25,
        retry_after: int | None = 1,
        persist_draft: int = 1,
        issuer_domains: Sequence[str] = ("lab-ca.example",),
        terms_of_service: str | None = None,
        caa: bool = True,
        ari: bool = True,
        orders_page: int = 50,
        refused_names: Callable[[str], bool] = lambda name: False,
        perspectives: int = 1,
        validation_timeout: float = 10.0,
        hierarchy: Hierarchy | None = None,
    ) -> None:
        lengths = frozen_profiles(profiles or PROFILES)
        options = Options(
            profiles=lengths,
            default_profile=next(iter(lengths)),
            validity=None if validity is None else seconds(validity),
            backdate=backdate,
            challenges=tuple(challenges),
            eab=None if eab is None else {kid: _secret(key) for kid, key in eab.items()},
            order_reuse=order_reuse,
            authorization_reuse=authorization_reuse,
            asynchronous=asynchronous,
            settle=settle,
            retry_after=retry_after,
            persist_draft=persist_draft,
            issuer_domains=tuple(issuer_domains),
            terms_of_service=terms_of_service,
            caa=caa,
            ari=ari,
            orders_page=orders_page,
            refused_names=refused_names,
            with_profiles=bool(profiles),
        )
        name = public_name or host
        now = clock()
        # The listener's own certificate is judged by real clocks, whatever `clock` says.
        sans = sorted({"localhost", "127.0.0.1", "::1", name})
        context, self.tls_root_pem = listener_context(sans, time.time())
        self.state = State("", options, clock, hierarchy or Hierarchy(now))
        self._workers = ThreadPoolExecutor(32, thread_name_prefix="lab-ca")
        fetches = ThreadPoolExecutor(64, thread_name_prefix="lab-ca-fetch")
        self._pools = (self._workers, fetches)
        found = as_resolver(resolver)
        http01 = Http01(found, http_port, https_port, validation_timeout)
        self.validation = Validation(self.state, found, http01, fetches, perspectives)
        self._server = HttpServer(Protocol(self.state, self._endpoints()), host, port, context)
        self.host, self.port = host, self._server.port
        self.http_port, self.https_port = http_port, https_port
        shown = f"[{name}]" if ":" in name else name
        self.state.base = f"https://{shown}:{self.port}"
        self.directory_url = self.state.base + "/dir"

    def _endpoints(self) -> dict[str, Callable[[Exchange], Answer]]:
        accounts = Accounts(self.state)
        certificates = Certificates(self.state, self.validation.check_caa)
        background = self._workers.submit
        authorizations = Authorizations(self.state, background, self.validation.validate)
        orders = Orders(self.state, background, authorizations, certificates.issue)
        return {
            "directory": self._directory,
            "newNonce": self._new_nonce,
            "newAccount": accounts.create,
            "account": accounts.update,
            "orders": accounts.orders,
            "keyChange": accounts.change_key,
            "newOrder": orders.create,
            "order": orders.show,
            "finalize": orders.finalize,
            "authz": authorizations.show,
            "challenge": authorizations.challenge,
            "cert": certificates.download,
            "certAlternate": certificates.download,
            "revokeCert": certificates.revoke,
            "renewalInfo": certificates.renewal_info,
        }

    def _directory(self, exchange: Exchange) -> Answer:
        options, base, link = self.state.options, self.state.base, self.state.link
        meta: dict[str, Any] = {
            "website": "https://lab-ca.example/",
            "caaIdentities": list(options.issuer_domains),
            "externalAccountRequired": options.eab is not None,
        }
        if options.terms_of_service:
            meta["termsOfService"] = options.terms_of_service
        if options.with_profiles:
            meta["profiles"] = {
                name: f"valid for {length / 3600:g} hours"
                for name, length in options.profiles.items()
            }
        if options.persist_draft == 2 and "dns-persist-01" in options.challenges:
            meta["accountHashPrefix"] = f"{base}/account-hash/"
            meta["issuerDomainNames"] = list(options.issuer_domains)
        shown: dict[str, Any] = {
            "newNonce": link("newNonce", base + "/nonce"),
            "newAccount": link("newAccount", base + "/new-account"),
            "newOrder": link("newOrder", base + "/new-order"),
            "revokeCert": link("revokeCert", base + "/revoke"),
            "keyChange": link("keyChange", base + "/key-change"),
            "meta": meta,
        }
        if options.ari:
            shown["renewalInfo"] = link("renewalInfo", base + "/renewal-info")
        return document(shown)

    def _new_nonce(self, exchange: Exchange) -> Answer:
        return Answer(200 if exchange.request.method == "HEAD" else 204)

    # --- running ---

    def start(self) -> Self:
        """Begin to answer."""
        self._server.start()
        return self

    def close(self) -> None:
        """Stop; waits for the threads."""
        self.state.stopping.set()
        self._server.close()
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- what a test looks at and changes ---

    @property
    def faults(self) -> Faults:
        """What is to go wrong."""
        return self.state.faults

    @property
    def root_pem(self) -> str:
        """The root of the main chain."""
        return pem([self.state.pki.root.certificate])

    @property
    def alternate_root_pem(self) -> str:
        """The root of the alternate chain."""
        return pem([self.state.pki.alternate_root.certificate])

    @property
    def log(self) -> list[LogEntry]:
        """Every request so far, oldest first."""
        return list(self.state.log)

    @property
    def orders(self) -> list[Order]:
        """Every order ever created, oldest first."""
        return list(self.state.orders)

    @property
    def issued(self) -> list[Issued]:
        """Every certificate ever issued, oldest first."""
        return list(self.state.issued)

    @property
    def accounts(self) -> list[Account]:
        """Every account ever created."""
        return list(self.state.accounts.values())

    @property
    def revoked(self) -> dict[int, int]:
        """Reason by serial number."""
        return dict(self.state.revoked)

    def requests(self, resource: str) -> list[LogEntry]:
        """Return the log of one resource, such as ``newOrder``."""
        return [entry for entry in self.log if entry.resource == resource]

    def wait_for(self, condition: Callable[[LabCa], bool], timeout: float = 10.0) -> None:
        """Wait until `condition(ca)` holds; AssertionError after `timeout` seconds."""
        with self.state.changed:
            assert self.state.changed.wait_for(lambda: condition(self), timeout), (
                f"the CA did not get there in {timeout} s"
            )

    def set_renewal_window(
        self, window: Window | Callable[[Issued], Window] | None, certid: str | None = None
    ) -> None:
        """Suggest this window (unix seconds) to everybody, or for one certificate."""
        if certid is None:
            self.state.renewal_window = window
        else:
            assert isinstance(window, tuple)
            self.state.renewal_windows[certid] = window

    def set_renewal_answer(
        self, *, retry_after: int | None = 21600, explanation_url: str | None = None
    ) -> None:
        """Set what renewalInfo says beside the window."""
        self.state.renewal_retry_after = retry_after
        self.state.explanation_url = explanation_url

    def deactivate(self, account: Account) -> None:
        """Deactivate an account from the CA's side."""
        with self.state.changed:
            account.status = "revoked"

    def invalidate(self, order: Order) -> None:
        """Let an order expire now."""
        with self.state.changed:
            order.expires = self.state.clock() - 1


def _secret(key: bytes | str) -> bytes:
    if isinstance(key, bytes):
        return key
    return base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that is free now, for a listener that cannot take port 0."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
