"""The ACME client and driver against a CA that misbehaves on demand."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from itertools import count
from pathlib import Path

import pytest

from shared.acme.ari import ari_certificate_id
from shared.acme.client import AcmeClient
from shared.acme.keys import AccountKey, generate_account_key, load_account_key
from shared.acme.order import drive_order
from shared.acme.ports import IssuedChain, no_failpoint
from shared.contract.errors import (
    ClockWrong,
    ConfigurationError,
    IssuanceError,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    IssuanceUnfinished,
    OrderGone,
)
from shared.contract.x509 import dns_names, load_chain
from tests.lab.ca import LabCa
from tests.lab.ca_faults import HOSTILE_TOKENS
from tests.unit.shared.acme.doubles import HttpSolver, RecordedJournal, csr_for

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"


@dataclass
class World:
    """A CA, a web server that answers it, and an account; `settings` of one client."""

    ca: LabCa
    solver: HttpSolver
    client: AcmeClient
    journal: RecordedJournal
    csr_pem: bytes
    key: AccountKey
    roots: Path

    def drive(self, order_url: str | None = None, **more: object) -> IssuedChain:
        return drive_order(
            self.client,
            names=[NAME],
            csr_pem=self.csr_pem,
            order_url=order_url,
            solvers={"http-01": self.solver},
            journal=self.journal,
            **{"deadline_seconds": 30.0, "adopt_unfinished": True, **more},  # type: ignore[arg-type]
        )

    def refused(self, kind: type[IssuanceError], match: str, **more: object) -> IssuanceError:
        with pytest.raises(kind, match=match) as raised:
            self.drive(**more)  # type: ignore[arg-type]
        assert not self.solver.present_now
        return raised.value


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    closing: list[Callable[[], object]] = []

    def make(
        *,
        failpoint: Callable[[str], None] = no_failpoint,
        timeout: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
        **settings: object,
    ) -> World:
        solver = HttpSolver()
        solver.__enter__()
        closing.append(solver.__exit__)
        ca = LabCa(
            http_port=solver.port,
            **{"retry_after": None, "order_reuse": False, **settings},  # type: ignore[arg-type]
        ).start()
        closing.append(ca.close)
        roots = tmp_path / "roots.pem"
        roots.write_text(ca.tls_root_pem)
        key = load_account_key(generate_account_key())
        client = AcmeClient(
            ca.directory_url,
            key,
            trusted_roots=roots,
            timeout=timeout,
            sleep=sleep,
            failpoint=failpoint,
        )
        closing.append(client.close)
        client.ensure_account(terms_agreed=True)
        return World(ca, solver, client, RecordedJournal(), csr_for([NAME]), key, roots)

    yield make
    for close in reversed(closing):
        close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


def test_issued(world: World) -> None:
    issued = world.drive()
    assert dns_names(load_chain(issued.chain_pem.decode())[0]) == (NAME,)
    assert len(world.ca.orders) == 1
    assert not world.solver.present_now


def test_every_call_has_a_failpoint_before_and_after(make_world: MakeWorld) -> None:
    names: list[str] = []
    make_world(failpoint=names.append).drive()
    calls = list(dict.fromkeys(one.removesuffix(".before") for one in names[::2]))
    assert names[1::2] == [one.replace(".before", ".after") for one in names[::2]]
    assert calls == [
        "acme.directory",
        "acme.new_account",
        "acme.fetch_account",
        "acme.list_orders",
        "acme.new_order",
        "acme.fetch_order",
        "acme.fetch_authorization",
        "acme.answer_challenge",
        "acme.finalize",
        "acme.download_chain",
    ]


class Died(BaseException):
    """The process ends here."""


CALLS = ("new_order", "fetch_order", "fetch_authorization", "answer_challenge", "finalize")


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("call", [*CALLS, "download_chain"])
def test_one_order_wherever_a_run_dies(make_world: MakeWorld, call: str, side: str) -> None:
    due = [f"acme.{call}.{side}"]

    def failpoint(name: str) -> None:
        if name in due:
            due.clear()
            world.solver.killed = True
            raise Died

    world = make_world(failpoint=failpoint)
    with pytest.raises(Died):
        world.drive()
    world.solver.killed = False
    assert world.drive(world.journal.order_url).chain_pem
    assert len(world.ca.orders) == 1
    assert len(world.ca.issued) == 1


@pytest.mark.parametrize("fault", ["cut", "lose_answer", "nonsense"])
def test_a_lost_answer_to_new_order_makes_no_second_order(world: World, fault: str) -> None:
    getattr(world.ca.faults, fault)("newOrder")
    world.refused(IssuanceUnavailable, "answer from|of a call")
    assert world.journal.order_url is None
    assert world.drive().chain_pem
    assert len(world.ca.orders) == 1


def test_a_list_of_orders_that_fails_stops_nothing(world: World) -> None:
    world.ca.faults.refuse("orders", 500, times=None)
    assert world.drive().chain_pem


def test_an_old_order_that_the_ca_stumbles_over_stops_nothing(world: World) -> None:
    world.client.new_order(["other.example.org"])
    fault = world.ca.faults.refuse("order", 500)
    assert world.drive().chain_pem
    assert fault.fired == 1


@pytest.mark.parametrize("fault", ["cut", "lose_answer"])
def test_a_list_of_orders_cut_short_orders_nothing(world: World, fault: str) -> None:
    getattr(world.ca.faults, fault)("orders")
    world.refused(IssuanceUnavailable, "answer from")
    assert not world.ca.orders


@pytest.mark.parametrize("fault", ["cut", "lose_answer", "nonsense"])
@pytest.mark.parametrize("resource", ["order", "authz", "challenge", "finalize"])
def test_a_lost_answer_in_between_is_waited_out(world: World, resource: str, fault: str) -> None:
    getattr(world.ca.faults, fault)(resource)
    assert world.drive().chain_pem
    assert len(world.ca.orders) == 1


@pytest.mark.parametrize("token", HOSTILE_TOKENS, ids=lambda token: repr(token[:12]))
def test_a_hostile_token_goes_nowhere(world: World, token: str) -> None:
    world.ca.faults.hostile_token(token, times=None)
    error = world.refused(IssuanceRejected, "gave a http-01 token")
    assert len(error.what) < 300
    assert not world.solver.ever
    assert not world.ca.requests("challenge")


@pytest.mark.parametrize(
    "member", ["location", "finalize", "authorizations", "challenge", "certificate"]
)
@pytest.mark.parametrize("fault", ["insecure_url", "foreign_url"])
def test_a_url_elsewhere_is_not_called(world: World, fault: str, member: str) -> None:
    injected = getattr(world.ca.faults, fault)(member)
    world.refused(IssuanceRejected, "not an https URL on the directory's own")
    assert injected.fired


@pytest.mark.parametrize("member", ["newOrder", "newNonce", "newAccount"])
def test_a_directory_that_points_elsewhere_is_refused(world: World, member: str) -> None:
    world.ca.faults.foreign_url(member)
    fresh = AcmeClient(
        world.ca.directory_url,
        load_account_key(generate_account_key()),
        trusted_roots=world.roots,
    )
    with fresh, pytest.raises(IssuanceRejected, match=member):
        fresh.ensure_account(terms_agreed=True)


def test_a_certificate_for_another_key_is_refused(world: World) -> None:
    world.ca.faults.wrong_key()
    world.refused(IssuanceRejected, "another key")


def test_a_certificate_for_other_names_is_refused(world: World) -> None:
    world.ca.faults.wrong_names((NAME, "app.example.org"))
    world.refused(IssuanceRejected, "app.example.org")


def test_a_chain_of_a_hundred_certificates_is_refused(world: World) -> None:
    world.ca.faults.long_chain(100)
    world.refused(IssuanceRejected, "100 certificates")


def test_refused_nonces_are_tried_again(world: World) -> None:
    world.ca.faults.bad_nonce(times=None, share=0.5)
    assert world.drive().chain_pem


def test_nonces_refused_for_ever_end(make_world: MakeWorld) -> None:
    world = make_world(sleep=lambda seconds: None)
    world.ca.faults.bad_nonce(times=None)
    world.refused(IssuanceUnavailable, "badNonce")


def test_a_rate_limit_at_new_order_carries_its_pause(world: World) -> None:
    world.ca.faults.rate_limited("newOrder", retry_after=3600)
    assert world.refused(IssuanceRateLimited, "rateLimited").retry_after == 3600


def test_a_pause_given_as_a_date_is_read(world: World) -> None:
    later = formatdate(time.time() + 600, usegmt=True)
    world.ca.faults.refuse("newOrder", 503, retry_after=later)
    pause = world.refused(IssuanceUnavailable, "told to refuse").retry_after
    assert pause is not None
    assert 590 <= pause <= 601


@pytest.mark.parametrize("status", [429, 503])
def test_a_short_refusal_in_between_is_waited_out(world: World, status: int) -> None:
    world.ca.faults.refuse("order", status, retry_after=1)
    began = time.monotonic()
    assert world.drive().chain_pem
    assert time.monotonic() - began >= 1


def test_a_pause_beyond_the_deadline_is_not_waited_for(world: World) -> None:
    world.ca.faults.refuse("authz", 503, retry_after=86400)
    began = time.monotonic()
    assert world.refused(IssuanceUnavailable, "refused").retry_after == 86400
    assert time.monotonic() - began < 10
    assert world.drive(world.journal.order_url).chain_pem


def test_an_order_stuck_in_processing_is_resumed_later(world: World) -> None:
    stuck = world.ca.faults.stay_processing()
    world.refused(IssuanceUnfinished, "processing", deadline_seconds=2.0)
    world.ca.faults.remove(stuck)
    with pytest.raises(IssuanceUnfinished):
        world.drive(world.journal.order_url, deadline_seconds=2.0)
    assert len(world.ca.orders) == 1


def test_processing_for_a_while_is_waited_out(world: World) -> None:
    world.ca.faults.stay_processing(polls=3)
    assert world.drive().chain_pem


def test_an_order_that_stays_ready_after_finalize_is_waited_for(world: World) -> None:
    world.ca.faults.stay_ready(polls=3, times=50)
    assert world.drive(sleep=lambda seconds: None).chain_pem
    assert len(world.ca.requests("finalize")) == 1


def test_nonces_refused_slowly_end_after_a_minute(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(sleep=lambda seconds: None)
    ticks = count(0.0, 20.0)
    monkeypatch.setattr("shared.acme.network.monotonic", lambda: next(ticks))
    world.ca.faults.bad_nonce(times=None)
    with pytest.raises(IssuanceUnavailable, match="badNonce"):
        world.client.new_order([NAME])
    assert len(world.ca.requests("newOrder")) == 3


def test_a_slow_answer_has_an_end(make_world: MakeWorld) -> None:
    world = make_world(timeout=0.5)
    world.ca.faults.slow("newOrder", 5.0)
    world.refused(IssuanceUnavailable, "within 0.5 s")


def test_a_failed_validation_is_told_in_the_cas_words(world: World) -> None:
    world.ca.faults.invalid_authorization("dns", "no such name, says the lab")
    error = world.refused(IssuanceRejected, "no such name, says the lab")
    assert f"{NAME} (invalid): http-01: dns:" in error.what


def test_an_expired_order_is_over(world: World) -> None:
    order = world.client.new_order([NAME])
    world.ca.invalidate(world.ca.orders[0])
    with pytest.raises(IssuanceRejected, match="ended the order"):
        world.drive(order.url)
    assert world.drive().order_url != order.url


def test_an_order_that_is_gone_says_so(world: World) -> None:
    with pytest.raises(OrderGone):
        world.drive(world.ca.state.base + "/order/nowhere")


def test_a_clock_off_by_more_than_five_minutes_orders_nothing(world: World) -> None:
    fault = world.ca.faults.date_skew(-400)
    with pytest.raises(ClockWrong, match=r"40[01] s ahead of"):
        world.client.find_unfinished_order([NAME])
        world.drive()
    assert not world.ca.orders
    world.ca.faults.remove(fault)
    world.client.find_unfinished_order([NAME])
    assert world.drive().chain_pem


def test_a_deactivated_account_is_said_clearly(world: World) -> None:
    world.ca.deactivate(world.ca.accounts[0])
    world.refused(IssuanceRejected, "account is revoked")


def test_a_profile_is_asked_for_only_if_it_is_advertised(world: World) -> None:
    world.drive(profile="shortlived")
    assert world.ca.orders[0].profile == "shortlived"
    with pytest.raises(ConfigurationError, match="classic, shortlived, tlsserver"):
        world.drive(profile="gold")


def test_renewal_information_and_replaces(world: World) -> None:
    first = world.drive()
    window = world.client.renewal_info(first.chain_pem)
    assert window is not None
    assert window.start < window.end
    assert ari_certificate_id(first.chain_pem) == world.ca.issued[0].certid
    world.ca.set_renewal_answer(retry_after=1, explanation_url="https://ca.example/why")
    window = world.client.renewal_info(first.chain_pem)
    assert window is not None
    assert (window.retry_after, window.explanation_url) == (60.0, "https://ca.example/why")
    replaces = ari_certificate_id(first.chain_pem)
    world.drive(replaces=replaces)
    assert world.ca.orders[1].replaces == replaces


def test_a_refused_replaces_never_blocks_a_renewal(world: World) -> None:
    replaces = ari_certificate_id(world.drive().chain_pem)
    world.drive(replaces=replaces)
    assert world.drive(replaces=replaces).chain_pem
    assert [one.replaces for one in world.ca.orders] == [None, replaces, None]


def test_a_ca_without_renewal_information_has_no_opinion(make_world: MakeWorld) -> None:
    world = make_world(ari=False)
    issued = world.drive(replaces="abc.def")
    assert world.client.renewal_info(issued.chain_pem) is None


def test_many_clients_share_one_account(world: World) -> None:
    results: list[bytes] = []

    def issue(number: int) -> None:
        name = f"host-{number}.example.org"
        with AcmeClient(
            world.ca.directory_url,
            world.key,
            trusted_roots=world.roots,
            account_url=world.client.account_url,
        ) as client:
            issued = drive_order(
                client,
                names=[name],
                csr_pem=csr_for([name]),
                order_url=None,
                solvers={"http-01": world.solver},
                journal=RecordedJournal(),
                adopt_unfinished=False,
            )
            results.append(issued.chain_pem)

    threads = [threading.Thread(target=issue, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(world.ca.accounts) == 1


@contextlib.contextmanager
def connect_proxy(asked: list[bytes]) -> Iterator[str]:
    """Run an HTTP proxy that knows CONNECT (RFC 9110 section 9.3.6)."""

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline())
            while self.rfile.readline().strip():
                pass
            host, _, port = asked[-1].split()[1].decode().partition(":")
            with socket.create_connection((host, int(port))) as onward:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                ends = {self.connection: onward, onward: self.connection}
                while ready := select.select(list(ends), [], [], 10)[0]:
                    for one in ready:
                        data = one.recv(65536)
                        if not data:
                            return
                        ends[one].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()


def test_issued_through_a_proxy(world: World) -> None:
    asked: list[bytes] = []
    with (
        connect_proxy(asked) as proxy,
        AcmeClient(
            world.ca.directory_url, world.key, trusted_roots=world.roots, proxy=proxy
        ) as client,
    ):
        client.ensure_account(terms_agreed=True)
        world.client.close()
        world.client = client
        assert world.drive().chain_pem
    assert len(asked) == 1
    assert asked[0].startswith(b"CONNECT 127.0.0.1:")


def test_a_proxy_that_is_not_there_is_said(world: World) -> None:
    with (
        AcmeClient(
            world.ca.directory_url, world.key, trusted_roots=world.roots, proxy="http://127.0.0.1:1"
        ) as client,
        pytest.raises(IssuanceUnavailable, match="proxy"),
    ):
        client.directory()
