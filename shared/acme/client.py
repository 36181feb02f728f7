"""The calls of RFC 8555 to one CA for one account, each one bounded and its answer checked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.b64 import b64encode
from requests.utils import parse_header_links

from shared.acme.account_calls import AccountCalls
from shared.acme.answers import (
    read_authorization,
    read_challenge,
    read_order,
    read_order_list,
)
from shared.acme.ari import ari_certificate_id, read_renewal_window
from shared.acme.chain import has_issuer
from shared.acme.jwk import key_authorization
from shared.acme.keys import AccountKey
from shared.acme.network import Answer
from shared.acme.ports import (
    AuthorizationState,
    ChallengeState,
    DirectoryInfo,
    OrderState,
    PendingChallenge,
    RenewalWindow,
)
from shared.acme.problems import problem_code
from shared.contract.errors import (
    CaNotConfigured,
    IssuanceRejected,
    IssuanceUnavailable,
    OrderGone,
)

MAX_CLOCK_SKEW = 300.0
_MOST_PAGES = 50
_MOST_EXAMINED = 100
_MOST_ALTERNATES = 10


class AcmeClient(AccountCalls):
    """:class:`AcmeConnection`, with everything that can be asked over it."""

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

    def revoke(
        self, certificate_pem: bytes, reason: int = 0, *, key: AccountKey | None = None
    ) -> bool:
        """Revoke a certificate (RFC 8555 section 7.6); tell whether it was not revoked before.

        Args:
            certificate_pem: the leaf, or a chain that begins with it.
            reason: RFC 5280 section 5.3.1; see ``shared.acme.revocation``.
            key: the certificate's own key; without it the account asks, which has to be the one
                that ordered it, or one that holds authorizations for all its names.
        """
        url = self.directory().revoke_cert
        if url is None:
            raise IssuanceRejected(f"The CA {self._origin.host} offers no revocation.")
        leaf = x509.load_pem_x509_certificate(certificate_pem).public_bytes(Encoding.DER)
        payload = {"certificate": b64encode(leaf).decode("ascii"), "reason": reason}
        try:
            with self._call("revoke"), self._signing_with(key):
                self._post(url, payload)
        except IssuanceRejected as error:
            if problem_code(error.problem) == "alreadyRevoked":
                return False
            raise
        return True

    def renewal_info(self, leaf_pem: bytes) -> RenewalWindow | None:
        """Return when the CA suggests to renew (RFC 9773); None where it has no opinion."""
        base = self.directory().renewal_info
        if base is None:
            return None
        with self._call("renewal_info"):
            url = f"{base.rstrip('/')}/{ari_certificate_id(leaf_pem)}"
            return read_renewal_window(self._network.fetch(url))


def _stumbled(error: IssuanceUnavailable) -> bool:
    """A CA that stumbles over its own list must not be asked for it for ever."""
    return (error.problem or {}).get("status") in (500, 501)


def _advertised(profile: str, directory: DirectoryInfo) -> str:
    if profile in directory.profiles:
        return profile
    offered = ", ".join(sorted(directory.profiles)) or "none"
    raise CaNotConfigured(
        f"The CA {urlsplit(directory.url).hostname} does not offer the certificate profile "
        f"{profile!r:.80}; it offers: {offered:.200}.",
        do="Ask for one that it offers, or for none.",
    )


def _links(answer: Answer, relation: str) -> list[str]:
    """Return the targets of all Link headers of one relation (RFC 8288)."""
    parsed = parse_header_links(answer.headers.get("Link", ""))
    return [str(one["url"]) for one in parsed if one.get("rel") == relation]
