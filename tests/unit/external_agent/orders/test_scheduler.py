"""The scheduler's workers outlive whatever goes wrong in one piece of work."""

from __future__ import annotations

import threading

import pytest

from external_agent.orders.issuance import Outcome
from external_agent.orders.scheduler import HELD_SECONDS, Scheduler
from external_agent.records.rows import Claim
from external_agent.store.interface import Store
from tests.agent_world import enrol
from tests.unit.external_agent.conftest import NOW, ManualClock

NAMES = ("app.example.org", "www.intra.example.com")


class _Work:
    def __init__(self) -> None:
        self.runs: list[str] = []
        self.done = threading.Event()

    def run(self, claim: Claim) -> Outcome:
        self.runs.append(claim.certificate)
        if len(self.runs) == 1:
            raise ValueError("nobody thought of this")
        self.done.set()
        return Outcome.LEFT


@pytest.fixture
def two(store: Store) -> Store:
    for name in NAMES:
        store.add_certificate(name, [name], directory_url="https://ca.example.com/dir", now=NOW)
    enrol(store, NAMES, now=NOW)
    return store


def test_an_unexpected_error_ends_no_worker(two: Store, clock: ManualClock) -> None:
    work = _Work()
    scheduler = Scheduler(two, work, clock=clock, workers=1, poll_seconds=0.01)
    scheduler.start()
    assert work.done.wait(10)
    scheduler.stop(10)
    assert work.runs[:2] == list(NAMES)


def test_what_failed_unexpectedly_is_held_and_comes_again(two: Store, clock: ManualClock) -> None:
    work = _Work()
    scheduler = Scheduler(two, work, clock=clock, workers=1)
    scheduler.run_until_idle()
    assert work.runs.count(NAMES[0]) == 1
    clock.now += HELD_SECONDS + 1000  # and the lease has run out
    work.runs[:] = ["again"]
    scheduler.run_until_idle()
    assert NAMES[0] in work.runs


def test_an_unexpected_error_while_claiming(
    two: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, honest, failed = _Work(), two.claim_due, threading.Event()
    work.runs.append("none")

    def claim_due(*args: object, **named: object) -> list[Claim]:
        if not failed.is_set():
            failed.set()
            raise ValueError("nobody thought of this")
        return honest(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(two, "claim_due", claim_due)
    scheduler = Scheduler(two, work, clock=clock, workers=1, poll_seconds=0.01)
    scheduler.start()
    assert work.done.wait(10)
    scheduler.stop(10)
