"""Renewal windows (RFC 9773) against the lab CA: kept, moved, missing, absurd; never a block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from external_agent.present.status_view import certificate_view
from external_agent.records.rows import CertificateStatus, GenerationRow
from shared.acme.ari import ari_certificate_id
from shared.acme.keys import generate_account_key, load_account_key
from shared.contract.signing import SigningKey
from shared.issuing.renewal import DAY, HOUR, Advice, Reason
from tests.agent_world import AgentWorld, ChallengeBoard, Port80, Puller
from tests.lab.ca import LabCa

pytestmark = pytest.mark.lab
NAME = "www.intra.example.com"
YEAR = 365 * DAY


class ManualClock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Lab:
    """A lab CA and an agent over one state directory; a second CA or agent on demand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock, self.board = ManualClock(), ChallengeBoard()
        self.port80 = Port80(self.board)
        self.account_key = load_account_key(generate_account_key())
        self.signing_key = SigningKey.generate()
        self._open: list[Any] = [self.port80.__enter__()]
        (directory / "state").mkdir(mode=0o700)
        self.ca = self.another_ca()

    def another_ca(self, **settings: Any) -> LabCa:
        settings = {"retry_after": None, "clock": self.clock, **settings}
        made = LabCa(http_port=self.port80.port, **settings).start()
        self._open.append(made)
        with (self.directory / "roots.pem").open("a") as roots:
            roots.write(made.tls_root_pem)
        return made

    def agent(self, **settings: Any) -> AgentWorld:
        world = AgentWorld(
            self.directory / "state",
            **{
                "directory_url": self.ca.directory_url,
                "roots": self.directory / "roots.pem",
                "account_key": self.account_key,
                "signing_key": self.signing_key,
                "board": self.board,
                "clock": self.clock,
                **settings,
            },
        )
        self._open.append(world)
        return world

    def close(self) -> None:
        for one in reversed(self._open):
            one.__exit__(None, None, None)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def issued(lab: Lab, world: AgentWorld) -> Puller:
    """Bring the certificate to its first generation."""
    _, puller = world.add(NAME)
    assert world.scheduler.run_until_idle() == 1
    assert generation(world)
    return puller


def status(world: AgentWorld) -> CertificateStatus:
    return next(one for one in world.store.status(world.now()) if one.certificate.id == NAME)


def advice(world: AgentWorld) -> Advice:
    found = status(world).advice
    assert found is not None
    return found


def newest(world: AgentWorld) -> GenerationRow:
    found = world.store.newest_issued(NAME)
    assert found is not None
    return found


def generation(world: AgentWorld) -> int:
    return newest(world).generation


def due(world: AgentWorld) -> tuple[int, str]:
    row = status(world).certificate
    assert row.due_at is not None
    assert row.due_reason is not None
    return row.due_at, row.due_reason


def look(lab: Lab, world: AgentWorld) -> None:
    """Let the time come at which the next look is permitted, and look."""
    lab.clock.now = max(lab.clock.now, advice(world).next_look)
    assert world.scheduler.look() == 1


def renew_in_time(lab: Lab, world: AgentWorld, attempts: int = 1) -> GenerationRow:
    """Let the renewal come due; it is done after so many attempts, long before the end."""
    before = newest(world)
    assert before.not_after is not None
    for _ in range(attempts):
        row = status(world).certificate
        assert row.due_at is not None
        lab.clock.now = max(lab.clock.now, row.due_at, row.paused_until)
        assert world.scheduler.run_until_idle() == 1
    assert lab.clock.now < before.not_after - 10 * DAY
    after = newest(world)
    assert after.generation > before.generation
    return after


def events(world: AgentWorld, kind: str) -> list[dict[str, object]]:
    return [event.details for event in world.store.events() if event.kind == kind]


# --- what is suggested is done ---------------------------------------------------------------


