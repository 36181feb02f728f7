"""Stalled connections to the relay: bounded, ended in time, and in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import structlog

from external_agent.composition import agent
from external_agent.relay import acceptor
from external_agent.relay.acceptor import Acceptor, Peer
from external_agent.relay.change_notifier import MAX_WAITS
from external_agent.relay.log_of_strangers import LINES, Seldom
from external_agent.relay.servers import MOST_CONNECTIONS
from external_agent.settings.addresses import network_of
from shared.contract.wire import CERTIFICATES_PATH, DIRECT_PATH, RECEIPTS_PATH, Listing
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    START,
    Client,
    Draft,
    RunningAgent,
    new_nonce,
    raw_exchange,
    running_agent,
    settings_in,
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
    return len(running.agent._relay._server.acceptor)


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


def _half_sent(client: Client) -> dict[str, bytes]:
    """What a stranger sends and leaves at that; the last two are signed by a key known here."""
    body = client.draft("POST", RECEIPTS_PATH, b"{}")
    fields = "".join(f"{name}: {value}\r\n" for name, value in body.headers.items())
    head = "POST /v1/receipts HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    return {
        "nothing": b"",
        "a line": b"POST /v1/rec",
        "unsigned": f"{head}\r\n".encode(),
        "no body": f"{head}{fields}\r\n".encode(),
        "half a body": f"{head}{fields}\r\n{{".encode(),
    }


@pytest.mark.parametrize("neighbours", [False, True], ids=["elsewhere", "behind one address"])
@pytest.mark.parametrize("kind", ["nothing", "a line", "unsigned", "no body", "half a body"])
def test_half_sent_requests_are_nobody_s_business(
    small_agent: RunningAgent, monkeypatch: pytest.MonkeyPatch, kind: str, *, neighbours: bool
) -> None:
    """Pullers come from the same address, or all from behind a proxy here."""
    if neighbours:
        monkeypatch.setattr(acceptor, "network_of", lambda address: "203.0.113.9")
    client = small_agent.enrolled(CERTIFICATE)
    since = Listing.decode(client.get(CERTIFICATES_PATH).body).version
    with ThreadPoolExecutor(4) as pool:
        polls = [
            pool.submit(client.get, CERTIFICATES_PATH, f"since={since}&wait=50") for _ in range(4)
        ]
        wait_until(lambda: small_agent.agent._bell.waiting == 4)
        stalled = _stall_in_tls(small_agent, 150, _half_sent(client)[kind])
        try:
            for _ in range(5):
                answer = client.send("POST", DIRECT_PATH, b"{}", timeout=10)
                assert (answer.status, answer.signed) == (400, True)
            assert _inside(small_agent) <= 64
            assert small_agent.agent._bell.waiting == 4, "a parked poll was reset"
            small_agent.publish(CERTIFICATE)
            assert {one.result(20).status for one in polls} == {200}
        finally:
            _close(stalled)


def _stall_in_tls(running: RunningAgent, count: int, first: bytes) -> list[socket.socket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found: list[socket.socket] = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", running.port("relay")), timeout=10)
        with contextlib.suppress(OSError):
            one = context.wrap_socket(one)
            one.sendall(first)
        found.append(one)
    return found


def test_half_a_request_is_no_work_also_of_one_who_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is enrolled cannot hold all connections by requests that never end."""
    monkeypatch.setattr(agent, "_permitted_connections", lambda wanted, part: 4)
    with running_agent(tmp_path, CERTIFICATE) as running:
        greedy, other = running.enrolled(CERTIFICATE), running.enrolled(CERTIFICATE)
        kept = [greedy.connect() for _ in range(4)]
        try:
            for one in kept:
                draft = greedy.draft("GET", CERTIFICATES_PATH)
                one.putrequest("GET", draft.path, skip_host=True)
                for name, value in (("Host", "x"), *draft.headers.items()):
                    one.putheader(name, value)
                one.endheaders()
                assert len(one.getresponse().read()) > 0
                one.sock.sendall(_half_sent(greedy)["no body"])
            acceptor_of = running.agent._relay._server.acceptor
            assert (len(acceptor_of), acceptor_of.strangers) == (4, 0)
            assert other.get(CERTIFICATES_PATH, timeout=10).status == 200
        finally:
            for one in kept:
                one.close()


