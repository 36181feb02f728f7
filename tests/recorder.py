"""A proxy on loopback that keeps every octet that passes, opening TLS where it is given the key."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

_IDLE = 120.0


class Recorder:
    """Accepts on a port of its own, and passes everything on to `upstream`.

    Args:
        upstream: host and port to connect to; asked for every connection.
        server: TLS towards those who connect; None passes their octets on as they are.
        client: TLS towards `upstream`.
    """

    def __init__(
        self,
        upstream: Callable[[], tuple[str, int]],
        *,
        server: ssl.SSLContext | None = None,
        client: ssl.SSLContext | None = None,
    ) -> None:
        self._upstream, self._server, self._client = upstream, server, client
        self._streams: list[bytearray] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    @property
    def recorded(self) -> bytes:
        """Everything that passed so far, decrypted: the two directions of each connection."""
        with self._lock:
            return b"\n".join(self._streams)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._start(lambda one=connection: self._serve(one))  # type: ignore[misc]

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            near = self._keep(stack, plain)
            if self._server:
                near = self._keep(stack, self._server.wrap_socket(near, server_side=True))
            host, port = self._upstream()
            far = self._keep(stack, socket.create_connection((host, port), 10))
            if self._client:
                far = self._keep(stack, self._client.wrap_socket(far, server_hostname=host))
            self._pass_on(near, far)

    def _keep(self, stack: contextlib.ExitStack, one: socket.socket) -> socket.socket:
        one.settimeout(_IDLE)
        with self._lock:
            self._open.add(one)
        stack.callback(self._drop, one)
        return one

    def _drop(self, one: socket.socket) -> None:
        with self._lock:
            self._open.discard(one)
        one.close()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        """One thread for both directions: a TLS connection is not to be used by two at once."""
        ways = {near: (far, bytearray()), far: (near, bytearray())}
        with self._lock:
            self._streams += [stream for _, stream in ways.values()]
        while True:
            ready = [one for one in ways if isinstance(one, ssl.SSLSocket) and one.pending()]
            for source in ready or select.select(list(ways), [], [], _IDLE)[0]:
                sink, stream = ways[source]
                source.setblocking(False)
                try:
                    piece = source.recv(65536)
                except (ssl.SSLWantReadError, BlockingIOError):
                    continue  # TLS had something to say that is no data
                finally:
                    source.settimeout(_IDLE)
                if not piece:
                    return
                with self._lock:
                    stream += piece
                sink.sendall(piece)


def passing_on(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return `context` without any check of the peer, for a proxy that only looks."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
