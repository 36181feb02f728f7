"""What every request passes before a call sees it: host, origin, who asks, the body's size."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from external_agent.operator.callers import (
    ANYBODY,
    CALLER,
    LOCAL_USER,
    STRANGER,
    THROUGH_SOCKET,
    Caller,
    local_user,
)
from external_agent.operator.hosts import is_known_host, is_known_origin
from external_agent.operator.identity import Identity, ended, not_authenticated
from external_agent.operator.problems import Refused
from external_agent.operator.services import Services
from external_agent.relay.acceptor import vouch
from external_agent.store.access import acting_for
from shared.contract.errors import ConfigurationError, RelayError

MAX_BODY = 64 * 1024
OPEN = frozenset(("/healthz", "/readyz", "/openapi.json"))
"""Paths that tell nothing of what this agent does: no token is asked for."""
_BODY_SECONDS = 15.0


class Gate:
    """Wraps the app. Who may do what is said by each call; nothing but :data:`OPEN` is reached
    without a caller."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services
        self._identity = Identity(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            inner, body = await self._admit(scope, receive)
        except (Refused, RelayError) as error:
            await _refusal(error)(scope, receive, send)
            return
        caller = inner["state"][CALLER]
        guarded = self._guarded(send, caller, inner, receive)
        try:
            with self._acting_for(caller):
                await self._app(inner, _replay(body, receive), guarded)
        except Exception as error:  # the app has answered; the traceback is for us
            self._services.unexpected(error)

    def _acting_for(self, caller: Caller | None) -> AbstractContextManager[None]:
        """Whatever is changed for a token decides in its own transaction that it still lives."""
        if caller is None or not caller.token:
            return nullcontext()
        return acting_for(caller.token, lambda: self._services.now, ended)

    def _guarded(self, send: Send, caller: Caller | None, scope: Scope, receive: Receive) -> Send:
        """Decide again before an answer leaves: it may have taken its time."""
        if caller is None or not caller.token or _voids_itself(caller, scope):
            return send
        refused = False

        async def guarded(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                try:
                    await self._identity.require_live(caller)
                except (Refused, RelayError) as error:
                    refused = True
                    await _refusal(error)(scope, receive, send)
            if not refused:
                await send(message)

        return guarded

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[Scope, bytes]:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        state = dict(scope.get("state") or {})
        caller = state[CALLER] = await self._caller(scope, headers, state)
        if caller is None and scope["path"] not in OPEN:
            raise not_authenticated()
        body = await _read_body(headers, receive)
        if caller is not None and caller is not ANYBODY:
            vouch(scope, caller.actor)
        return {**scope, "state": state}, body

    async def _caller(
        self, scope: Scope, headers: Mapping[str, str], state: Mapping[str, object]
    ) -> Caller | None:
        if state.get(STRANGER):
            raise Refused("forbidden")
        user = state.get(LOCAL_USER)
        if isinstance(user, str):
            return local_user(user, through_socket=bool(state.get(THROUGH_SOCKET)))
        host, origin = headers.get("host", ""), headers.get("origin")
        allowed = self._services.allowed_hosts
        if not is_known_host(host, allowed):
            raise Refused("host-unknown", _unknown("Host", host))
        if origin is not None and not is_known_origin(origin, host, allowed):
            raise Refused("origin-unknown", _unknown("Origin", origin))
        if scope["path"] in OPEN:
            return None
        peer = scope.get("client") or ("", 0)
        return await self._identity.caller(headers, str(peer[0]))


def _refusal(error: Refused | RelayError) -> Response:
    refused = error if isinstance(error, Refused) else Refused(error=error)
    return refused.response()


def _voids_itself(caller: Caller, scope: Scope) -> bool:
    """Who voids their own token is told that it is done."""
    own = f"/v1/access-tokens/{caller.token}"
    return (scope["method"], scope["path"]) == ("DELETE", own)


def _unknown(field: str, value: str) -> ConfigurationError:
    return ConfigurationError(
        f"{field} {value!r:.100} is none of this agent's.",
        do="If it is to be, add its name to operator.allowed_hosts in the settings.",
    )


async def _read_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    length = headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY:
        raise _too_large()
    if length == "0" and "transfer-encoding" not in headers:
        return b""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused("malformed-request")
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise _too_large()
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Refused("malformed-request") from None
    if body and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused("not-json")
    return bytes(body)


def _too_large() -> Refused:
    return Refused(
        "body-too-large",
        ConfigurationError(f"A body has at most {MAX_BODY} octets."),
        headers={"Connection": "close"},
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
