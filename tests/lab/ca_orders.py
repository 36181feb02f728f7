"""Orders: from newOrder to a CSR that is accepted (RFC 8555 section 7.4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .ca_authorizations import WEEK, Authorizations
from .ca_jws import decode, load_jwk
from .ca_model import Account, Order, State, rfc3339
from .ca_pki import check_csr, spki
from .ca_protocol import Background, Exchange, ask_to_wait, document
from .http_server import Answer
from .problems import Problem, malformed

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")

Issue = Callable[[Order], None]


class Orders:
    """The endpoints that deal with orders.

    Args:
        background: runs a function with its arguments in another thread.
        authorizations: makes the authorizations of an order.
        issue: makes the certificate of an order; runs with the lock.
    """

    def __init__(
        self, state: State, background: Background, authorizations: Authorizations, issue: Issue
    ) -> None:
        self._state = state
        self._background = background
        self._authorizations = authorizations
        self._issue = issue

    def create(self, exchange: Exchange) -> Answer:
        """newOrder (section 7.4), with reuse of a pending or ready order as Boulder does it."""
        payload = exchange.payload()
        account = exchange.account
        assert account is not None
        names = self._names(payload.get("identifiers"))
        if "notBefore" in payload or "notAfter" in payload:
            raise malformed("notBefore and notAfter are not supported")
        profile = self._profile(payload.get("profile"))
        order = self._reusable(account, names, profile)
        if order is None:
            replaces = self._replaces(payload.get("replaces"), account, names)
            order = self._new_order(account, names, profile, replaces)
        return self._show(order, 201)

    def show(self, exchange: Exchange) -> Answer:
        """An order's URL."""
        order = self._own_order(exchange)
        if order.processing and order.polls_left:
            order.polls_left -= 1
            if order.polls_left == 0:
                self._background(self._process, order)
        elif order.processing and order.polls_left == 0:
            self._state.changed.wait_for(
                lambda: order.status != "processing", self._state.options.settle
            )
        return self._show(order)

    def finalize(self, exchange: Exchange) -> Answer:
        """finalize (section 7.4): check the CSR, then issue in the background."""
        order = self._own_order(exchange)
        payload = exchange.payload()
        if order.status != "ready":
            raise Problem("orderNotReady", f"the order is {order.status}")
        account_spki = spki(load_jwk(order.account.jwk))
        order.csr = check_csr(decode(payload.get("csr"), "csr"), order.names, account_spki)
        order.processing = True
        faults = self._state.faults
        late = faults.take("stay_ready", "finalize", exchange)
        fault = late or faults.take("stay_processing", "finalize", exchange)
        order.stays_ready = late is not None
        order.polls_left = fault["polls"] if fault else 0
        if order.polls_left == 0:
            if self._state.options.asynchronous:
                self._background(self._process, order)
            else:
                self._process(order)
        return self._show(order)

    def _process(self, order: Order) -> None:
        with self._state.changed:
            order.polls_left = 0
            try:
                self._issue(order)
            except Problem as problem:
                order.error = problem
            order.processing = order.stays_ready = False
            self._state.changed.notify_all()

    def _new_order(
        self, account: Account, names: tuple[str, ...], profile: str | None, replaces: str | None
    ) -> Order:
        now = self._state.clock()
        order = Order(
            url=self._state.new_url("order"),
            account=account,
            names=names,
            profile=profile,
            replaces=replaces,
            created=now,
            expires=now + WEEK,
            authorizations=[self._authorizations.for_order(account, name) for name in names],
            clock=self._state.clock,
        )
        self._state.remember_order(order)
        return order

    def _reusable(
        self, account: Account, names: tuple[str, ...], profile: str | None
    ) -> Order | None:
        if not self._state.options.order_reuse:
            return None
        for order in reversed(account.orders):
            same = order.names == names and order.profile == profile
            if same and order.status in ("pending", "ready"):
                return order
        return None

    def _names(self, identifiers: Any) -> tuple[str, ...]:
        if not isinstance(identifiers, list) or not 1 <= len(identifiers) <= 100:
            raise malformed("identifiers is not a list of 1 to 100 identifiers")
        names: set[str] = set()
        refused: list[tuple[str, Problem]] = []
        for identifier in identifiers:
            if not isinstance(identifier, dict) or not isinstance(identifier.get("value"), str):
                raise malformed("an identifier has a type and a value")
            if identifier.get("type") != "dns":
                raise Problem("unsupportedIdentifier", "only dns identifiers are supported")
            name = identifier["value"].lower()
            if problem := self._refused(name):
                refused.append((name, problem))
            names.add(name)
        if len(refused) == 1:
            raise refused[0][1]
        if refused:
            raise Problem("rejectedIdentifier", "some names are refused", subproblems=refused)
        return tuple(sorted(names))

    def _refused(self, name: str) -> Problem | None:
        labels = name.removeprefix("*.").split(".")
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            return malformed(f"{name!r} is not a DNS name")
        if len(labels) < 2 or labels[-1].isdecimal():
            return Problem("rejectedIdentifier", f"{name} is not under a public suffix")
        if self._state.options.refused_names(name):
            return Problem("rejectedIdentifier", f"{name} is refused by policy")
        if name.startswith("*.") and not self._authorizations.offered(wildcard=True):
            return Problem("rejectedIdentifier", f"no challenge is offered for {name}")
        return None

    def _profile(self, profile: Any) -> str | None:
        if profile is None:
            return None
        if not isinstance(profile, str) or profile not in self._state.options.profiles:
            raise Problem("invalidProfile", f"there is no profile {profile!r}")
        return profile

    def _replaces(self, value: Any, account: Account, names: tuple[str, ...]) -> str | None:
        if value is None:
            return None
        old = self._state.find_issued(str(value))
        if old is None:
            raise malformed("replaces names no certificate of this CA", 404)
        if old.order.account is not account:
            raise Problem("unauthorized", "replaces names a certificate of another account")
        if not set(old.names) & set(names):
            raise malformed("replaces names a certificate without a name in common")
        if any(o.status != "invalid" for o in self._state.replacements.get(str(value), ())):
            raise Problem("alreadyReplaced", "that certificate has been replaced already")
        return str(value)

    def _own_order(self, exchange: Exchange) -> Order:
        order = self._state.order(f"{self._state.base}/order/{exchange.arguments[0]}")
        if order is None:
            raise malformed("there is no such order", 404)
        if order.account is not exchange.account:
            raise Problem("unauthorized", "this order is not yours")
        return order

    def _show(self, order: Order, status: int = 200) -> Answer:
        link = self._state.link
        shown: dict[str, Any] = {
            "status": order.status,
            "expires": rfc3339(order.expires),
            "identifiers": [{"type": "dns", "value": name} for name in order.names],
            "authorizations": [link("authorizations", a.url) for a in order.authorizations],
            "finalize": link("finalize", order.url + "/finalize"),
        }
        if order.profile is not None:
            shown["profile"] = order.profile
        if order.replaces is not None:
            shown["replaces"] = order.replaces
        if order.certificate is not None:
            shown["certificate"] = link("certificate", order.certificate.url)
        if order.error is not None:
            shown["error"] = order.error.document()
        answer = document(shown, status, ("Location", link("location", order.url)))
        ask_to_wait(self._state, answer, order.status == "processing" or order.stays_ready)
        return answer
