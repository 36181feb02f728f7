"""Proxies as companies have them: CONNECT, CONNECT over TLS, and one that opens TLS."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.authority import Authority, new_key, pem_pair

Rewrite = Callable[[bytes], bytes]


class ConnectProxy:
    """An HTTP proxy for CONNECT.

    Args:
        base: directory for keys.
        tls: reached by TLS itself, with a certificate of ``ca`` for localhost.
        opens: makes a certificate of ``ca`` for each host and looks into the TLS inside.
        rewrite: applied to what goes to the relay, where TLS is opened.
        credentials: ``user:password`` that it demands.
        hosts: addresses of names that nobody else knows.
    """

    def __init__(
        self,
        base: Path,
        *,
        tls: bool = False,
        opens: bool = False,
        rewrite: Rewrite = lambda data: data,
        rewrite_back: Rewrite = lambda data: data,
        credentials: str | None = None,
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        self.ca = Authority.make()
        self.connected: list[str] = []
        self.seen = bytearray()
        self._base = base
        self._opens = opens
        self._rewrite = rewrite
        self._rewrite_back = rewrite_back
        self._credentials = credentials
        self._hosts = dict(hosts or {})
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = self._server_context("localhost") if tls else None
        self._stopping = threading.Event()
        scheme = "https" if tls else "http"
        port = self._listener.getsockname()[1]
        user = f"{credentials}@" if credentials else ""
        self.url = f"{scheme}://{user}localhost:{port}"
        self._thread = threading.Thread(target=self._accept)

    @property
    def root_pem(self) -> bytes:
        return self.ca.root_pem

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), 1).close()
        self._thread.join()
        self._listener.close()

    def _server_context(self, host: str) -> ssl.SSLContext:
        key = new_key()
        leaf = self.ca.leaf([host], key, not_before=int(time.time()) - 60)
        path = self._base / f"proxy-{os.urandom(4).hex()}.pem"
        path.write_bytes(pem_pair(self.ca.chain(leaf), key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _accept(self) -> None:
        while not self._stopping.is_set():
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._context is not None:
                connection = stack.enter_context(
                    self._context.wrap_socket(connection, server_side=True)
                )
            target = self._read_connect(connection)
            if target is None:
                return
            host, port = target
            upstream = stack.enter_context(
                socket.create_connection((self._hosts.get(host, host), port), 10)
            )
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            if self._opens:
                self._pump_opened(connection, upstream, host, stack)
            else:
                self._pump(connection, upstream)

    def _read_connect(self, connection: socket.socket) -> tuple[str, int] | None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            if not piece:
                return None
            head += piece
        if self._credentials is not None:
            expected = base64.b64encode(self._credentials.encode())
            if b"Proxy-Authorization: Basic " + expected not in head:
                connection.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
                return None
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        if method != "CONNECT":
            connection.sendall(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
            return None
        self.connected.append(target)
        host, _, port = target.rpartition(":")
        return host, int(port)

    def _pump(self, client: socket.socket, upstream: socket.socket) -> None:
        pairs = {client: upstream, upstream: client}
        while not self._stopping.is_set():
            pending = [one for one in pairs if isinstance(one, ssl.SSLSocket) and one.pending()]
            ready = pending or select.select(list(pairs), [], [], 0.1)[0]
            for one in ready:
                one.settimeout(0)  # a TLS record need not hold data for us
                try:
                    piece = one.recv(65536)
                except (ssl.SSLWantReadError, BlockingIOError):
                    continue
                finally:
                    one.settimeout(10)
                if not piece:
                    return
                self.seen += piece
                forward = self._rewrite if one is client else self._rewrite_back
                pairs[one].sendall(forward(piece))

    def _pump_opened(
        self,
        client: socket.socket,
        upstream: socket.socket,
        host: str,
        stack: contextlib.ExitStack,
    ) -> None:
        """Show the client a certificate of our own, and take the relay's whatever it is."""
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        inside = stack.enter_context(trusting.wrap_socket(upstream, server_hostname=host))
        outside = stack.enter_context(
            self._server_context(host).wrap_socket(client, server_side=True)
        )
        self._pump(outside, inside)
