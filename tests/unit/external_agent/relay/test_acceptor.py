"""Stalled connections to the relay: bounded, ended in time, and in nobody's way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from external_agent.composition import agent
from external_agent.relay import acceptor
from shared.contract.wire import CERTIFICATES_PATH, Listing
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    RunningAgent,
    raw_exchange,
    running_agent,
    wait_until,
)

pytestmark = pytest.mark.lab

_STALLED = 500


@pytest.fixture
def small_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningAgent]:
    """An agent with room for 64 connections of pullers."""
    monkeypatch.setattr(agent, "MOST_CONNECTIONS", 64)
    with running_agent(tmp_path, CERTIFICATE) as one:
        yield one


def _stall(port: int, count: int, first: bytes = b"") -> list[socket.socket]:
    """Open connections that send at most the beginning of something."""
    found = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port), timeout=10)
        with contextlib.suppress(OSError):
            one.sendall(first)
        found.append(one)
    return found


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _inside(running: RunningAgent) -> int:
    return len(running.agent._relay._server.door)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "hello"])
def test_stalled_handshakes_keep_neither_the_ca_nor_a_puller_out(
    small_agent: RunningAgent, first: bytes
) -> None:
    client = small_agent.enrolled(CERTIFICATE)
    stalled = _stall(small_agent.port("relay"), _STALLED, first)
    try:
        begun = time.monotonic()
        answer = client.get(CERTIFICATES_PATH, timeout=10)
        challenge = raw_exchange(
            small_agent.port("challenge"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert answer.status == 200 and answer.signed
        assert challenge.startswith(b"HTTP/1.1 404")
        assert time.monotonic() - begun < 5
        assert _inside(small_agent) <= 64
    finally:
        _close(stalled)
    wait_until(lambda: _inside(small_agent) == 0)


def test_a_handshake_has_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert acceptor.Door.__init__.__defaults__ == (10.0,)
    monkeypatch.setattr(acceptor.Door.__init__, "__defaults__", (0.2,))
    with running_agent(tmp_path, CERTIFICATE) as running:
        (one,) = _stall(running.port("relay"), 1)
        with one:
            assert one.recv(1) == b""


def test_where_all_are_at_work_the_newcomer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_permitted_connections", lambda wanted, part: 2)
    with running_agent(tmp_path, CERTIFICATE) as running:
        client = running.enrolled(CERTIFICATE)
        since = Listing.decode(client.get(CERTIFICATES_PATH).body).version
        polls = [
            threading.Thread(target=client.get, args=(CERTIFICATES_PATH, f"since={since}&wait=30"))
            for _ in range(2)
        ]
        for one in polls:
            one.start()
        wait_until(lambda: running.agent._bell.waiting == 2)
        with pytest.raises(OSError, match=r"reset|EOF|closed"):
            client.get(CERTIFICATES_PATH, timeout=5)
        running.publish(CERTIFICATE)
        for one in polls:
            one.join(20)
            assert not one.is_alive()
        assert client.get(CERTIFICATES_PATH, timeout=5).status == 200


def test_who_keeps_a_connection_for_later_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_permitted_connections", lambda wanted, part: 16)
    with running_agent(tmp_path, CERTIFICATE) as running:
        client = running.enrolled(CERTIFICATE)
        kept = [client.connect() for _ in range(40)]
        try:
            for one in kept:
                one.request("GET", "/")
                one.getresponse().read()
            assert _inside(running) <= 16
            assert client.get(CERTIFICATES_PATH, timeout=5).status == 200
        finally:
            for one in kept:
                one.close()


def test_the_parts_of_the_descriptors_leave_some_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(agent.resource, "getrlimit", lambda _: (1024, 1024))
    shares = [agent._permitted_connections(100_000, part) for part in (2, 4, 16)]
    assert shares == [512, 256, 64]
