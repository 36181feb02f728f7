"""Two kinds of visitors of the intranet server, who must never notice a renewal."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field

_REQUEST = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n"


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what is served is compared by its digest
    return context


def _connect(address: tuple[str, int], name: str) -> ssl.SSLSocket:
    raw = socket.create_connection(address, timeout=5)
    return _context().wrap_socket(raw, server_hostname=name)


def served_leaf(address: tuple[str, int], name: str) -> bytes:
    """Return the DER of the certificate that the server shows to anybody who connects."""
    with _connect(address, name) as connection:
        return connection.getpeercert(binary_form=True) or b""


def digest(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


@dataclass
class Visitors:
    """One keeps a single connection for the whole time; others come and go. Both count.

    Attributes:
        kept: answers on the one kept connection.
        new: answers on connections of their own.
        failed: requests without an answer, and why.
        seen: digests of the served certificates, in the order in which they appeared.
    """

    address: tuple[str, int]
    name: str
    kept: int = 0
    new: int = 0
    failed: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Visitors:
        for visit in (self._keep_one, self._come_and_go):
            thread = threading.Thread(target=visit, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _ask(self, connection: ssl.SSLSocket) -> None:
        connection.sendall(_REQUEST % self.name.encode())
        answer = connection.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError("closed without an answer")

    def _keep_one(self) -> None:
        try:
            with _connect(self.address, self.name) as connection:
                while not self._stop.wait(0.02):
                    self._ask(connection)
                    self.kept += 1
        except OSError as error:
            self.failed.append(f"kept connection: {error}")

    def _come_and_go(self) -> None:
        while not self._stop.wait(0.05):
            try:
                with _connect(self.address, self.name) as connection:
                    leaf = digest(connection.getpeercert(binary_form=True) or b"")
                    self._ask(connection)
            except OSError as error:
                self.failed.append(f"new connection at {time.strftime('%X')}: {error}")
                continue
            self.new += 1
            if not self.seen or self.seen[-1] != leaf:
                self.seen.append(leaf)
