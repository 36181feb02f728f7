"""Authorizations and challenges: offered, asked for, validated (RFC 8555 section 7.5)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from .ca_model import Account, Authorization, Challenge, State, rfc3339
from .ca_protocol import Background, Exchange, ask_to_wait, document
from .http_server import Answer
from .problems import Problem, malformed

WEEK = 7 * 86400.0
MONTH = 30 * 86400.0

Validate = Callable[[Authorization, Challenge], None]


class Authorizations:
    """The endpoints that deal with authorizations and their challenges.

    Args:
        background: runs a function with its arguments in another thread.
        validate: proves control or raises a Problem; runs without the lock.
    """

    def __init__(self, state: State, background: Background, validate: Validate) -> None:
        self._state = state
        self._background = background
        self._validate = validate

    def show(self, exchange: Exchange) -> Answer:
        """An authorization's URL: read, or deactivate (7.5, 7.5.2)."""
        authorization = self._own_authorization(exchange)
        if not exchange.is_post_as_get:
            if exchange.payload().get("status") != "deactivated":
                raise malformed("an authorization can only be deactivated")
            authorization.stored_status = "deactivated"
            self._state.changed.notify_all()
        busy = self._wait_while_validating(authorization)
        answer = document(show_authorization(authorization, self._state.link))
        ask_to_wait(self._state, answer, busy)
        return answer

    def challenge(self, exchange: Exchange) -> Answer:
        """A challenge's URL: read, or ask for validation (section 7.5.1)."""
        authorization = self._own_authorization(exchange)
        challenge = next(
            (c for c in authorization.challenges if c.url.endswith("/" + exchange.arguments[1])),
            None,
        )
        if challenge is None:
            raise malformed("there is no such challenge", 404)
        if not exchange.is_post_as_get:
            exchange.payload()
            idle = all(c.status == "pending" for c in authorization.challenges)
            if authorization.status == "pending" and idle:
                challenge.status = "processing"
                self._background(self._run_validation, authorization, challenge)
        up = ("Link", f'<{authorization.url}>;rel="up"')
        answer = document(show_challenge(challenge, self._state.link), 200, up)
        ask_to_wait(self._state, answer, challenge.status == "processing")
        return answer

    def _run_validation(self, authorization: Authorization, challenge: Challenge) -> None:
        problem: Problem | None = None
        try:
            self._validate(authorization, challenge)
        except Problem as refused:
            problem = refused
        except Exception as error:
            problem = Problem("serverInternal", f"bug in the lab: {error!r}")
        with self._state.changed:
            challenge.error = problem
            challenge.status = "invalid" if problem else "valid"
            if problem is None:
                challenge.validated = self._state.clock()
                authorization.expires = self._state.clock() + MONTH
            if authorization.stored_status == "pending":
                authorization.stored_status = challenge.status
            self._state.changed.notify_all()

    def _wait_while_validating(self, authorization: Authorization) -> bool:
        def busy() -> bool:
            return any(c.status == "processing" for c in authorization.challenges)

        if busy():
            self._state.changed.wait_for(lambda: not busy(), self._state.options.settle)
        return busy()

    def _own_authorization(self, exchange: Exchange) -> Authorization:
        url = f"{self._state.base}/authz/{exchange.arguments[0]}"
        authorization = self._state.authorizations.get(url)
        if authorization is None:
            raise malformed("there is no such authorization", 404)
        if authorization.account is not exchange.account:
            raise Problem("unauthorized", "this authorization is not yours")
        return authorization

    def for_order(self, account: Account, name: str) -> Authorization:
        """Return a new authorization, or a valid one that may be used again."""
        if self._state.options.authorization_reuse:
            for old in self._state.authorizations.values():
                if (old.account, old.identifier, old.status) == (account, name, "valid"):
                    return old
        wildcard = name.startswith("*.")
        url = self._state.new_url("authz")
        token = secrets.token_urlsafe(32)
        if fault := self._state.faults.take("hostile_token", "newOrder", name):
            token = fault["token"]
        authorization = Authorization(
            url=url,
            account=account,
            name=name.removeprefix("*."),
            wildcard=wildcard,
            expires=self._state.clock() + WEEK,
            challenges=[
                Challenge(f"{url}/{kind}", kind, token, self._members(kind, account))
                for kind in self.offered(wildcard)
            ],
            clock=self._state.clock,
        )
        self._state.authorizations[url] = authorization
        return authorization

    def offered(self, wildcard: bool) -> list[str]:
        """Return the kinds of challenges that are offered."""
        return [c for c in self._state.options.challenges if not (wildcard and c == "http-01")]

    def _members(self, kind: str, account: Account) -> dict[str, Any]:
        if kind != "dns-persist-01":
            return {}
        domains = list(self._state.options.issuer_domains)
        if self._state.options.persist_draft == 1:
            return {"issuer-domain-names": domains, "accounturi": account.url}
        return {"issuerDomainNames": domains}


def show_challenge(challenge: Challenge, link: Callable[[str, str], str]) -> dict[str, Any]:
    """Return the challenge object."""
    shown: dict[str, Any] = {
        "type": challenge.kind,
        "url": link("challenge", challenge.url),
        "status": challenge.status,
        **challenge.members,
    }
    if challenge.kind != "dns-persist-01":
        shown["token"] = challenge.token
    if challenge.validated is not None:
        shown["validated"] = rfc3339(challenge.validated)
    if challenge.error is not None:
        shown["error"] = challenge.error.document()
    return shown


def show_authorization(
    authorization: Authorization, link: Callable[[str, str], str]
) -> dict[str, Any]:
    """Return the authorization object."""
    challenges = authorization.challenges
    if authorization.status in ("valid", "invalid"):
        challenges = [c for c in challenges if c.status == authorization.status] or challenges
    shown: dict[str, Any] = {
        "identifier": {"type": "dns", "value": authorization.name},
        "status": authorization.status,
        "expires": rfc3339(authorization.expires),
        "challenges": [show_challenge(c, link) for c in challenges],
    }
    if authorization.wildcard:
        shown["wildcard"] = True
    return shown
