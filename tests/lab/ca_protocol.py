"""From a request to the endpoint that answers it: routing, authentication, nonces, faults, log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from .ca_jws import Jws, json_object, load_jwk, parse, thumbprint, verify
from .ca_model import Account, LogEntry, State
from .http_server import Answer, Request
from .problems import Problem, malformed

# resource: (path pattern, methods, how it is authenticated)
ROUTES: dict[str, tuple[str, str]] = {
    "directory": ("/dir", "none"),
    "newNonce": ("/nonce", "none"),
    "newAccount": ("/new-account", "jwk"),
    "newOrder": ("/new-order", "kid"),
    "revokeCert": ("/revoke", "either"),
    "keyChange": ("/key-change", "kid"),
    "account": ("/account/*", "kid"),
    "orders": ("/account/*/orders", "kid"),
    "order": ("/order/*", "kid"),
    "finalize": ("/order/*/finalize", "kid"),
    "authz": ("/authz/*", "kid"),
    "challenge": ("/authz/*/*", "kid"),
    "cert": ("/cert/*", "kid"),
    "certAlternate": ("/cert/*/*", "kid"),
    "renewalInfo": ("/renewal-info/*", "none"),
}


@dataclass
class Exchange:
    """One request on its way through the CA."""

    request: Request
    resource: str = ""
    arguments: tuple[str, ...] = ()
    jws: Jws | None = None
    jwk: dict[str, Any] | None = None
    account: Account | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_post_as_get(self) -> bool:
        """Whether the payload is empty (RFC 8555 section 6.3)."""
        return self.jws is not None and self.jws.payload == b""

    def payload(self) -> dict[str, Any]:
        """Return the payload, a JSON object."""
        assert self.jws is not None
        return json_object(self.jws.payload, "the payload")


Endpoint = Callable[[Exchange], Answer]
Background = Callable[..., Any]


def document(value: Any, status: int = 200, *headers: tuple[str, str]) -> Answer:
    """Return a JSON answer."""
    body = json.dumps(value).encode()
    return Answer(status, body, [("Content-Type", "application/json"), *headers])


def ask_to_wait(state: State, answer: Answer, busy: bool) -> None:
    """Add Retry-After to the answer about something that is not settled yet."""
    if busy and state.options.retry_after is not None:
        answer.headers.append(("Retry-After", str(state.options.retry_after)))


class Protocol:
    """The application behind the listener."""

    def __init__(self, state: State, endpoints: dict[str, Endpoint]) -> None:
        self._state = state
        self._endpoints = endpoints

    def __call__(self, request: Request) -> Answer:
        """Answer one request; never raises."""
        began = time.perf_counter()
        exchange = Exchange(request)
        outcome = "ok"
        try:
            answer = self._answer(exchange)
        except Problem as problem:
            answer = _refusal(problem)
            outcome = problem.kind
        except Exception as error:
            answer = _refusal(Problem("serverInternal", f"bug in the lab: {error!r}"))
            outcome = f"bug: {error!r}"
        self._finish(exchange, answer)
        self._record(exchange, answer, outcome, time.perf_counter() - began)
        return answer

    # --- the way in ---

    def _answer(self, exchange: Exchange) -> Answer:
        self._route(exchange)
        self._injected_refusals(exchange)
        self._authenticate(exchange)
        with self._state.changed:
            return self._endpoints[exchange.resource](exchange)

    def _route(self, exchange: Exchange) -> None:
        parts = exchange.request.path.split("/")
        for resource, (pattern, kind) in ROUTES.items():
            wanted = pattern.split("/")
            if len(parts) == len(wanted) and all(
                want in ("*", part) for want, part in zip(wanted, parts, strict=True)
            ):
                exchange.resource = resource
                exchange.arguments = tuple(
                    part for want, part in zip(wanted, parts, strict=True) if want == "*"
                )
                allowed = ("GET", "HEAD") if kind == "none" else ("POST",)
                if exchange.request.method not in allowed:
                    raise malformed(f"{resource} is not asked for with this method", 405)
                return
        raise malformed("there is no such resource", 404)

    def _injected_refusals(self, exchange: Exchange) -> None:
        faults = self._state.faults
        if fault := faults.take("slow", exchange.resource, exchange):
            self._state.stopping.wait(fault["seconds"])
        if fault := faults.take("refuse", exchange.resource, exchange):
            after = fault["retry_after"]
            raise Problem(
                fault["problem"],
                fault["detail"],
                fault["status"],
                headers={} if after is None else {"Retry-After": str(after)},
                subproblems=[(name, Problem(*why)) for name, why in fault["subproblems"].items()],
            )

    def _authenticate(self, exchange: Exchange) -> None:
        kind = ROUTES[exchange.resource][1]
        if kind == "none":
            return
        request = exchange.request
        if request.headers.get("content-type") != "application/jose+json":
            raise malformed("the content type is not application/jose+json", 415)
        jws = exchange.jws = parse(request.body)
        self._check_nonce(exchange, jws)
        here = self._state.base + request.path + (f"?{request.query}" if request.query else "")
        if jws.protected.get("url") != here:
            raise Problem("unauthorized", f"the url header is not {here}", 401)
        if ("jwk" in jws.protected) == ("kid" in jws.protected):
            raise malformed("a request has either jwk or kid")
        if "jwk" in jws.protected:
            self._by_jwk(exchange, jws, kind)
        else:
            self._by_kid(exchange, jws, kind)

    def _check_nonce(self, exchange: Exchange, jws: Jws) -> None:
        nonce = jws.protected.get("nonce")
        with self._state.changed:
            known = isinstance(nonce, str) and nonce in self._state.nonces
            if known:
                self._state.nonces.discard(str(nonce))
        if not known or self._state.faults.take("bad_nonce", exchange.resource, exchange):
            raise Problem("badNonce", "the nonce is unknown or was used before")

    def _by_jwk(self, exchange: Exchange, jws: Jws, kind: str) -> None:
        if kind == "kid":
            raise malformed("this resource wants kid, not jwk")
        jwk = jws.protected["jwk"]
        verify(jws, load_jwk(jwk))
        exchange.jwk = jwk
        with self._state.changed:
            exchange.account = self._state.account_by_key(thumbprint(jwk))

    def _by_kid(self, exchange: Exchange, jws: Jws, kind: str) -> None:
        if kind == "jwk":
            raise malformed("this resource wants jwk, not kid")
        with self._state.changed:
            account = self._state.accounts.get(str(jws.protected["kid"]))
        if account is None:
            raise Problem("accountDoesNotExist", "there is no account with this URL")
        verify(jws, load_jwk(account.jwk))
        if account.status != "valid":
            raise Problem("unauthorized", f"the account is {account.status}", 401)
        exchange.account = account

    # --- the way out ---

    def _finish(self, exchange: Exchange, answer: Answer) -> None:
        faults = self._state.faults
        resource = exchange.resource
        skew = faults.take("date_skew", resource, exchange)
        now = self._state.clock() + (skew["seconds"] if skew else 0)
        answer.headers.append(("Date", formatdate(now, usegmt=True)))
        if exchange.request.method == "POST" or resource == "newNonce":
            answer.headers.append(("Replay-Nonce", self._state.new_nonce()))
            answer.headers.append(("Cache-Control", "no-store"))
        if resource != "directory":
            link = f'<{self._state.base}/dir>;rel="index"'
            answer.headers.append(("Link", link))
        if answer.status >= 400:
            return  # what follows happens to what was done
        if fault := faults.take("nonsense", resource, exchange):
            answer.body = fault["body"]
        answer.cut = faults.take("cut", resource, exchange) is not None
        answer.lost = faults.take("lose_answer", resource, exchange) is not None

    def _record(self, exchange: Exchange, answer: Answer, outcome: str, spent: float) -> None:
        if answer.lost or answer.cut:
            outcome = f"{outcome}, {'lost' if answer.lost else 'cut'}"
        entry = LogEntry(
            at=self._state.clock(),
            method=exchange.request.method,
            path=exchange.request.path,
            resource=exchange.resource,
            status=answer.status,
            outcome=outcome,
            account=exchange.account.url if exchange.account else None,
            user_agent=exchange.request.headers.get("user-agent", ""),
            seconds=spent,
            payload=exchange.jws.payload if exchange.jws else b"",
        )
        with self._state.changed:
            self._state.log.append(entry)
            self._state.changed.notify_all()


def _refusal(problem: Problem) -> Answer:
    headers = [("Content-Type", "application/problem+json"), *problem.headers.items()]
    return Answer(problem.status, problem.body(), headers)
