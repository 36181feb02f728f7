"""STARTTLS against servers that refuse, say too much, or say nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from internal_puller.install.probe import look
from internal_puller.install.starttls import begin_tls
from internal_puller.settings.targets import PROTOCOLS, ProbePoint
from shared.contract.errors import ConfigurationError

NAME = "www.intra.example.com"
GOOD = {
    "smtp": [b"220-hello\r\n220 mail\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go\r\n"],
    "imap": [b"* OK ready\r\n", b"* CAPABILITY IMAP4rev1\r\na OK begin\r\n"],
    "pop3": [b"+OK ready\r\n", b"+OK begin\r\n"],
    "postgresql": [b"", b"S"],
    "tls": [],
}
BAD = {
    "smtp": [b"220 mail\r\n", b"250 mail\r\n", b"454 TLS not available\r\n"],
    "imap": [b"* OK ready\r\n", b"a BAD unknown\r\n"],
    "pop3": [b"+OK ready\r\n", b"-ERR no\r\n"],
    "postgresql": [b"", b"N"],
}


@contextlib.contextmanager
def server(turns: list[bytes], *, then: bytes = b"") -> Iterator[socket.socket]:
    """Say one turn at once, and the next after each thing that is said to it; give the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                for number, turn in enumerate(turns):
                    if number:
                        connection.recv(4096)
                    connection.sendall(turn)
                if then:
                    while True:
                        connection.sendall(then)
                connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listener.getsockname()) as client:
            yield client
        thread.join()


@pytest.mark.parametrize("protocol", GOOD)
def test_a_server_that_is_willing(protocol: str) -> None:
    with server(GOOD[protocol], then=b"") as client:
        begin_tls(client, protocol, time.monotonic() + 5)


@pytest.mark.parametrize("protocol", BAD)
def test_a_server_that_is_not(protocol: str) -> None:
    with server(BAD[protocol]) as client, pytest.raises(OSError, match=r"said|TLS for nobody"):
        begin_tls(client, protocol, time.monotonic() + 5)


@pytest.mark.parametrize("octets", [b"220-more\r\n", b"x" * 512])
def test_a_server_that_says_too_much(octets: bytes) -> None:
    with server([b""], then=octets) as client, pytest.raises(OSError, match="too"):
        begin_tls(client, "smtp", time.monotonic() + 5)


def test_a_server_that_says_nothing_or_goes() -> None:
    with server([b""]) as client, pytest.raises(OSError):
        begin_tls(client, "imap", time.monotonic() + 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        listener.accept()[0].close()
        with pytest.raises(OSError, match="closed"):
            begin_tls(client, "pop3", time.monotonic() + 5)


def test_what_a_probe_says_of_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"554 no service\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        seen = look(ProbePoint("127.0.0.1", port, NAME, "smtp"), 5)
        thread.join()
    assert seen.leaf_sha256 is None and "554 no service" in seen.why


def test_a_protocol_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="no protocol to probe by"):
        ProbePoint("127.0.0.1", 21, NAME, "gopher")
    assert set(GOOD) <= set(PROTOCOLS)
