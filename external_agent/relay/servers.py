"""uvicorn without its command line: our sockets, our TLS, our signals, and headers in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from external_agent.relay.acceptor import Acceptor, Peer, state_with

_HEAD_SECONDS = 15.0
_MAX_HEAD = 64 * 1024
MOST_CONNECTIONS = 2000
_LINGER_SECONDS = 1.0
_LINGER_TIMES = 20
Who = Callable[[int], dict[str, Any]]


class _Transport:
    """A transport whose ``close`` comes to an end.

    Closing TLS waits for the other side's close_notify, half a minute long, and reads on
    meanwhile; who sends an endless body would be listened to for that time.
    """

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop
        self._patience = _LINGER_TIMES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def close(self) -> None:
        self._inner.close()
        self._loop.call_later(_LINGER_SECONDS, self._abort)

    def _abort(self) -> None:
        self._patience -= 1
        if self._patience and self._inner.get_write_buffer_size():
            self._loop.call_later(_LINGER_SECONDS, self._abort)  # a slow reader is not cut off
        else:
            self._inner.abort()


class _Protocol(HttpToolsProtocol):
    """Ends a connection that does not send its first request in time, or a head without end.

    uvicorn keeps every octet of request lines, fields and trailers, however many there are.
    """

    _beside_bodies = 0
    _first: asyncio.TimerHandle | None = None

    def __init__(self, server: _Server, acceptor: Acceptor) -> None:
        super().__init__(server.config, server.server_state, {}, asyncio.get_running_loop())
        self._acceptor, self._who = acceptor, server.who
        self._verified = False

    def is_inside(self) -> bool:
        return self._first is not None

    def is_at_work(self) -> bool:
        return self._verified

    def vouch(self, holder: str) -> None:
        self._verified = True
        self._acceptor.know(self, holder)

    def on_response_complete(self) -> None:
        self._verified = False  # the next request shows credentials of its own
        super().on_response_complete()

    def turn_out(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._beside_bodies += len(data)
        super().data_received(data)
        if self._beside_bodies > _MAX_HEAD:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        self._beside_bodies -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._beside_bodies = 0
        super().on_message_complete()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self.loop)))
        self._first = self.loop.call_later(_HEAD_SECONDS, self._too_slow)
        descriptor = transport.get_extra_info("socket").fileno()
        self.app_state = state_with(self, {} if self._who is None else self._who(descriptor))

    def _too_slow(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._acceptor.leave(self)
        if self._first is not None:
            self._first.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """uvicorn's server behind our acceptor."""

    def __init__(
        self, config: uvicorn.Config, tls: ssl.SSLContext | None, most: int, who: Who | None
    ) -> None:
        super().__init__(config)
        self.who = who
        self.acceptor = Acceptor(self._make, tls, most)

    def _make(self, acceptor: Acceptor) -> Peer:
        return _Protocol(self, acceptor)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self.acceptor.open(sockets or [])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.acceptor.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # the agent has one place for signals


class WebServer:
    """One listener that speaks HTTP to an ASGI app.

    Args:
        tls: ``None`` for plain HTTP.
        most: connections at once.
        who: given the descriptor of a connection, says what ``state`` its requests have.
    """

    def __init__(
        self,
        app: ASGIApp,
        tls: ssl.SSLContext | None = None,
        *,
        most: int = MOST_CONNECTIONS,
        who: Who | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=5,
        )
        config.load()
        self._server = _Server(config, tls, most, who)
        self._task: asyncio.Task[None] | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on listening sockets, in the running loop."""
        self._task = asyncio.create_task(self._server.serve(sockets=list(sockets)))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("uvicorn ended at once")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Accept no more, let requests under way end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return a server context for TLS 1.2 and newer.

    Raises:
        OSError, ssl.SSLError: the files are not a pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
