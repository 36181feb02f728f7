"""Two agents over one PostgreSQL; a server that goes away, is slow, or cannot be used."""

from __future__ import annotations

import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from external_agent.store.open import open_store
from external_agent.store.postgresql import _WRITERS
from shared.contract.errors import ConfigurationError, StoreUnavailable
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.lab.resolver import TableResolver
from tests.line import Agent, Puller, active, wait_until
from tests.postgresql_server import PostgresqlServer, postgresql_server

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(180)]
WWW, ERP = "www.intra.example.com", "erp.intra.example.com"


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as server:
        yield server


@pytest.fixture
def url(server: PostgresqlServer) -> str:
    return server.url(server.create())


def test_two_agents_over_one_store(tmp_path: Path, url: str) -> None:
    """The second answers what the first orders; nothing is ordered twice; one dies, one goes on."""
    challenge, relay = free_port(), free_port()
    with LabCa(TableResolver(None), http_port=challenge, retry_after=None) as ca:
        first = Agent(tmp_path / "one", RELAY_AGENT_LOG__FORMAT="json", RELAY_AGENT_DATABASE=url)
        first.init(
            *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
            *("--challenge-listen", f"127.0.0.1:{free_port()}"),
            *("--relay-listen", f"127.0.0.1:{relay}"),
            *("--operator-listen", f"127.0.0.1:{free_port()}"),
        )
        second = Agent(tmp_path / "two", **first.environment)
        text = first.config.read_text()
        second.config.write_text(text.replace(str(first.state), str(second.state)))
        _copy_keys(first.state, second.state)
        # The CA comes to the second one, whose listener knows of the order from the store alone.
        second.environment["RELAY_AGENT_CHALLENGE__LISTEN"] = f'["127.0.0.1:{challenge}"]'
        second.environment["RELAY_AGENT_RELAY__LISTEN"] = f'["127.0.0.1:{free_port()}"]'
        second.environment["RELAY_AGENT_OPERATOR__LISTEN"] = f'["127.0.0.1:{free_port()}"]'
        puller = Puller(tmp_path / "puller")
        with first.serving() as one, second.serving():
            puller.enroll(first.add(WWW, ERP))
            directory = puller.target(WWW, ca.root_pem)
            wait_until(lambda: puller.pull() and active(directory), 60)
            assert len(ca.orders) == len(ca.issued) == 1
            one.kill()
            second.call("renew", WWW)
            ca.wait_for(lambda ca: len(ca.issued) == 2, 60)
            one.start()
            first.await_listening(one)
            before = active(directory)
            wait_until(lambda: puller.pull() and active(directory) != before, 60)
            assert len(ca.orders) == 2
        assert first.call("events", "verify").out.strip()


def _copy_keys(old: Path, new: Path) -> None:
    new.mkdir(mode=0o700)
    for file in old.iterdir():
        if file.is_file() and file.suffix != ".db":
            (new / file.name).write_bytes(file.read_bytes())
            (new / file.name).chmod(0o600)


def test_a_server_that_goes_away_and_comes_back(server: PostgresqlServer, url: str) -> None:
    store = open_store(url)
    assert "PostgreSQL" in store.description
    server.stop(signal.SIGQUIT)
    with pytest.raises(StoreUnavailable, match="The database postgresql://"):
        store.change_counter()
    server.start()
    assert store.change_counter() == 0
    store.add_certificate(WWW, [WWW], directory_url="https://ca.example.com/dir", now=1)
    assert store.change_counter() == 1
    store.close()


def test_a_silent_server_is_given_up_by_the_kernel(server: PostgresqlServer) -> None:
    """The limits arrive at the socket; what it makes of them is the kernel's."""
    with tcp_to(server.socket / ".s.PGSQL.5432") as port:
        store = open_store(f"postgresql://{server.user}@127.0.0.1:{port}/{server.create()}")
        with store._database.read() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None
            with socket.socket(fileno=os.dup(driver.pgconn.socket)) as used:
                assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                limits = ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
                numbers = (getattr(socket, name) for name in limits)
                found = [used.getsockopt(socket.IPPROTO_TCP, number) for number in numbers]
        store.close()
    assert found == [10_000, 10, 5, 3]


@contextmanager
def tcp_to(path: Path) -> Iterator[int]:
    """A port that leads to a Unix socket."""

    class Way(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as there:
                there.connect(str(path))
                back = threading.Thread(target=copy, args=(there, self.request), daemon=True)
                back.start()
                copy(self.request, there)
                back.join(10)

    def copy(source: socket.socket, target: socket.socket) -> None:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Way) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


def test_a_killed_writer_leaves_no_half_change(server: PostgresqlServer, url: str) -> None:
    store = open_store(url)
    with pytest.raises(StoreUnavailable), store._database.write() as connection:
        connection.exec_driver_sql("UPDATE facts SET number = 99")
        server.stop(signal.SIGQUIT)
        server.start()
    assert store.change_counter() == 0
    store.close()


def test_who_waits_for_a_writer_is_answered_in_time(server: PostgresqlServer, url: str) -> None:
    store = open_store(url, busy_seconds=1)
    other = open_store(url, busy_seconds=1)
    with other._database.write():
        assert store.change_counter() == 0, "readers wait for nobody"
        with ThreadPoolExecutor(20) as pool:
            ended = list(pool.map(lambda _: _refused(store), range(20)))
    assert all("lock timeout" in one or "busy" in one for one in ended), ended
    store.add_certificate(WWW, [WWW], directory_url="https://ca.example.com/dir", now=1)
    store.close(), other.close()


def _refused(store: object) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        store.request_renewal(WWW, "x", now=1)  # type: ignore[attr-defined]
    return refused.value.what


def test_two_that_open_an_empty_database_at_once(url: str) -> None:
    barrier = threading.Barrier(4)

    def opened(_: int) -> int:
        barrier.wait()
        store = open_store(url)
        store.close()
        return 1

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(opened, range(4))) == 4


def test_what_cannot_be_used_is_refused_in_one_sentence(server: PostgresqlServer) -> None:
    sorted_otherwise = server.create("template0", "LC_COLLATE 'POSIX' LC_CTYPE 'C'")
    open_store(server.url(sorted_otherwise)).close()
    of_a_language = server.create(
        "template0", "LOCALE_PROVIDER icu ICU_LOCALE 'en' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
    )
    with pytest.raises(ConfigurationError, match="sorts text by a language"):
        open_store(server.url(of_a_language))
    for holds in ("relay:secret@/x?host=/nowhere", "relay@/x?sslpassword=secret"):
        with pytest.raises(ConfigurationError, match="holds a password") as refused:
            open_store(f"postgresql://{holds}")
        assert "secret" not in refused.value.explain()
    with pytest.raises(StoreUnavailable, match="does not exist"):
        open_store(server.url("nobody"))
    with pytest.raises(StoreUnavailable):
        open_store("postgresql://relay@/x?host=/nonexistent")
    assert _WRITERS
