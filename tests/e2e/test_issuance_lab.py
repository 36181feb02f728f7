"""Issuing and scheduling against the lab CA: pauses, clocks, races, restores, and a hostile CA."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from external_agent.composition.authorities import ca_settings
from external_agent.orders.keymaker import KeyMaker, ProcessKeyMaker
from external_agent.orders.keymaker_messages import KeyRequest
from external_agent.records.model import AttemptState
from external_agent.records.rows import PreparedKey
from external_agent.settings import keys
from external_agent.settings.config import settings_from
from shared.acme.keys import generate_account_key, load_account_key
from shared.contract.bundle import Manifest, parse_envelope
from shared.contract.chain_rules import check_chain
from shared.contract.errors import ConfigurationError
from shared.contract.key_policy import KeyAlgorithm
from shared.contract.signing import SigningKey
from shared.contract.x509 import load_chain, load_roots, spki_sha256
from shared.issuing.renewal import DAY
from tests.agent_world import AgentWorld, ChallengeBoard, Port80, Puller, enrol
from tests.canary import leaks
from tests.lab.ca import LabCa
from tests.memory_search import context_of, found_in_own_memory

pytestmark = pytest.mark.lab
YEAR = 365 * DAY
NAME = "www.intra.example.com"


class ManualClock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Lab:
    """A lab CA, port 80, and as many agents over one state directory as a test wants."""

    def __init__(
        self, ca: LabCa, directory: Path, board: ChallengeBoard, clock: ManualClock
    ) -> None:
        self.ca, self.directory, self.board, self.clock = ca, directory, board, clock
        self.account_key = load_account_key(generate_account_key())
        self.signing_key = SigningKey.generate()
        self._open: list[AgentWorld] = []

    def agent(self, **settings: Any) -> AgentWorld:
        state = self.directory / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        world = AgentWorld(
            state,
            directory_url=self.ca.directory_url,
            roots=self.directory / "root.pem",
            account_key=self.account_key,
            signing_key=self.signing_key,
            board=self.board,
            **{"clock": self.clock, **settings},
        )
        self._open.append(world)
        return world

    def close(self) -> None:
        for world in self._open:
            world.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    board, clock = ChallengeBoard(), ManualClock()
    with Port80(board) as port80, LabCa(http_port=port80.port, clock=clock, retry_after=None) as ca:
        (tmp_path / "root.pem").write_text(ca.tls_root_pem)
        world = Lab(ca, tmp_path, board, clock)
        yield world
        world.close()


def _generation(world: AgentWorld, puller: Puller, certificate: str = NAME) -> int:
    pulled = world.pull(puller, certificate)
    return 0 if pulled is None else pulled[0].generation


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_key_algorithms(lab: Lab, algorithm: KeyAlgorithm) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME, key_algorithm=algorithm)
    assert world.scheduler.run_until_idle() == 1
    pulled = world.pull(puller, certificate)
    assert pulled is not None
    manifest, key = pulled
    check_chain(load_chain(manifest.chain), load_roots(lab.ca.root_pem.encode()), world.now())
    assert spki_sha256(key) == manifest.spki_sha256
    assert key.key_size == int(algorithm.value[-4:].lstrip("-p"))
    assert leaks(lab.directory / "state", [key]) == []


def test_the_agent_s_memory_never_holds_the_key(lab: Lab, tmp_path: Path) -> None:
    """A whole issuance, and then what a core dump of the agent would show."""
    world = lab.agent()
    certificate, puller = world.add(NAME)
    assert world.scheduler.run_until_idle() == 1
    envelope = world.store.bundle_for(puller.id, certificate, 0, now=world.now()).envelope
    assert envelope is not None
    manifest = Manifest.decode(parse_envelope(envelope).open(lab.signing_key.public))
    assert manifest.sealed_key is not None
    context = context_of(manifest)
    assert found_in_own_memory(puller.identity, manifest.sealed_key, context, tmp_path) == []


def test_a_sealed_copy_for_each_puller_and_several_certificates_for_one(lab: Lab) -> None:
    world = lab.agent()
    certificate, first = world.add(NAME)
    second = enrol(world.store, [certificate], now=world.now())
    other, _ = world.add("app.example.org", puller=first)
    assert world.scheduler.run_until_idle() == 2
    keys = []
    for puller in (first, second):
        pulled = world.pull(puller, certificate)
        assert pulled is not None
        assert pulled[0].recipient == puller.identity.id
        keys.append(spki_sha256(pulled[1]))
    assert len(set(keys)) == 1
    assert world.pull(first, other) is not None
    assert len(lab.ca.orders) == 2


def test_later_recipient_lost_key_and_revoked_puller_get_new_generations(lab: Lab) -> None:
    world = lab.agent()
    certificate, first = world.add(NAME)
    numbers, keys = [], []

    def renewed(*pullers: Puller) -> None:
        assert world.scheduler.run_until_idle() == 1
        pulled = [world.pull(puller, certificate) for puller in pullers]
        assert all(pulled)
        numbers.extend({one[0].generation for one in pulled if one})
        keys.extend({one[0].spki_sha256 for one in pulled if one})
        assert world.scheduler.run_until_idle() == 0

    renewed(first)
    later = enrol(world.store, [certificate], now=world.now())
    renewed(first, later)
    lost = enrol(world.store, [certificate], now=world.now(), puller=Puller(host="again"))
    renewed(first, later, lost)
    world.store.revoke_puller(later.id, now=world.now())
    renewed(first, lost)
    assert numbers == sorted(set(numbers))
    assert len(set(keys)) == len(keys) == 4
    assert len(lab.ca.orders) == 4


def test_nothing_is_ordered_without_a_recipient(lab: Lab) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME)
    world.store.suspend_puller(puller.id, "test", now=world.now())
    assert world.scheduler.run_until_idle() == 0
    assert "a puller" in world.store.status(world.now())[0].waits_for
    assert lab.ca.log == []
    world.store.confirm_puller(puller.id, now=world.now())
    assert world.scheduler.run_until_idle() == 1
    assert _generation(world, puller, certificate)


def test_retry_after_is_kept_across_a_restart(lab: Lab) -> None:
    lab.ca.faults.rate_limited("newOrder", retry_after=5 * 3600, times=1)
    world = lab.agent()
    certificate, puller = world.add(NAME)
    assert world.scheduler.run_until_idle() == 1
    row = world.store.certificate(certificate)
    assert row is not None
    assert row.last_error is not None
    assert row.last_error.type == "issuance/rate-limited"
    assert row.paused_until >= world.now() + 5 * 3600
    again = lab.agent()
    lab.clock.now += 5 * 3600 - 1
    # The CA's pause binds the operator, too.
    again.store.request_renewal(certificate, "impatience", now=again.now())
    assert again.scheduler.run_until_idle() == 0
    lab.clock.now += 3600
    assert again.scheduler.run_until_idle() == 1
    assert _generation(again, puller)
    assert len(lab.ca.orders) == 1


def test_pauses_grow_and_an_operator_ends_them(lab: Lab) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME)
    lab.ca.faults.invalid_authorization(times=3)
    pauses = []
    for failures in range(1, 4):
        assert world.scheduler.run_until_idle() == 1
        assert world.scheduler.run_until_idle() == 0
        row = world.store.certificate(certificate)
        assert row is not None
        assert row.failures == failures
        pauses.append(row.paused_until - world.now())
        lab.clock.now = row.paused_until if failures < 3 else lab.clock.now
    assert pauses[0] < pauses[1] < pauses[2]
    world.store.request_renewal(certificate, "mended", now=world.now())
    assert world.scheduler.run_until_idle() == 1
    assert _generation(world, puller)
    row = world.store.certificate(certificate)
    assert row is not None
    assert (row.failures, row.paused_until, row.last_error) == (0, 0, None)


def test_renewed_at_its_share_and_not_before(lab: Lab) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME)
    world.scheduler.run_until_idle()
    row = world.store.certificate(certificate)
    assert row is not None
    assert row.due_at is not None
    first = _generation(world, puller)
    lab.clock.now = row.due_at - 1
    assert world.scheduler.run_until_idle() == 0
    lab.clock.now = row.due_at
    assert world.scheduler.run_until_idle() == 1
    assert _generation(world, puller) > first
    assert world.scheduler.run_until_idle() == 0
    assert len(lab.ca.orders) == 2


@pytest.mark.parametrize("skew", [YEAR, -YEAR, 301])
def test_with_a_wrong_clock_nothing_is_prepared_or_ordered(lab: Lab, skew: int) -> None:
    world = lab.agent(workers=2)
    names = [f"host{n}.example.com" for n in range(12)]
    pullers = {name: world.add(name)[1] for name in names}
    lab.ca.faults.date_skew(-skew)
    ran = world.scheduler.run_until_idle()
    # Each worker may find it out once; nobody tries all the others.
    assert 1 <= ran <= 4
    assert lab.ca.orders == []
    assert all(world.store.unfinished_attempt(name) is None for name in names)
    lab.ca.faults.clear()
    lab.clock.now += 120
    world.scheduler.run_until_idle()
    assert all(_generation(world, puller, name) for name, puller in pullers.items())
    assert len(lab.ca.orders) == len(names)


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_our_clock_jumps_and_comes_back(lab: Lab, jump: int) -> None:
    ours = ManualClock()
    world = lab.agent(clock=ours, workers=2)
    names = [f"host{n}.example.com" for n in range(8)]
    pullers = {name: world.add(name)[1] for name in names}
    world.scheduler.run_until_idle()
    before = {name: _generation(world, pullers[name], name) for name in names}
    ours.now += jump
    for name in names[:2]:
        world.store.request_renewal(name, "test", now=world.now())
    world.scheduler.run_until_idle()
    assert len(lab.ca.orders) == len(names)
    ours.now -= jump
    world.scheduler.run_until_idle()
    # Only what was asked for; no pause and no moment of the wrong clock has stayed.
    assert len(lab.ca.orders) == len(names) + 2
    after = {name: _generation(world, pullers[name], name) for name in names}
    assert [name for name in names if after[name] != before[name]] == names[:2]
    assert all(after[name] < world.now() + 60 for name in names)


def test_a_year_later_each_is_renewed_once(lab: Lab) -> None:
    world = lab.agent(workers=8)
    names = [f"host{n}.example.com" for n in range(10)]
    for name in names:
        world.add(name)
    assert world.scheduler.run_until_idle() == 10
    lab.clock.now += YEAR
    assert world.scheduler.run_until_idle() == 10
    assert world.scheduler.run_until_idle() == 0
    assert len(lab.ca.orders) == 20


def test_a_lost_answer_to_new_order_costs_no_second_order(lab: Lab) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME)
    lab.ca.faults.lose_answer("newOrder", times=10)
    world.scheduler.run_until_idle()
    attempt = world.store.unfinished_attempt(certificate)
    assert attempt is not None
    assert attempt.state == AttemptState.PREPARED
    orders = len(lab.ca.orders)
    lab.ca.faults.clear()
    lab.clock.now += 3600
    world.scheduler.run_until_idle()
    pulled = world.pull(puller, certificate)
    assert pulled is not None
    assert pulled[0].generation == attempt.generation
    assert len(lab.ca.orders) == orders == 1


def test_an_order_that_stays_in_processing_is_resumed(lab: Lab) -> None:
    world = lab.agent(order_seconds=1.0)
    certificate, puller = world.add(NAME)
    lab.ca.faults.stay_processing()
    world.scheduler.run_until_idle()
    row = world.store.certificate(certificate)
    assert row is not None
    assert row.last_error is not None
    assert row.last_error.type == "issuance/unfinished"
    attempt = world.store.unfinished_attempt(certificate)
    assert attempt is not None
    assert attempt.state == AttemptState.FINALIZING
    for order in lab.ca.orders:
        order.polls_left = 1
    lab.clock.now += 3600
    world.scheduler.run_until_idle()
    assert _generation(world, puller) == attempt.generation
    assert len(lab.ca.orders) == 1


def test_orders_that_stay_ready_after_finalize_do_not_hold_the_workers(lab: Lab) -> None:
    world = lab.agent(order_seconds=0.6, workers=4)
    names = [f"host-{number}.intra.example.com" for number in range(4)]
    pullers = {name: world.add(name)[1] for name in [*names, NAME]}

    def is_of_others(exchange: Any) -> bool:
        (order,) = (one for one in lab.ca.orders if one.url.endswith(exchange.arguments[0]))
        return order.names != (NAME,)

    late = lab.ca.faults.stay_ready(times=400, when=is_of_others)
    world.scheduler.run_until_idle()
    assert _generation(world, pullers[NAME])
    assert len(lab.ca.requests("finalize")) == 5
    for name in names:
        row = world.store.certificate(name)
        assert row is not None
        assert row.last_error is not None
        assert row.last_error.type == "issuance/unfinished"
    lab.ca.faults.remove(late)
    lab.clock.now += 3600
    world.scheduler.run_until_idle()
    assert all(_generation(world, puller, name) for name, puller in pullers.items())
    assert len(lab.ca.orders) == 5


def test_an_order_that_never_ends_is_given_up_at_its_own_end(lab: Lab) -> None:
    world = lab.agent(order_seconds=0.5)
    _, puller = world.add(NAME)
    lab.ca.faults.stay_processing()
    world.scheduler.run_until_idle()
    (first,) = lab.ca.orders
    while lab.clock.now < first.expires + 4 * DAY:
        if lab.clock.now <= first.expires:
            assert (len(lab.ca.orders), _generation(world, puller)) == (1, 0)
        lab.clock.now += DAY
        world.scheduler.run_until_idle()
    assert _generation(world, puller)
    assert len(lab.ca.orders) == 2


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_certificate_that_is_not_handed_out_is_asked_for_again(lab: Lab, status: int) -> None:
    world = lab.agent(order_seconds=0.5)
    certificate, puller = world.add(NAME)
    fault = lab.ca.faults.refuse("cert", status, times=None)
    for _ in range(4):
        world.scheduler.run_until_idle()
        lab.clock.now += 3600
    attempt = world.store.unfinished_attempt(certificate)
    assert attempt is not None
    assert attempt.state == AttemptState.CERTIFIED
    lab.ca.faults.remove(fault)
    world.scheduler.run_until_idle()
    assert _generation(world, puller) == attempt.generation
    assert len(lab.ca.orders) == 1


def test_a_certificate_that_is_refused_for_a_day_is_given_up(lab: Lab) -> None:
    world = lab.agent(order_seconds=0.5)
    certificate, puller = world.add(NAME)
    fault = lab.ca.faults.refuse("cert", 404, times=None)
    world.scheduler.run_until_idle()
    attempt = world.store.unfinished_attempt(certificate)
    assert attempt is not None
    while (now := world.store.unfinished_attempt(certificate)) is not None:
        assert now.generation == attempt.generation
        assert lab.clock.now < attempt.prepared_at + 2 * DAY
        lab.clock.now += 2 * 3600
        world.scheduler.run_until_idle()
    assert lab.clock.now > attempt.prepared_at + DAY
    assert len(lab.ca.orders) == 1
    row = world.store.certificate(certificate)
    assert row is not None
    assert row.last_error is not None
    assert "issued, but not handed out" in row.last_error.what
    lab.ca.faults.remove(fault)
    for _ in range(3):
        lab.clock.now += DAY
        world.scheduler.run_until_idle()
    assert _generation(world, puller) > attempt.generation
    assert len(lab.ca.orders) == 2


def test_a_key_maker_that_hangs_is_a_failure_with_a_pause(lab: Lab) -> None:
    with ProcessKeyMaker(key_seconds=20) as maker:
        maker.warm()
        assert maker._process is not None
        os.kill(maker._process.pid, signal.SIGSTOP)
        maker._key_seconds = 0.5
        world = lab.agent(key_maker=maker)
        certificate, puller = world.add(NAME)
        world.scheduler.run_until_idle()
        row = world.store.certificate(certificate)
        assert row is not None
        assert row.paused_until > lab.clock.now + 60
        assert lab.ca.orders == []
        maker._key_seconds = 20
        lab.clock.now = row.paused_until + 1
        world.scheduler.run_until_idle()
        assert _generation(world, puller)


def test_the_key_of_the_account_binding_is_needed_once(tmp_path: Path) -> None:
    file = tmp_path / "eab.key"
    settings = settings_from(
        {
            "state_directory": str(tmp_path / "keys"),
            "acme": {"eab_key_id": "kid-1", "eab_hmac_key_file": str(file)},
            "relay": {"url": "https://relay.example.com"},
        },
        source="the test",
    )
    secret = os.urandom(32)
    keys.write_secret(file, urlsafe_b64encode(secret).rstrip(b"="))
    board, clock = ChallengeBoard(), ManualClock()
    with (
        Port80(board) as port80,
        LabCa(http_port=port80.port, clock=clock, retry_after=None, eab={"kid-1": secret}) as ca,
    ):
        (tmp_path / "root.pem").write_text(ca.tls_root_pem)
        lab = Lab(ca, tmp_path, board, clock)
        keys.make_directory(tmp_path / "keys")
        keys.make_keys(tmp_path / "keys", "relay.example.com", clock())
        world = lab.agent(eab=lambda: ca_settings(settings, ca.directory_url).eab())
        certificate, puller = world.add(NAME)
        world.scheduler.run_until_idle()
        first = _generation(world, puller)
        assert first
        file.unlink()
        world.store.request_renewal(certificate, "test", now=world.now())
        lab.clock.now += 60
        world.scheduler.run_until_idle()
        assert _generation(world, puller) > first
        with pytest.raises(ConfigurationError):
            ca_settings(settings, ca.directory_url).eab()
        lab.close()


def _hostile(name: str, *args: Any, **named: Any) -> Callable[[LabCa], Any]:
    return lambda ca: getattr(ca.faults, name)(*args, **named)


@pytest.mark.parametrize(
    "fault",
    [
        _hostile("wrong_key"),
        _hostile("wrong_names", ("evil.example.net",)),
        _hostile("long_chain"),
        _hostile("hostile_token"),
        _hostile("insecure_url"),
        _hostile("foreign_url"),
        _hostile("fail_issuance"),
    ],
    ids=lambda fault: "",
)
def test_a_hostile_ca_is_left_alone_for_a_while(lab: Lab, fault: Callable[[LabCa], Any]) -> None:
    world = lab.agent(order_seconds=5.0)
    certificate, puller = world.add(NAME)
    fault(lab.ca)
    assert world.scheduler.run_until_idle() == 1
    row = world.store.certificate(certificate)
    assert row is not None
    assert row.failures == 1
    assert row.paused_until > world.now() + 30
    assert world.pull(puller, certificate) is None
    lab.ca.faults.clear()
    for order in lab.ca.orders:
        lab.ca.invalidate(order)  # or the CA would give the same broken order again
    lab.clock.now = row.paused_until + 1
    for _ in range(3):
        world.scheduler.run_until_idle()
        row = world.store.certificate(certificate)
        assert row is not None
        lab.clock.now = max(lab.clock.now, row.paused_until + 1)
    assert _generation(world, puller)
    assert world.store.verify_events() is None


class HeldKeyMaker:
    """Waits with the first key until it is let go."""

    def __init__(self, inner: KeyMaker) -> None:
        self._inner = inner
        self.reached, self.go = threading.Event(), threading.Event()

    def make(self, request: KeyRequest) -> PreparedKey:
        prepared = self._inner.make(request)
        if not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(30)
        return prepared


def test_a_lease_holder_paused_past_its_lease_loses_the_fence(lab: Lab) -> None:
    held: list[HeldKeyMaker] = []

    def hold(maker: KeyMaker) -> HeldKeyMaker:
        held.append(HeldKeyMaker(maker))
        return held[0]

    slow = lab.agent(owner="slow", wrap_key_maker=hold)
    quick = lab.agent(owner="quick")
    certificate, puller = slow.add(NAME)
    thread = threading.Thread(target=slow.scheduler.run_until_idle)
    thread.start()
    assert held[0].reached.wait(30)
    assert quick.scheduler.run_until_idle() == 0
    lab.clock.now += 1000
    assert quick.scheduler.run_until_idle() == 1
    issued = _generation(quick, puller)
    held[0].go.set()
    thread.join(30)
    assert not thread.is_alive()
    assert slow.published == []
    assert quick.published == [certificate]
    assert _generation(quick, puller) == issued
    assert len(lab.ca.orders) == 1
    row = slow.store.certificate(certificate)
    assert row is not None
    assert row.failures == 0


def test_two_agents_race_for_every_certificate(lab: Lab) -> None:
    agents = [lab.agent(owner=f"agent{n}", workers=3) for n in range(2)]
    names = [f"host{n}.example.com" for n in range(8)]
    for name in names:
        agents[0].add(name)
    threads = [threading.Thread(target=agent.scheduler.run_until_idle) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert sorted(agents[0].published + agents[1].published) == names
    assert sorted(order.names for order in lab.ca.orders) == [(name,) for name in names]


def test_two_certificates_for_the_same_names_do_not_share_an_order(lab: Lab) -> None:
    world = lab.agent(workers=2)
    _, first = world.add(NAME, certificate="ec")
    _, second = world.add(NAME, certificate="rsa", key_algorithm=KeyAlgorithm.RSA_2048)
    for _ in range(3):
        world.scheduler.run_until_idle()
        lab.clock.now += 120
    assert _generation(world, first, "ec")
    assert _generation(world, second, "rsa")


def test_restored_from_a_backup(lab: Lab) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME)
    world.scheduler.run_until_idle()
    database = lab.directory / "state" / "relay.db"
    shutil.copy2(database, lab.directory / "backup.db")
    lab.clock.now += 2 * DAY
    world.store.request_renewal(certificate, "test", now=world.now())
    world.scheduler.run_until_idle()
    held = _generation(world, puller)
    world.close()
    lab.clock.now += 60
    shutil.copy2(lab.directory / "backup.db", database)
    restored = lab.agent()
    assert restored.scheduler.run_until_idle() == 0
    assert restored.pull(puller, certificate, after=held) is None
    assert restored.scheduler.run_until_idle() == 1
    pulled = restored.pull(puller, certificate, after=held)
    assert pulled is not None
    assert pulled[0].generation > held


def test_an_account_that_the_ca_no_longer_knows_is_registered_again(lab: Lab) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME)
    unknown = lab.ca.directory_url.replace("/dir", "/account/4711")
    world.store.save_account(lab.ca.directory_url, unknown, (), now=world.now())
    world.scheduler.run_until_idle()
    row = world.store.certificate(certificate)
    assert row is not None
    assert row.failures == 1
    lab.clock.now = row.paused_until
    world.scheduler.run_until_idle()
    assert _generation(world, puller)
    account = world.store.account(lab.ca.directory_url)
    assert account is not None
    assert account.account_url == lab.ca.accounts[0].url


def test_the_running_agent_wakes_and_stops(lab: Lab) -> None:
    world = lab.agent(poll_seconds=60.0)
    world.scheduler.start()
    certificate, _ = world.add(NAME)
    world.scheduler.wake()
    lab.ca.wait_for(lambda ca: len(ca.issued) == 1, 20)
    deadline = time.monotonic() + 20
    while world.published != [certificate]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    world.scheduler.stop(10)


def test_stopped_in_the_middle_it_goes_on_with_the_same_order(lab: Lab) -> None:
    world = lab.agent()
    certificate, puller = world.add(NAME)
    lab.ca.faults.stay_processing()
    world.scheduler.start()
    lab.ca.wait_for(lambda ca: len(ca.requests("finalize")) == 1, 20)
    world.scheduler.stop(10)
    row = world.store.certificate(certificate)
    assert row is not None
    assert (row.failures, row.paused_until) == (0, 0)
    for order in lab.ca.orders:
        order.polls_left = 1
    again = lab.agent()
    again.scheduler.run_until_idle()
    assert _generation(again, puller)
    assert len(lab.ca.orders) == 1