def test_a_byte_a_second_is_no_request(
    small_agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = small_agent.enrolled(CERTIFICATE)
    head = _half_sent(client)["no body"]
    stalled = _stall_in_tls(small_agent, 100, b"")
    over = threading.Event()

    def drip() -> None:
        for octet in head:
            for one in stalled:
                with contextlib.suppress(OSError):
                    one.sendall(bytes([octet]))
            if over.wait(0.2):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        for _ in range(10):
            assert client.get(CERTIFICATES_PATH, timeout=10).status == 200
    finally:
        over.set()
        thread.join()
        _close(stalled)


MANY, STRANGERS = 1000, 2000


@pytest.mark.timeout(300)
def test_a_thousand_pullers_behind_one_address_beside_two_thousand_strangers_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of an intranet behind NAT, and of an attack from inside it.

    Without TLS: three thousand handshakes in one process would only take their time.
    """
    monkeypatch.setattr(acceptor, "network_of", lambda address: "203.0.113.9")
    settings = settings_in(tmp_path / "state", tls="none")
    with running_agent(tmp_path, CERTIFICATE, settings=settings) as running:
        clients = [_added(running) for _ in range(MANY // MAX_WAITS)]
        asyncio.run(_Crowd(running, clients).play())


def _added(running: RunningAgent) -> Client:
    client, token = Client(running), running.token(CERTIFICATE)
    running.store.redeem_token(
        token.key.id,
        signing_key=client.signing.public.public,
        sealing_key=client.identity.recipient.public,
        host="web",
        nonce=new_nonce(),
        now=START,
    )
    return client


class _Crowd:
    """Pullers that poll again and again on connections that they keep, and what is done beside."""

    def __init__(self, running: RunningAgent, clients: Sequence[Client]) -> None:
        self.running, self.clients = running, clients
        self.connect = partial(asyncio.open_connection, "127.0.0.1", running.port("relay"))
        self.answers: list[bytes] = []
        self.over = False

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        polls = [
            asyncio.create_task(self.poll(one)) for one in self.clients for _ in range(MAX_WAITS)
        ]
        await loop.run_in_executor(None, wait_until, lambda: self.parked == MANY, 60)
        strangers = [writer async for writer in self.strangers()]
        accepted = self.running.agent._relay._server.acceptor
        assert accepted.strangers <= MOST_CONNECTIONS // 2
        assert not any(one.done() for one in polls)
        self.over = True
        await loop.run_in_executor(None, self.running.publish, CERTIFICATE)
        assert {line async for line in _results(polls)} == {b"HTTP/1.1 200 OK"}
        for writer in strangers:
            writer.transport.abort()

    @property
    def parked(self) -> int:
        return self.running.agent._bell.waiting

    async def poll(self, client: Client) -> bytes:
        """Never reset: an answer that is late or none ends the test."""
        reader, writer = await self.connect()
        status, since = b"", "0"
        while not self.over or not status:
            query = f"since={since}&wait=50"
            writer.write(_octets(client.draft("GET", CERTIFICATES_PATH, query=query)))
            head = await reader.readuntil(b"\r\n\r\n")
            status = head.split(b"\r\n")[0]
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            since = Listing.decode(await reader.readexactly(length)).version
        writer.close()
        return status

    async def strangers(self) -> AsyncIterator[asyncio.StreamWriter]:
        half = _half_sent(self.clients[0])["no body"]
        for number in range(STRANGERS):
            _, writer = await self.connect()
            writer.write(half)
            yield writer
            if number % 100 == 0:  # one that comes anew, beside them
                reader, newcomer = await self.connect()
                draft = self.clients[0].draft("POST", DIRECT_PATH, b"{}")
                newcomer.write(_octets(draft))
                assert (await reader.readline()).startswith(b"HTTP/1.1 400")
                newcomer.close()


async def _results(tasks: Sequence[asyncio.Task[bytes]]) -> AsyncIterator[bytes]:
    for one in tasks:
        yield await asyncio.wait_for(one, 60)


def _octets(draft: Draft) -> bytes:
    target = draft.path + (f"?{draft.query}" if draft.query else "")
    lines = [f"{draft.method} {target} HTTP/1.1", "Host: x"]
    lines += [f"{name}: {value}" for name, value in draft.headers.items()]
    if draft.body:
        lines.append(f"Content-Length: {len(draft.body)}")
    return "\r\n".join([*lines, "", ""]).encode() + draft.body


# --- whom a connection counts for ------------------------------------------------------------


class _Fake(asyncio.Protocol):
    """A peer that says nothing; a test shows its credentials."""

    def __init__(self, accepted: Acceptor) -> None:
        self.accepted = accepted
        self.made, self.ended, self.working = asyncio.Event(), False, False
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.made.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.accepted.leave(self)

    def is_inside(self) -> bool:
        return self.made.is_set()

    def is_at_work(self) -> bool:
        return self.working

    def turn_out(self) -> None:
        self.ended = True
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.abort()

    def vouch(self, holder: str) -> None:
        self.accepted.know(self, holder)


class _Listener:
    """An acceptor whose visitors come from wherever the test says."""

    def __init__(self, most: int) -> None:
        self.peers: list[_Fake] = []
        self.coming_from: str | None = None
        self.acceptor = Acceptor(self._make, None, most)
        self._clients: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))

    def _make(self, accepted: Acceptor) -> Peer:
        self.peers.append(_Fake(accepted))
        return self.peers[-1]

    async def come(self, network: str | None) -> _Fake:
        self.coming_from = network
        before = len(self.peers)
        self._clients.append(socket.create_connection(self._socket.getsockname()[:2]))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, wait_until, lambda: len(self.peers) > before)
        await asyncio.wait_for(self.peers[-1].made.wait(), 10)
        return self.peers[-1]

    def close(self) -> None:
        _close([self._socket, *self._clients])


def with_listener(most: int, play: Callable[[_Listener], Awaitable[None]]) -> None:
    listener = _Listener(most)

    async def main() -> None:
        listener.acceptor.open([listener._socket])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(acceptor, "network_of", lambda address: listener.coming_from)
            await asyncio.wait_for(play(listener), 20)
        await listener.acceptor.close()
        for one in listener.peers:
            if isinstance(one.transport, asyncio.Transport):
                one.transport.abort()
        await asyncio.sleep(0)

    try:
        asyncio.run(main())
    finally:
        listener.close()


def test_strangers_count_against_their_address() -> None:
    async def play(listener: _Listener) -> None:
        crowd = [await listener.come("crowd") for _ in range(10)]
        assert [one.ended for one in crowd] == [True] * 5 + [False] * 5  # half of ten
        other = await listener.come("other")
        assert not other.ended and len(listener.acceptor) == 6

    with_listener(10, play)


def test_who_has_shown_credentials_does_not_count_against_the_address() -> None:
    async def play(listener: _Listener) -> None:
        for number in range(8):
            (await listener.come("crowd")).vouch(f"puller {number}")
        assert not any(one.ended for one in listener.peers)
        assert (len(listener.acceptor), listener.acceptor.strangers) == (8, 0)

    with_listener(10, play)


def test_the_address_with_most_strangers_gives_way() -> None:
    async def play(listener: _Listener) -> None:
        first = await listener.come("alone")
        crowd = [await listener.come("crowd") for _ in range(4)]
        known = await listener.come("alone")
        known.vouch("puller")
        for _ in range(3):
            await listener.come("third")
        assert not first.ended and not known.ended
        assert [one.ended for one in crowd][:1] == [True]

    with_listener(8, play)


def test_strangers_go_first_then_the_idle_and_never_who_is_at_work() -> None:
    """Each from an address of its own: else that address would be full first."""

    async def play(listener: _Listener) -> None:
        busy = await listener.come("a")
        busy.vouch("one")
        busy.working = True
        idle = await listener.come("b")
        idle.vouch("two")
        stranger = await listener.come("c")
        third = await listener.come("d")
        assert (stranger.ended, idle.ended) == (True, False)
        third.vouch("three")
        await listener.come("e")
        assert (idle.ended, third.ended, busy.ended) == (True, False, False)

    with_listener(3, play)


def test_one_holder_of_credentials_has_not_all_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "MOST_KNOWN", 3)

    async def play(listener: _Listener) -> None:
        mine = [await listener.come("a") for _ in range(5)]
        for one in mine:
            one.vouch("greedy")
        assert [one.ended for one in mine] == [True, True, False, False, False]

    with_listener(20, play)


def test_a_proxy_of_this_machine_has_no_limit_of_its_own() -> None:
    async def play(listener: _Listener) -> None:
        behind = [await listener.come(None) for _ in range(10)]
        assert not any(one.ended for one in behind)
        await listener.come(None)
        assert [one.ended for one in behind] == [True] + [False] * 9

    with_listener(10, play)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::1", 1, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        (("127.0.0.1", 1), None),
        (("::1", 1, 0, 0), None),
        (("::ffff:127.0.0.1", 1, 0, 0), None),
        ("", None),
        (b"", None),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_what_an_address_stands_for(peer: object, network: str | None) -> None:
    assert network_of(peer) == network


# --- the log ---------------------------------------------------------------------------------


def test_strangers_fill_no_log() -> None:
    lines: list[tuple[str, object]] = []

    def write(event: str, **details: object) -> None:
        lines.append((event, details.get("count", details.get("reason"))))

    async def play() -> None:
        log = Seldom(0.05)
        for number in range(LINES + 7):
            log.note(write, "request refused", reason=number)
        assert lines == [("request refused", number) for number in range(LINES)]
        await asyncio.get_running_loop().run_in_executor(
            None, wait_until, lambda: len(lines) > LINES
        )
        assert lines[-1] == ("request refused: more of the same left out of the log", 7)
        log.note(write, "request refused", reason="later")
        assert lines[-1] == ("request refused", "later")

    asyncio.run(asyncio.wait_for(play(), 20))


def test_refusals_go_through_it(small_agent: RunningAgent) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(3 * LINES):
            assert Client(small_agent).get(CERTIFICATES_PATH).status == 401
    assert [one["event"] for one in lines].count("request refused") == LINES


def test_a_handshake_has_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert acceptor.Acceptor.__init__.__defaults__ == (10.0,)
    monkeypatch.setattr(acceptor.Acceptor.__init__, "__defaults__", (0.2,))
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