def test_renewed_at_one_moment_inside_the_window(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    start = int(lab.clock.now) + 20 * DAY
    lab.ca.set_renewal_window((start, start + 2 * DAY))
    lab.ca.set_renewal_answer(explanation_url="https://ca.example.net/why")
    look(lab, world)
    chosen = advice(world).chosen
    assert chosen is not None
    assert start <= chosen <= start + 2 * DAY
    assert due(world) == (chosen, "window")
    for _ in range(3):
        look(lab, world)
        assert advice(world).chosen == chosen
    lab.clock.now = chosen - 1
    assert world.scheduler.run_until_idle() == 0
    lab.clock.now = chosen
    old = newest(world)
    assert world.scheduler.run_until_idle() == 1
    renewed = newest(world)
    assert lab.ca.orders[-1].replaces == old.ari_id == renewed.replaces
    assert renewed.why == "window"
    assert world.store.verify_events() is None
    assert [one["explanation"] for one in events(world, "renewal-window")] == [
        "https://ca.example.net/why"
    ]


def test_status_says_what_is_suggested_and_why(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    start = int(lab.clock.now) + 20 * DAY
    lab.ca.set_renewal_window((start, start + HOUR))
    lab.ca.set_renewal_answer(explanation_url="https://ca.example.net/why")
    look(lab, world)
    shown = certificate_view(status(world), world.now())["next_renewal"]
    assert isinstance(shown, dict)
    assert "window that the CA suggests" in shown["why"]
    window = shown["window"]
    assert window["chosen"] == shown["at"]
    assert (window["start"], window["end"]) == (start, start + HOUR)
    assert window["explanation_url"] == "https://ca.example.net/why"
    assert window["next_look"] > world.now()


def test_a_window_that_moved_to_the_past_is_acted_on_at_the_next_look(lab: Lab) -> None:
    world = lab.agent()
    puller = issued(lab, world)
    lab.ca.set_renewal_answer(retry_after=3600)
    look(lab, world)
    first = generation(world)
    now = int(lab.clock.now)
    lab.ca.set_renewal_window((now - DAY, now - HOUR))
    lab.clock.now = advice(world).next_look - 1
    assert (world.scheduler.look(), world.scheduler.run_until_idle()) == (0, 0)
    lab.clock.now += 1
    assert (world.scheduler.look(), world.scheduler.run_until_idle()) == (1, 1)
    pulled = world.pull(puller, NAME)
    assert pulled is not None
    assert pulled[0].generation > first
    assert newest(world).why == Reason.WINDOW_PAST
    assert events(world, "renewal-window")[-1]["reason"] == Reason.WINDOW_PAST


def test_revoked_means_renewed(lab: Lab) -> None:
    """The lab CA, as others do, moves the window of what it has revoked."""
    world = lab.agent()
    issued(lab, world)
    lab.ca.state.revoked[lab.ca.issued[0].leaf.serial_number] = 1
    look(lab, world)
    assert world.scheduler.run_until_idle() == 1


def test_windows_that_are_always_past_are_braked(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    lab.ca.set_renewal_window((1_000_000_000, 1_000_086_400))
    begun = lab.clock.now
    while lab.clock.now < begun + 7 * DAY:
        if advice(world).next_look <= lab.clock.now:
            world.scheduler.look()
        world.scheduler.run_until_idle()
        lab.clock.now = min(advice(world).next_look, max(lab.clock.now + 60, due(world)[0]))
    assert 3 <= len(lab.ca.orders) <= 6
    assert due(world)[1] == Reason.BRAKED


@pytest.mark.parametrize("seconds", [3600, 60, 86400])
def test_retry_after_both_ways(lab: Lab, seconds: int) -> None:
    world = lab.agent()
    issued(lab, world)
    lab.ca.set_renewal_answer(retry_after=seconds)
    look(lab, world)
    asked = len(lab.ca.requests("renewalInfo"))
    began = lab.clock.now
    lab.clock.now = began + seconds - 1
    assert world.scheduler.look() == 0
    assert len(lab.ca.requests("renewalInfo")) == asked
    lab.clock.now = began + seconds + 31
    assert world.scheduler.look() == 1
    assert len(lab.ca.requests("renewalInfo")) == asked + 1


@pytest.mark.parametrize(("sent", "kept"), [(1, 60), (10 * DAY, DAY), (None, 6 * HOUR)])
def test_retry_after_is_clamped(lab: Lab, sent: int | None, kept: int) -> None:
    world = lab.agent()
    issued(lab, world)
    lab.ca.set_renewal_answer(retry_after=sent)
    look(lab, world)
    assert kept <= advice(world).next_look - world.now() <= kept + 31


def test_looks_are_unsigned_and_what_is_wanted_anyway_is_not_looked_at(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    assert world.scheduler.look() == 0
    look(lab, world)
    entry = lab.ca.requests("renewalInfo")[0]
    assert entry.method == "GET"
    world.store.request_renewal(NAME, "test", now=world.now())
    lab.clock.now += 7 * HOUR
    assert world.scheduler.look() == 0


def test_a_new_generation_forgets_the_old_window(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    look(lab, world)
    world.store.request_renewal(NAME, "test", now=world.now())
    world.scheduler.run_until_idle()
    assert advice(world).chosen is None
    assert due(world)[1] == Reason.LIFETIME
    rows = [one for one in world.store.status(world.now()) if one.certificate.id == NAME]
    assert rows[0].issued is not None


# --- it never blocks -------------------------------------------------------------------------

Break = Callable[[LabCa], object]


def _fault(name: str, *args: Any, **named: Any) -> Break:
    return lambda ca: getattr(ca.faults, name)("renewalInfo", *args, times=None, **named)


def _window(start: float, end: float) -> Break:
    return lambda ca: ca.set_renewal_window((start, end))


BROKEN_WINDOWS: dict[str, Break] = {
    "not found": _fault("refuse", 404),
    "forbidden": _fault("refuse", 403),
    "conflict": _fault("refuse", 409),
    "gone": _fault("refuse", 410),
    "rate limited": _fault("refuse", 429, retry_after=10**9),
    "internal error": _fault("refuse", 500),
    "away": _fault("refuse", 503, retry_after=10**9),
    "no answer": _fault("lose_answer"),
    "cut": _fault("cut"),
    "html": _fault("nonsense", b"<html>"),
    "empty": _fault("nonsense", b"{}"),
    "a list": _fault("nonsense", b"[1, 2]"),
    "no times": _fault("nonsense", b'{"suggestedWindow": {"start": 1, "end": null}}'),
    "no zone": _fault(
        "nonsense",
        b'{"suggestedWindow":{"start":"2027-01-01T00:00:00","end":"2027-01-02T00:00:00"}}',
    ),
    "two megabytes": _fault("nonsense", b'{"suggestedWindow":"' + b"a" * 2_000_000 + b'"}'),
    "ends before it starts": _window(1_900_000_000, 1_800_000_000),
    "empty window": _window(1_900_000_000, 1_900_000_000),
    "in a hundred years": _window(4_900_000_000, 4_900_086_400),
    "plain http": lambda ca: ca.faults.insecure_url("renewalInfo"),
    "another host": lambda ca: ca.faults.foreign_url("renewalInfo"),
}


@pytest.mark.parametrize("what", BROKEN_WINDOWS)
def test_renewed_in_time_whatever_the_window_is(lab: Lab, what: str) -> None:
    world = lab.agent()
    issued(lab, world)
    BROKEN_WINDOWS[what](lab.ca)
    look(lab, world)
    lab.clock.now = advice(world).next_look
    world.scheduler.look()
    if what in {"plain http", "another host"}:
        lab.ca.faults.clear()  # such a directory is refused as a whole
    renewed = renew_in_time(lab, world)
    assert len(lab.ca.orders) == 2
    assert renewed.replaces is not None
    assert status(world).certificate.failures == 0


def test_renewed_in_time_by_a_ca_without_renewal_information(lab: Lab) -> None:
    lab.ca = lab.another_ca(ari=False)
    world = lab.agent()
    issued(lab, world)
    look(lab, world)
    assert advice(world).next_look == world.now() + DAY
    assert "no renewal information" in advice(world).problem
    assert renew_in_time(lab, world).why == Reason.LIFETIME
    assert lab.ca.orders[-1].replaces is None


def test_a_window_beyond_the_end_is_not_waited_for(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    not_after = newest(world).not_after
    assert not_after is not None
    lab.ca.set_renewal_window((not_after - 3600, not_after + 3600))
    look(lab, world)
    at, reason = due(world)
    assert reason == Reason.WINDOW_LATE
    assert at <= not_after - 10 * DAY


def test_a_failed_look_keeps_the_window(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    look(lab, world)
    known = advice(world)
    lab.ca.faults.refuse("renewalInfo", 500, times=3)
    pauses = []
    for failures in (1, 2, 3):
        look(lab, world)
        assert (advice(world).chosen, advice(world).failures) == (known.chosen, failures)
        pauses.append(advice(world).next_look - world.now())
    assert pauses[0] < pauses[1] < pauses[2]
    assert len(events(world, "renewal-information-failed")) == 1
    look(lab, world)
    assert (advice(world).chosen, advice(world).failures) == (known.chosen, 0)


REFUSALS: dict[str, tuple[int, str]] = {
    "already replaced": (409, "alreadyReplaced"),
    "conflict": (409, "conflict"),
    "forbidden": (403, "unauthorized"),
    "not found": (404, "malformed"),
    "malformed": (400, "malformed"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refused_replaces_is_left_out_inside_the_same_attempt(lab: Lab, what: str) -> None:
    world = lab.agent()
    issued(lab, world)
    code, kind = REFUSALS[what]
    lab.ca.faults.refuse("newOrder", code, kind=kind, detail="no such thing")
    asked = len(lab.ca.requests("newOrder"))
    renewed = renew_in_time(lab, world)
    assert len(lab.ca.requests("newOrder")) == asked + 2
    assert [order.replaces for order in lab.ca.orders] == [None, None]
    assert renewed.replaces is None
    told = events(world, "replaces-refused")
    assert len(told) == 1
    assert "no such thing" in str(told[0]["what"])
    assert events(world, "issued")[-1]["replaces"] is None
    assert world.store.verify_events() is None


def test_replaced_by_somebody_else_already(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    old = newest(world)
    certid = ari_certificate_id((old.chain or "").encode())
    lab.ca.state.replacements[certid] = [lab.ca.orders[0]]
    renewed = renew_in_time(lab, world)
    assert "alreadyReplaced" in str(events(world, "replaces-refused")[0]["what"])
    assert renewed.replaces is None


def test_an_order_that_failed_after_replaces_does_not_block_the_next(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    lab.ca.faults.invalid_authorization()
    renewed = renew_in_time(lab, world, attempts=2)
    assert renewed.generation
    assert len(lab.ca.orders) == 3


def test_a_ca_that_stumbles_over_replaces_gets_the_next_order_without(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    lab.ca.faults.refuse("newOrder", 500)
    renewed = renew_in_time(lab, world, attempts=2)
    assert renewed.replaces is None
    assert len(lab.ca.orders) == 2


def test_an_answer_that_makes_no_sense_costs_no_second_order(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    lab.ca.faults.nonsense("newOrder", b"<html>")
    renew_in_time(lab, world, attempts=2)
    assert len(lab.ca.orders) == 2


def test_another_account(lab: Lab) -> None:
    """The certificate was issued to an account that this agent no longer has."""
    world = lab.agent()
    issued(lab, world)
    world.close()
    other = lab.agent(account_key=load_account_key(generate_account_key()))
    other.store.save_account(lab.ca.directory_url, "https://127.0.0.1/gone", (), now=other.now())
    row = status(other).certificate
    assert row.due_at is not None
    lab.clock.now = row.due_at
    for _ in range(3):
        other.scheduler.run_until_idle()
        lab.clock.now = max(lab.clock.now, status(other).certificate.paused_until)
    assert len({one.url for one in lab.ca.accounts}) == 2
    assert lab.ca.orders[-1].account is not lab.ca.orders[0].account
    assert newest(other).replaces is None
    assert events(other, "replaces-refused") == []


def test_an_account_that_was_not_recorded(lab: Lab) -> None:
    """As after an upgrade: the CA finds out that it is another one."""
    world = lab.agent()
    issued(lab, world)
    lab.ca.orders[0].account = lab.ca.accounts[0].__class__(
        **{**vars(lab.ca.accounts[0]), "url": lab.ca.accounts[0].url + "0"}
    )
    renewed = renew_in_time(lab, world)
    assert renewed.replaces is None
    assert "another account" in str(events(world, "replaces-refused")[0]["what"])


def test_another_ca(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    second = lab.another_ca()
    world.store.change_certificate(NAME, cas=[second.directory_url], now=world.now())
    assert world.scheduler.run_until_idle() == 1
    assert [order.replaces for order in second.orders] == [None]
    assert newest(world).directory_url == second.directory_url
    assert events(world, "replaces-refused") == []
    look(lab, world)
    assert len(second.requests("renewalInfo")) == 1
    assert lab.ca.requests("renewalInfo") == []


def test_other_names(lab: Lab) -> None:
    world = lab.agent()
    issued(lab, world)
    world.store.change_certificate(NAME, names=["app.example.org"], now=world.now())
    assert world.scheduler.run_until_idle() == 1
    assert lab.ca.orders[-1].replaces is None
    world.store.change_certificate(NAME, names=["app.example.org", NAME], now=world.now())
    assert world.scheduler.run_until_idle() == 1
    assert lab.ca.orders[-1].replaces is not None


# --- several CAs, and clocks -----------------------------------------------------------------


def test_a_ca_that_is_away_holds_up_no_other(lab: Lab) -> None:
    world = lab.agent()
    second = lab.another_ca()
    names = {f"host{n}.example.com": (lab.ca, second)[n % 2] for n in range(6)}
    for name, ca in names.items():
        world.directory_url = ca.directory_url
        world.add(name)
    assert world.scheduler.run_until_idle() == 6
    second.faults.refuse("directory", 503, times=None)
    lab.clock.now += 11 * 60
    assert world.scheduler.look() == 6
    known = {one.certificate.id: one.advice for one in world.store.status(world.now())}
    for name, ca in names.items():
        found = known[name]
        assert found is not None
        assert (found.chosen is None, found.failures) == ((True, 1) if ca is second else (False, 0))
    assert len(lab.ca.requests("renewalInfo")) == 3


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_our_clock_jumps_and_comes_back(lab: Lab, jump: int) -> None:
    ours = ManualClock()
    ours.now = lab.clock.now
    world = lab.agent(clock=ours)
    issued(lab, world)
    ours.now = lab.clock.now = advice(world).next_look
    world.scheduler.look()
    known, moment = advice(world), due(world)
    ours.now += jump
    world.scheduler.look()
    world.scheduler.run_until_idle()
    assert len(lab.ca.orders) == 1
    assert advice(world).chosen == known.chosen
    ours.now -= jump
    lab.clock.now = ours.now = max(ours.now, known.next_look)
    assert world.scheduler.look() == 1
    assert (advice(world).chosen, due(world)) == (known.chosen, moment)
    assert advice(world).failures == 0


@pytest.mark.parametrize("lifetime", [160 * HOUR, 45 * DAY, 90 * DAY, 398 * DAY])
def test_from_160_hours_to_398_days(lab: Lab, lifetime: int) -> None:
    lab.ca = lab.another_ca(profiles={"one": lifetime}, backdate=0)
    world = lab.agent()
    issued(lab, world)
    for _ in range(3):
        look(lab, world)
        at, reason = due(world)
        before = newest(world)
        assert reason == Reason.WINDOW
        assert before.not_before is not None
        assert before.not_after is not None
        assert 0.4 * lifetime < at - before.not_before < 0.85 * lifetime
        lab.clock.now = at
        assert world.scheduler.run_until_idle() == 1
        assert newest(world).replaces == before.ari_id


# --- a wave ----------------------------------------------------------------------------------


def test_all_at_once_ends_pauses_but_not_those_of_the_ca(lab: Lab) -> None:
    world = lab.agent()
    names = [f"host{n}.example.com" for n in range(4)]
    for name in names:
        world.add(name)
    assert world.scheduler.run_until_idle() == 4
    world.store.request_renewal(names[0], "test", now=world.now())
    lab.ca.faults.refuse("newOrder", 503, retry_after=7200, times=10)
    world.scheduler.run_until_idle()
    lab.ca.faults.clear()
    world.store.request_renewal(names[1], "test", now=world.now())
    lab.ca.faults.invalid_authorization()
    world.scheduler.run_until_idle()
    assert world.store.request_renewal_of_all("a wave", now=world.now()) == tuple(names)
    assert world.scheduler.run_until_idle() == 3
    held = world.store.certificate(names[0])
    assert held is not None
    assert held.renewal_wanted
    assert held.paused_until >= world.now() + 7200
    lab.clock.now = held.paused_until
    assert world.scheduler.run_until_idle() == 1
    assert all(not one.renewal_wanted for one in world.store.certificates())
