"""HTTP to a CA that never ends, drips, redirects or answers nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.acme.keys import generate_account_key, load_account_key
from shared.acme.network import MAX_BODY, BoundedNetwork
from shared.acme.origin import Origin
from shared.contract.errors import (
    ConfigurationError,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
)

TLS_RECORD = b"\x16\x03"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def server(behave: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """Serve raw bytes on loopback; `behave` gets the connection and the request head."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and not request.startswith(TLS_RECORD):
                part = connection.recv(65536)
                if not part:
                    return
                request += part
            behave(connection, request)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/dir"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [accepting, *threads]:
            thread.join()


@contextlib.contextmanager
def network(url: str, timeout: float = 0.5, proxy: str | None = None) -> Iterator[BoundedNetwork]:
    bounded = BoundedNetwork(
        load_account_key(generate_account_key()),
        Origin(url, frozenset(("127.0.0.1", "ca.example.org"))),
        trusted_roots=None,
        proxy=proxy,
        user_agent="test",
        clock=lambda: 1_800_000_000.0,
        sleep=lambda seconds: None,
        timeout=timeout,
    )
    try:
        yield bounded
    finally:
        bounded.session.close()


def answering(raw: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda connection, request: connection.sendall(raw)


def drip(prefix: bytes, drop: bytes) -> Callable[[socket.socket, bytes], None]:
    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(prefix)
        while True:
            connection.sendall(drop)
            time.sleep(0.05)

    return behave


@pytest.mark.parametrize(
    ("prefix", "drop"),
    [
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"", b"H"),
    ],
    ids=["body", "chunks", "header", "status line"],
)
def test_a_dripped_answer_ends_at_the_total_deadline(prefix: bytes, drop: bytes) -> None:
    began = time.monotonic()
    with (
        server(drip(prefix, drop)) as url,
        network(url) as client,
        pytest.raises(IssuanceUnavailable, match=r"within 0\.5 s"),
    ):
        client.fetch(url)
    assert time.monotonic() - began < 3


def test_a_dripped_handshake_ends_at_the_total_deadline() -> None:
    began = time.monotonic()
    with (
        server(drip(TLS_RECORD + b"\x03\x3f\xff\x02\x00\x3f\xfb", b"\x00")) as url,
        network(url.replace("http:", "https:")) as client,
        pytest.raises(IssuanceUnavailable, match=r"within 0\.5 s"),
    ):
        client.fetch(url.replace("http:", "https:"))
    assert time.monotonic() - began < 3


def test_a_silent_server_ends_at_the_total_deadline() -> None:
    closed = threading.Event()

    def behave(connection: socket.socket, request: bytes) -> None:
        closed.wait(5)

    with server(behave) as url:
        with network(url) as client, pytest.raises(IssuanceUnavailable, match="within"):
            client.fetch(url)
        closed.set()


@pytest.mark.parametrize("announced", [True, False])
def test_an_endless_body_is_cut_at_the_cap(announced: bool) -> None:
    def behave(connection: socket.socket, request: bytes) -> None:
        length = b"Content-Length: 9999999999\r\n" if announced else b""
        connection.sendall(HEAD + length + b"\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with (
        server(behave) as url,
        network(url, timeout=10) as client,
        pytest.raises(IssuanceUnavailable, match=f"longer than {MAX_BODY}"),
    ):
        client.fetch(url)


@pytest.mark.parametrize(
    "location", [b"http://169.254.169.254/latest", b"file:///etc/passwd", b"/elsewhere"]
)
def test_a_redirect_is_not_followed(location: bytes) -> None:
    asked: list[bytes] = []

    def behave(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
        )

    with (
        server(behave) as url,
        network(url) as client,
        pytest.raises(IssuanceUnavailable, match="redirect"),
    ):
        client.fetch(url)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Length: 5\r\n\r\n{\xff}{}",
        HEAD + b"Content-Length: 2\r\n\r\n[]",
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b"Content-Length: 40000\r\n\r\n" + b"[" * 40000,
        HEAD + b"Content-Length: 100\r\nContent-Encoding: gzip\r\n\r\n" + b"x" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        HEAD + b"Content-Length: 100\r\n\r\ncut",
        b"",
    ],
    ids=["bytes", "list", "empty", "deep", "encoding", "ssh", "cut", "closed"],
)
def test_nonsense_is_unavailable(raw: bytes) -> None:
    with (
        server(answering(raw)) as url,
        network(url) as client,
        pytest.raises(IssuanceUnavailable),
    ):
        client.fetch(url).document()


def problem(status: bytes, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), more, body)


def test_a_pause_as_a_date_is_counted_by_the_cas_own_clock() -> None:
    dates = b"Date: Mon, 23 Nov 2020 10:00:00 GMT\r\nRetry-After: Mon, 23 Nov 2020 10:02:00 GMT\r\n"
    raw = problem(b"429", b"busy", dates)
    with (
        server(answering(raw)) as url,
        network(url) as client,
        pytest.raises(IssuanceRateLimited) as raised,
    ):
        client.fetch(url)
    assert raised.value.retry_after == 120
    assert client.clock_skew is not None
    assert client.clock_skew < -100_000_000


def test_a_problem_is_one_printable_line() -> None:
    body = b'{"type":"urn:ietf:params:acme:error:caa","detail":"a\\u001b[2J\\r\\nb' + b"x" * 2000
    with (
        server(answering(problem(b"403", body + b'"}'))) as url,
        network(url) as client,
        pytest.raises(IssuanceRejected) as raised,
    ):
        client.fetch(url)
    assert "caa: a?[2J bxxx" in raised.value.what
    assert raised.value.what.isprintable()
    assert len(raised.value.what) < 700


def test_a_proxy_is_used_when_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    asked: list[bytes] = []

    def behave(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    with server(behave) as url:
        proxy = url.removesuffix("/dir")
        with network("http://ca.example.org/dir", proxy=proxy) as client:
            assert client.fetch("http://ca.example.org/dir").document() == {}
    assert asked[0].startswith(b"GET http://ca.example.org/dir ")


def test_another_origin_is_never_called() -> None:
    with (
        server(answering(HEAD + b"\r\n")) as url,
        network(url) as client,
        pytest.raises(IssuanceRejected, match="was not used"),
    ):
        client.fetch("https://127.0.0.1/dir")


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    origin = Origin("https://ca.example.org/dir", frozenset())
    key = load_account_key(generate_account_key())
    rest = {
        "user_agent": "test",
        "clock": time.time,
        "sleep": time.sleep,
        "timeout": 1.0,
    }
    with pytest.raises(ConfigurationError, match="does not exist"):
        BoundedNetwork(key, origin, trusted_roots=tmp_path / "none", proxy=None, **rest)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="proxy"):
        BoundedNetwork(key, origin, trusted_roots=None, proxy="socks5://x", **rest)  # type: ignore[arg-type]
