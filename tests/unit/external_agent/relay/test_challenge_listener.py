"""Port 80: the exact token and nothing else, at once, whatever else hangs on the socket."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from external_agent.relay.challenge_http import ChallengeAnswers, Responder
from external_agent.settings.config import Settings
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    RunningAgent,
    raw_exchange,
    running_agent,
    settings_in,
    wait_until,
)

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = TOKEN + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
PATH = f"/.well-known/acme-challenge/{TOKEN}"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with running_agent(tmp_path_factory.mktemp("challenge"), CERTIFICATE) as running:
        running.agent.changes.answers.put(TOKEN, ANSWER)
        yield running


def ask(agent: RunningAgent, request: str | bytes, *, end: bool = True) -> bytes:
    data = request if isinstance(request, bytes) else request.encode("latin-1")
    return raw_exchange(agent.port("challenge"), data, end=end)


def get(path: str, *, method: str = "GET", more: str = "", version: str = "HTTP/1.1") -> str:
    return f"{method} {path} {version}\r\nHost: www.intra.example.com\r\n{more}\r\n"


CLOSE = "Connection: close\r\n"


def test_the_exact_token_is_answered(agent: RunningAgent) -> None:
    head, body = ask(agent, get(PATH, more=CLOSE)).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == ANSWER.encode()
    assert b"Content-Type: application/octet-stream" in head
    assert f"Content-Length: {len(ANSWER)}".encode() in head
    assert b"\r\nDate: " in head
    assert b"Server" not in head


def test_ipv6_is_answered(agent: RunningAgent) -> None:
    answer = raw_exchange(agent.port("challenge", 1), get(PATH, more=CLOSE).encode(), family="::1")
    assert answer.endswith(ANSWER.encode())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge",
        PATH[:-1],
        PATH + "A",
        PATH + "/",
        PATH + "?x=1",
        PATH + "%00",
        PATH.replace("evaG", "%65vaG"),
        PATH.upper(),
        PATH.lower(),
        "/x/.." + PATH,
        "/" + PATH,
        "http://www.intra.example.com" + PATH,
        "/.well-known/acme-challenge/../../etc/passwd",
        "/.well-known/acme-challenge/" + "A" * 2000,
        "*",
    ],
)
def test_everything_else_is_404_with_nothing_to_read(agent: RunningAgent, path: str) -> None:
    head, body = ask(agent, get(path, more=CLOSE)).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert body == b""
    assert b"Location" not in head


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PROPFIND"])
def test_other_methods_find_nothing(agent: RunningAgent, method: str) -> None:
    answer = ask(agent, get(PATH, method=method, more=CLOSE))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert ANSWER.encode() not in answer


def test_head_has_the_head_only(agent: RunningAgent) -> None:
    answer = ask(agent, get(PATH, method="HEAD", more=CLOSE))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(ANSWER)}".encode() in answer
    assert answer.endswith(b"\r\n\r\n")


def test_pipelined_requests_are_answered_in_order(agent: RunningAgent) -> None:
    answer = ask(
        agent, get(PATH) + get("/nothing") + get(PATH, method="HEAD") + get(PATH, more=CLOSE)
    )
    statuses = [line.split()[1] for line in answer.split(b"\r\n") if b"HTTP/1.1 " in line]
    assert len(statuses) == 4
    assert answer.count(ANSWER.encode()) == 2
    assert [answer.find(b"200"), answer.find(b"404")] == sorted(
        [answer.find(b"200"), answer.find(b"404")]
    )


def test_nothing_is_answered_after_close(agent: RunningAgent) -> None:
    answer = ask(agent, get(PATH, more=CLOSE) + get(PATH))
    assert answer.count(b"HTTP/1.1") == 1


def test_a_kept_connection_serves_many_requests(agent: RunningAgent) -> None:
    with socket.create_connection(("127.0.0.1", agent.port("challenge")), timeout=10) as kept:
        for path, status in [(PATH, b"200"), ("/x", b"404")] * 5:
            kept.sendall(get(path).encode())
            assert kept.recv(4096).split()[1] == status


def test_a_request_in_pieces_is_put_together(agent: RunningAgent) -> None:
    request = get(PATH, more=CLOSE).encode()
    with socket.create_connection(("127.0.0.1", agent.port("challenge")), timeout=10) as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(0, len(request), 7):
            slow.sendall(request[index : index + 7])
        received = b""
        while chunk := slow.recv(4096):
            received += chunk
    assert received.endswith(ANSWER.encode())


def test_http_1_0_is_answered_and_closed(agent: RunningAgent) -> None:
    answer = ask(agent, get(PATH, version="HTTP/1.0"), end=False)
    assert answer.endswith(ANSWER.encode())
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    "more", ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "content-LENGTH: 0\r\n"]
)
def test_what_follows_a_body_is_never_a_request(agent: RunningAgent, more: str) -> None:
    answer = ask(agent, get(PATH, more=more) + get(PATH), end=False)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"get / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / GARBAGE\r\n\r\n",
        b": :\r\n\r\n",
        b"\0" * 100,
        b"GET /" + b"A" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"A" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000,
        b"A" * 100_000,
    ],
    ids=range(13),
)
def test_garbage_and_too_much_end_the_connection(agent: RunningAgent, data: bytes) -> None:
    try:
        answer = ask(agent, data, end=False)
    except ConnectionResetError:
        return  # closed with octets of ours unread
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\n\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_an_unknown_token_costs_no_query(
    agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries come from the poller once a second, however many requests there are."""
    asked: list[str] = []
    real = agent.store.pending_challenges
    monkeypatch.setattr(
        agent.store, "pending_challenges", lambda: asked.append("pending") or real()
    )
    before = agent.store.change_counter()
    request = (get("/.well-known/acme-challenge/unknown") * 50).encode()
    for _ in range(20):
        assert ask(agent, request).count(b"404 Not Found") == 50
    assert asked == []
    assert agent.store.change_counter() == before


