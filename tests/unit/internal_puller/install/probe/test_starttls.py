"""STARTTLS and the PROXY protocol against servers that refuse, say too much, or say nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from internal_puller.install.probe import look
from internal_puller.install.probe.proxy_protocol import header
from internal_puller.install.probe.starttls import DIALOGUES, AskedToWait, NoTls, begin_tls
from internal_puller.outbox.look import Answer
from internal_puller.settings.protocols import STARTTLS
from tests.unit.internal_puller.install.probe.fakes import server as serving

NAME = "www.intra.example.com"
FEATURES = b"<stream:features><starttls xmlns='x'/></stream:features>"
MYSQL = b"\x0a11.4\0" + bytes(13) + b"\xff\xff" + bytes(31)


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


def ldap(code: int, long: bool = False) -> bytes:
    """An ExtendedResponse; Active Directory writes all lengths in four octets."""
    result = b"\x0a\x01" + bytes([code]) + b"\x04\0\x04\0"
    operation = (b"\x78\x84\0\0\0\x07" if long else b"\x78\x07") + result
    message = b"\x02\x01\x01" + operation
    return (b"\x30\x84\0\0\0" if long else b"\x30") + bytes([len(message)]) + message


GOOD = {
    "smtp": [b"220-hello\r\n220 mail\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go\r\n"],
    "lmtp": [b"220 mail\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go\r\n"],
    "imap": [b"* OK ready\r\n", b"* CAPABILITY IMAP4rev1\r\na OK begin\r\n"],
    "pop3": [b"+OK ready\r\n", b"+OK begin\r\n"],
    "sieve": [b'"SIEVE" "fileinto"\r\n"STARTTLS"\r\nOK "ready"\r\n', b'OK "begin"\r\n'],
    "ftp": [b"220-hello\r\n 221 text\r\n220 ftp\r\n", b"234 go\r\n"],
    "ldap": [b"", ldap(0)],
    "mysql": [packet(MYSQL)],
    "postgresql": [b"", b"S"],
    "xmpp": [b"", b"<?xml version='1.0'?><stream:stream>" + FEATURES, b"<proceed xmlns='x'/>"],
    "xmpp-server": [b"", b"<stream:stream>" + FEATURES, b"<proceed xmlns='x'></proceed>"],
}
BAD = {
    "smtp": [b"220 mail\r\n", b"250 mail\r\n", b"454 TLS not available\r\n"],
    "lmtp": [b"220 mail\r\n", b"500 what?\r\n"],
    "imap": [b"* OK ready\r\n", b"a BAD unknown\r\n"],
    "pop3": [b"+OK ready\r\n", b"-ERR no\r\n"],
    "sieve": [b'OK "ready"\r\n', b'NO "no TLS"\r\n'],
    "ftp": [b"220 ftp\r\n", b"530 Please login with USER and PASS.\r\n"],
    "ldap": [b"", ldap(2)],
    "mysql": [packet(MYSQL.replace(b"\xff\xff", b"\xff\xf7"))],
    "postgresql": [b"", b"N"],
    "xmpp": [b"", b"<stream:stream><stream:features></stream:features>"],
    "xmpp-server": [b"", b"<stream:stream>" + FEATURES, b"<failure xmlns='x'/>"],
}
OTHERWISE_BAD = {
    "smtp": [b"554 no service\r\n"],
    "imap": [b"* PREAUTH already\r\n"],
    "pop3": [b"-ERR go away\r\n"],
    "sieve": [b"SIP/2.0 400\r\n"],
    "ldap": [b"", b"HTTP/1.1 400 Bad Request\r\n"],
    "mysql": [packet(b"\xff\x6a\x04Host '10.0.0.1' is not allowed to connect")],
    "xmpp": [b"", b"<stream:stream><stream:error><host-unknown/></stream:error>"],
}
LATER = {
    "smtp": [b"421 4.3.2 All server ports are busy\r\n"],
    "lmtp": [b"220 mail\r\n", b"421 shutting down\r\n"],
    "imap": [b"* BYE [UNAVAILABLE] Maximum number of connections exceeded.\r\n"],
    "pop3": [b"-ERR [SYS/TEMP] later\r\n"],
    "sieve": [b'BYE "Maximum number of connections"\r\n'],
    "ftp": [b"421 There are too many connected users.\r\n"],
    "ldap": [b"", ldap(52)],
    "mysql": [packet(b"\xff\x10\x04Too many connections")],
    "postgresql": [b"", b"E"],
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


@pytest.mark.parametrize("scheme", GOOD)
def test_a_server_that_is_willing(scheme: str) -> None:
    with server(GOOD[scheme]) as client:
        begin_tls(client, scheme, NAME, time.monotonic() + 20)


@pytest.mark.parametrize("turns", [[b"", ldap(0, long=True)]])
def test_lengths_as_active_directory_writes_them(turns: list[bytes]) -> None:
    with server(turns) as client:
        begin_tls(client, "ldap", NAME, time.monotonic() + 20)


@pytest.mark.parametrize(
    ("scheme", "turns"), [*BAD.items(), *OTHERWISE_BAD.items()], ids=lambda it: it
)
def test_a_server_that_is_not(scheme: str, turns: list[bytes]) -> None:
    with server(turns) as client, pytest.raises(NoTls, match=r"said|offers no|answer"):
        begin_tls(client, scheme, NAME, time.monotonic() + 20)


@pytest.mark.parametrize(("scheme", "turns"), LATER.items(), ids=lambda it: it)
def test_a_server_that_asks_to_wait(scheme: str, turns: list[bytes]) -> None:
    with server(turns) as client, pytest.raises(AskedToWait, match=r"said|answer"):
        begin_tls(client, scheme, NAME, time.monotonic() + 20)


@pytest.mark.parametrize("scheme", DIALOGUES)
@pytest.mark.parametrize("octets", [b"220-more\r\n", b"x" * 512, b'"x"\r\n', b"<x></x>"])
def test_a_server_that_says_too_much_or_nothing_of_use(scheme: str, octets: bytes) -> None:
    with server([b""], then=octets) as client, pytest.raises((NoTls, AskedToWait)):
        begin_tls(client, scheme, NAME, time.monotonic() + 20)


@pytest.mark.parametrize("scheme", DIALOGUES)
def test_a_server_that_says_nothing_or_goes(scheme: str) -> None:
    with server([b""] * 3) as client, pytest.raises(TimeoutError):
        begin_tls(client, scheme, NAME, time.monotonic() + 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        listener.accept()[0].close()
        with pytest.raises(OSError, match=r"closed|reset|Broken pipe"):
            begin_tls(client, scheme, NAME, time.monotonic() + 20)


@pytest.mark.parametrize(
    ("greeting", "answer"),
    [
        (b"554 no service\r\n", Answer.NONE),
        (b"450 greylisted\r\n", Answer.NOT_KNOWN),
        (b"", Answer.NONE),
    ],
)
def test_what_a_look_says_of_it(greeting: bytes, answer: Answer) -> None:
    with serving(lambda connection: connection.sendall(greeting)) as point:
        (seen,) = look(replace(point, protocol="smtp"), 20)
    assert (seen.answer, seen.leaf_sha256) == (answer, None)
    assert greeting.strip().decode() in seen.why and seen.why


def test_xmpp_says_which_domain_is_meant() -> None:
    heard = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(4096))

    for scheme in ("xmpp", "xmpp-server"):
        with serving(listen) as point:
            look(replace(point, protocol=scheme), 20)
    assert [f"to='{NAME}'".encode() in said for said in heard] == [True, True]
    assert b"'jabber:client'" in heard[0] and b"'jabber:server'" in heard[1]


@pytest.mark.parametrize(("version", "scheme"), [("proxy", "smtp"), ("proxy2", "tls")])
def test_header_of_the_proxy_protocol_comes_first(version: str, scheme: str) -> None:
    heard = []

    def listen(connection: socket.socket) -> None:
        peer = connection.getpeername()
        if version == "proxy":
            line = b""
            while not line.endswith(b"\n"):
                line += connection.recv(1)
            port = connection.getsockname()[1]
            heard.append(line == f"PROXY TCP4 127.0.0.1 127.0.0.1 {peer[1]} {port}\r\n".encode())
            connection.sendall(b"554 no\r\n")
        else:
            head = connection.recv(28, socket.MSG_WAITALL)
            signature = head[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
            heard.append(signature and head[24:26] == peer[1].to_bytes(2))
            heard.append(connection.recv(1) == b"\x16")

    with serving(listen) as point:
        (seen,) = look(replace(point, protocol=f"{version}+{scheme}"), 20)
    assert heard and all(heard) and seen.answer is Answer.NONE


def test_header_for_ipv6() -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
    ):
        ours, theirs = client.getsockname()[1], listener.getsockname()[1]
        assert header(client, 1) == f"PROXY TCP6 ::1 ::1 {ours} {theirs}\r\n".encode()
        binary = header(client, 2)
    assert binary[12:16] == b"\x21\x21\0\x24" and len(binary) == 16 + 36


def test_every_scheme_that_speaks_first_is_known_and_has_a_dialogue() -> None:
    assert set(GOOD) == set(BAD) == set(DIALOGUES) == set(STARTTLS)
