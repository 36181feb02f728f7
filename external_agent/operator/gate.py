"""What every request passes before a call sees it: host, origin, who asks, the body's size."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from external_agent.operator.callers import (
    CALLER,
    LOCAL_USER,
    STRANGER,
    THROUGH_SOCKET,
    Caller,
    local_user,
)
from external_agent.operator.hosts import is_known_host, is_known_origin
from external_agent.operator.identity import Identity, not_authenticated
from external_agent.operator.problems import Refused
from external_agent.operator.services import Services
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
        except Refused as refused:
            await refused.response()(scope, receive, send)
            return
        except RelayError as error:
            await Refused(error=error).response()(scope, receive, send)
            return
        try:
            await self._app(inner, _replay(body, receive), send)
        except Exception as error:  # the app has answered; the traceback is for us
            self._services.unexpected(error)

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[Scope, bytes]:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        state = dict(scope.get("state") or {})
        state[CALLER] = await self._caller(scope, headers, state)
        if state[CALLER] is None and scope["path"] not in OPEN:
            raise not_authenticated()
        body = await _read_body(headers, receive)
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
