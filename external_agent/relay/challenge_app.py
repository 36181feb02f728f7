"""The challenge listener: http-01 on port 80, and nothing else there.

A plain protocol instead of a web framework: one look-up for each request, the oldest connection
gives way when there are too many, and none lives longer than its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from typing import cast

from external_agent.relay.challenge_http import END_OF_HEAD, MAX_HEAD, ChallengeAnswers, Responder

_SWEEP_SECONDS = 1.0
_MAX_UNSENT = 64 * 1024
_BACKLOG = 4096


class ChallengeListener:
    """Accepts connections and ends those that are too old or too many.

    Args:
        answers: what is pending.
        max_connections: above it the connection that has waited longest is ended.
        timeout: seconds from its last complete request in which a connection must send the next.
    """

    def __init__(
        self, answers: ChallengeAnswers, *, max_connections: int = 4096, timeout: float = 10.0
    ) -> None:
        self.answers = answers
        self.responder = Responder(answers)
        self.timeout = timeout
        self.requests = 0
        self.open: dict[_Connection, float] = {}  # the one that has waited longest stands first
        self._max = max_connections
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None
        self.now = 0.0

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on listening sockets, in the running loop."""
        loop = asyncio.get_running_loop()
        self._tick()
        for one in sockets:
            self._servers.append(
                await loop.create_server(self._connection, sock=one, backlog=_BACKLOG)
            )
        self._sweeper = loop.create_task(self._sweep())

    async def stop(self) -> None:
        """Accept no more, end what is open."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for server in self._servers:
            server.close()
        for connection in list(self.open):
            connection.end()

    def _connection(self) -> asyncio.Protocol:
        if len(self.open) >= self._max:
            next(iter(self.open)).end()
        return _Connection(self)

    def _tick(self) -> None:
        self.now = time.monotonic()
        self.responder.set_date(time.time())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._tick()
            oldest = self.now - self.timeout
            for connection, since in list(self.open.items()):
                if since > oldest:
                    break
                connection.end()


class _Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = ("_buffer", "_listener", "_transport")

    def __init__(self, listener: ChallengeListener) -> None:
        self._listener = listener
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._listener.open[self] = self._listener.now

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.open.pop(self, None)
        self._transport = None

    def end(self) -> None:
        """End the connection now, whatever is still to be sent."""
        self._listener.open.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        listener, transport = self._listener, self._transport
        if transport is None or transport.is_closing():
            return
        if self._buffer:
            data = self._buffer + data
        size = len(data)
        if data.find(END_OF_HEAD) == size - 4 <= MAX_HEAD:  # the usual case: exactly one request
            answer, close = listener.responder.respond(data[:-4])
            self._buffer = b""
            listener.requests += 1
        else:
            answer, close = self._several(data)
        if answer:
            transport.write(answer)
            listener.open.pop(self, None)
            listener.open[self] = listener.now  # to the end of the queue: it did not stall
        if close:
            transport.close()
        elif transport.get_write_buffer_size() > _MAX_UNSENT:
            self.end()

    def _several(self, data: bytes) -> tuple[bytes, bool]:
        """Answer pipelined requests (RFC 9112 section 9.3.2); keep what is not complete."""
        responder = self._listener.responder
        answers: list[bytes] = []
        *heads, rest = data.split(END_OF_HEAD)
        for head in heads:
            trimmed = head.lstrip(b"\r\n")
            answer, close = (
                responder.respond(trimmed)
                if len(trimmed) <= MAX_HEAD
                else (responder.bad_request, True)
            )
            self._listener.requests += 1
            answers.append(answer)
            if close:
                return b"".join(answers), True
        self._buffer = rest.lstrip(b"\r\n")
        garbage = bool(self._buffer) and not self._buffer[:1].isupper()
        if garbage or len(self._buffer) > MAX_HEAD:
            answers.append(responder.bad_request)
            return b"".join(answers), True
        return b"".join(answers), False
