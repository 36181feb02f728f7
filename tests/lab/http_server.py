"""An HTTP(S) listener: bytes to Request, Answer to bytes, in threads, and nothing of ACME."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

MAX_BODY = 1 << 20
IDLE_SECONDS = 60


@dataclass(frozen=True)
class Request:
    """One HTTP request; header names are looked up in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """One HTTP answer, and what is to go wrong while it is sent."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    cut: bool = False
    lost: bool = False


class HttpServer:
    """Accepts connections until closed; each one is served by a thread of its own.

    Args:
        context: for TLS; None serves plain HTTP.
    """

    def __init__(
        self,
        app: Callable[[Request], Answer],
        host: str,
        port: int,
        context: ssl.SSLContext | None,
    ) -> None:
        self._app = app
        self._context = context
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._closing = False
        self._acceptor = threading.Thread(target=self._accept, name="lab-ca", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def close(self) -> None:
        """Stop accepting, end every connection and wait for the threads."""
        with self._lock:
            self._closing = True
            for connection in self._open.values():
                with contextlib.suppress(OSError):
                    # Not SSLSocket.shutdown: it drops the TLS state under the reading thread.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor.is_alive():
            self._acceptor.join(5)
        self._listener.close()
        for thread in list(self._open):
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection, peer), daemon=True)
            with self._lock:
                if self._closing:
                    connection.close()
                    return
                self._open[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket, peer: Any) -> None:
        try:
            connection.settimeout(IDLE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connection = self._secure(connection)
            _Handler(connection, peer, self)  # type: ignore[arg-type]
        except (OSError, ValueError):
            pass  # the client went away, or never spoke TLS
        finally:
            with self._lock:
                self._open.pop(threading.current_thread(), None)
            connection.close()

    def _secure(self, connection: socket.socket) -> ssl.SSLSocket:
        assert self._context is not None
        connection.getpeername()  # of a client that reset, wrap_socket leaves a socket unclosed
        secured = self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        with self._lock:
            self._open[threading.current_thread()] = secured
            if self._closing:
                socket.socket.shutdown(secured, socket.SHUT_RDWR)
        try:
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def _answer(self) -> None:
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return self._send(Answer(413))
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return None
        return self._send(self.server._app(Request(self.command, path, query, headers, body)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # every method goes the same way; the app judges it
            return self._answer
        raise AttributeError(name)

    def _send(self, answer: Answer) -> None:
        if answer.lost:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer: list[bytes] = []
        body = b"" if self.command == "HEAD" or answer.status == 204 else answer.body
        if answer.cut:
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(head + body)  # one write: one TLS record, no waiting for an ACK

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the CA keeps a log of its own."""
