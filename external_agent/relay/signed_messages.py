"""Pure ASGI around the whole relay app: no request gets in unverified, no answer leaves unsigned.

Only answers to requests whose signature verified are signed: an agent that signed refusals of
edited requests would be an oracle, and one that signs for strangers can be worn out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from external_agent.relay.acceptor import vouch
from external_agent.relay.admission import Admission
from external_agent.relay.authentication import Authenticator, Caller, Refused, read_head
from external_agent.relay.log_of_strangers import Seldom
from external_agent.relay.problems import Answer, problem, problem_of
from shared.contract.errors import RelayError, StoreError
from shared.contract.http_signatures import MAX_BODY, sign_response
from shared.contract.signing import SigningKey

_BODY_SECONDS = 10.0
_CALLER = "relay.caller"
_log = structlog.get_logger(__name__)


def caller_of(scope: Scope) -> Caller:
    """Return who is asking; only inside :class:`SignedMessages`."""
    caller = scope[_CALLER]
    assert isinstance(caller, Caller)
    return caller


class SignedMessages:
    """The middleware.

    Args:
        app: handles verified requests; reads its caller with :func:`caller_of`.
        admission: decides what may be handled, and whether its answer may leave.
        key: the agent's signing key.
        clock: unix seconds.
        observe: told of the status of every answer, and whether it was signed.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        admission: Admission,
        key: SigningKey,
        *,
        clock: Callable[[], float],
        observe: Callable[[int, bool], None] = lambda status, signed: None,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._admission = admission
        self._key = key
        self._clock = clock
        self._observe = observe
        self._strangers = Seldom()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            caller, body = await self._authenticate(scope, receive)
        except Refused as refusal:
            peer = (scope.get("client") or [""])[0]
            self._strangers.note(_log.info, "request refused", reason=refusal.slug, peer=peer)
            await self._send(send, problem(refusal.slug, refusal.detail), None)
            return
        except StoreError as error:
            self._strangers.note(_log.warning, "keys cannot be looked up", error=error.what)
            await self._send(send, problem("store-unavailable"), None)
            return
        vouch(scope, caller.token or caller.puller)  # keys that are offered cost nothing
        await self._send(send, await self._answer(caller, scope, body, receive), caller)

    async def _authenticate(self, scope: Scope, receive: Receive) -> tuple[Caller, bytes]:
        raw_path = scope.get("raw_path") or scope["path"].encode("latin-1")
        head = read_head(scope["method"], raw_path, scope["query_string"], scope["headers"])
        claim = await self._authenticator.identify(head)
        body = await _read_body(scope["headers"], receive, allowed=head.target.has_body)
        return self._authenticator.verify(claim, body), body

    async def _answer(self, caller: Caller, scope: Scope, body: bytes, receive: Receive) -> Answer:
        difference = caller.clock_difference(self._clock())
        if difference is not None:
            ahead = "ahead of" if difference > 0 else "behind"
            return problem(
                "clock", f"The puller's clock is {abs(difference)} s {ahead} the agent's."
            )
        inner = dict(scope)
        # The router sees the path as it was signed: nothing in it is decoded.
        inner["path"] = (scope.get("raw_path") or scope["path"].encode("latin-1")).decode("ascii")
        inner[_CALLER] = caller
        captured = _Captured()
        try:
            async with self._admission.of(caller, inner):
                await self._app(inner, _replay(body, receive), captured)
        except RelayError as error:
            return problem_of(error)
        except Exception:  # the caller gets a signed 500, the operator the traceback
            _log.exception("error in the relay API", path=inner["path"])
            return problem("internal")
        return captured.answer()

    async def _send(self, send: Send, answer: Answer, caller: Caller | None) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            *answer.headers,
        ]
        if caller is None:
            headers.append(("Connection", "close"))
        else:
            signed = sign_response(
                answer.status, answer.body, caller.signature, self._key, created=int(self._clock())
            )
            headers.extend(signed.items())
        self._observe(answer.status, caller is not None)
        raw = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": answer.body})


async def _read_body(
    headers: Sequence[tuple[bytes, bytes]], receive: Receive, *, allowed: bool
) -> bytes:
    declared = {name: value for name, value in headers if name in _FRAMING}
    if not allowed:
        if declared.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in declared:
            raise Refused("body-not-allowed")
        return b""
    length = declared.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY:
        raise Refused("body-too-large")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused("body-too-slow")
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise Refused("body-too-large")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refused("body-too-slow") from None


_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the app the verified body; after it, what the connection says."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message

    return replayed


class _Captured:
    """Holds the app's answer back until it is whole and can be signed."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        fields: dict[str, Any] = dict(message)
        if fields["type"] == "http.response.start":
            self._status = fields["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in fields.get("headers", ())
            }
        elif fields["type"] == "http.response.body":
            self._body += fields.get("body", b"")

    def answer(self) -> Answer:
        kept = ((name, self._headers[name]) for name in ("retry-after",) if name in self._headers)
        content_type = self._headers.get("content-type", "application/octet-stream")
        return Answer(self._status, bytes(self._body), content_type, tuple(kept))