@pytest.mark.lab
def test_challenges_of_other_processes_appear(tmp_path: Path) -> None:
    with running_agent(tmp_path, CERTIFICATE) as running:
        running.enrolled(CERTIFICATE)
        now = int(running.clock())
        (claim,) = running.store.claim_due("test", now=now, lease_seconds=60)
        running.store.put_challenge(claim, TOKEN, ANSWER, CERTIFICATE, now=now)
        port = running.port("challenge")
        request = get(PATH, more=CLOSE).encode()
        wait_until(lambda: raw_exchange(port, request).endswith(ANSWER.encode()))
        running.store.remove_certificate(CERTIFICATE, now=now)
        wait_until(lambda: b"404" in raw_exchange(port, request))


# --- stalled sockets -------------------------------------------------------------------------


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("sent", [b"", b"GET /.well-known/acme-chall"])
def test_500_stalled_sockets_delay_nobody(agent: RunningAgent, sent: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stalled = socket.create_connection(("127.0.0.1", agent.port("challenge")), timeout=10)
            stack.enter_context(stalled)
            stalled.sendall(sent)
        begin = time.monotonic()
        assert ask(agent, get(PATH, more=CLOSE)).endswith(ANSWER.encode())
        assert time.monotonic() - begin < 1


def limited(directory: Path, **challenge: object) -> Settings:
    settings = settings_in(directory / "state")
    section = settings.challenge.model_copy(update=challenge)
    return settings.model_copy(update={"challenge": section})


def test_the_longest_waiting_gives_way_when_there_are_too_many(tmp_path: Path) -> None:
    settings = limited(tmp_path, max_connections=16, timeout=3600)  # none ends for its age
    with running_agent(tmp_path, CERTIFICATE, settings=settings) as running:
        running.agent.changes.answers.put(TOKEN, ANSWER)
        port = running.port("challenge")
        with contextlib.ExitStack() as stack:
            stalled = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                for _ in range(40)
            ]
            assert ask(running, get(PATH, more=CLOSE)).endswith(ANSWER.encode())
            with contextlib.suppress(ConnectionResetError):
                assert stalled[0].recv(1) == b""  # ended by the agent


def test_a_stalled_connection_ends_by_itself(tmp_path: Path) -> None:
    settings = limited(tmp_path, timeout=0.2)
    with running_agent(tmp_path, CERTIFICATE, settings=settings) as running:
        port = running.port("challenge")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stalled:
            stalled.sendall(b"GET /.well-known/")
            with contextlib.suppress(ConnectionResetError):
                assert stalled.recv(1) == b""


# --- without sockets -------------------------------------------------------------------------


def test_hits_are_counted_and_handed_over_once() -> None:
    answers = ChallengeAnswers()
    answers.put(TOKEN, ANSWER)
    responder = Responder(answers)
    for _ in range(3):
        responder.respond(get(PATH).encode().removesuffix(b"\r\n\r\n"))
    responder.respond(get("/x").encode().removesuffix(b"\r\n\r\n"))
    assert answers.take_hits() == {TOKEN: 3}
    assert answers.take_hits() == {}


def test_the_connection_is_kept_unless_asked_otherwise() -> None:
    responder = Responder(ChallengeAnswers())
    for more, close in (("", False), (CLOSE, True), ("connection: Close\r\n", True)):
        head = get("/x", more=more).encode().removesuffix(b"\r\n\r\n")
        answer, ends = responder.respond(head)
        assert ends is close
        assert (b"Connection: close" in answer) is close
