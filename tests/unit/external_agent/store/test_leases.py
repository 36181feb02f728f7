"""Leases and fences in the store: one worker at a time, and the older one finds out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from external_agent.records.model import AttemptState
from external_agent.records.rows import Claim, ErrorNote, PreparedKey
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.contract.errors import FenceLost, IssuanceUnavailable
from shared.issuing.renewal import DAY
from tests.agent_world import Puller, enrol
from tests.unit.external_agent.conftest import NOW
from tests.unit.external_agent.issued import claim, finish, issue, leaf, prepare

NAME = "www.intra.example.com"
ERROR = ErrorNote("issuance/rejected", "no", NOW)


@pytest.fixture
def puller(store: Store) -> Puller:
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=NOW)
    return enrol(store, [NAME], now=NOW)


def test_one_holder_at_a_time(store: Store, puller: Puller) -> None:
    first = claim(store, NAME, now=NOW)
    assert store.claim_due("other", now=NOW + 59, lease_seconds=60) == []
    second = store.claim_due("other", now=NOW + 60, lease_seconds=60)[0]
    assert second.fence == first.fence + 1
    store.release(first)
    assert store.claim_due("third", now=NOW + 61, lease_seconds=60) == []
    store.release(second)
    assert len(store.claim_due("third", now=NOW + 61, lease_seconds=60)) == 1


Step = Callable[[Store, Claim, int], Any]
STEPS: dict[str, Step] = {
    "prepare": lambda s, c, g: s.commit_prepared(
        c, g + 1, PreparedKey(b"csr", "0" * 64, {}), now=NOW, wanted=1
    ),
    "order": lambda s, c, g: s.commit_order(c, g, "https://ca.example.com/o", None),
    "state": lambda s, c, g: s.commit_state(c, g, None),
    "challenge": lambda s, c, g: s.put_challenge(c, "t" * 22, "t.k", NAME, now=NOW),
    "publish": lambda s, c, g: s.publish(c, g, leaf(NOW), [], due_at=NOW, now=NOW),
    "end": lambda s, c, g: s.end_attempt(c, g, ERROR, now=NOW),
    "failure": lambda s, c, g: s.record_failure(
        c, ERROR, failures=1, paused_until=NOW + 9, now=NOW
    ),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("how", ["taken over", "forgotten", "removed"])
def test_whoever_lost_the_lease_changes_nothing(
    store: Store, puller: Puller, step: Step, how: str
) -> None:
    old = claim(store, NAME, now=NOW)
    generation = prepare(store, old, now=NOW)
    if how == "taken over":
        store.claim_due("other", now=NOW + 60, lease_seconds=60)
    elif how == "forgotten":
        store.forget_leases("worker")
    else:
        store.remove_certificate(NAME, now=NOW)
    before = store.certificate(NAME), store.unfinished_attempt(NAME), len(store.events())
    with pytest.raises(FenceLost):
        step(store, old, generation)
    assert (store.certificate(NAME), store.unfinished_attempt(NAME), len(store.events())) == before
    assert store.pending_challenges() == {}


def test_steps_cannot_be_left_out_or_done_twice(store: Store, puller: Puller) -> None:
    held = claim(store, NAME, now=NOW)
    generation = prepare(store, held, now=NOW)
    with pytest.raises(FenceLost):
        store.publish(held, generation, leaf(NOW), [], due_at=NOW, now=NOW)
    with pytest.raises(FenceLost):
        prepare(store, held, now=NOW)
    finish(store, held, generation, now=NOW)
    with pytest.raises(FenceLost):
        store.publish(held, generation, leaf(NOW), [], due_at=NOW, now=NOW)


def test_an_order_belongs_to_one_attempt(store: Store, puller: Puller) -> None:
    store.add_certificate("other", [NAME], directory_url="https://ca.example.com/dir", now=NOW)
    enrol(store, ["other"], now=NOW)
    for name in (NAME, "other"):
        held = claim(store, name, now=NOW)
        generation = prepare(store, held, now=NOW)
        if name == NAME:
            store.commit_order(held, generation, "https://ca.example.com/o", None)
        else:
            with pytest.raises(IssuanceUnavailable, match="same names"):
                store.commit_order(held, generation, "https://ca.example.com/o", None)


def test_pauses_and_leases_of_a_wrong_clock_do_not_last(store: Store, puller: Puller) -> None:
    future = NOW + 365 * DAY
    held = claim(store, NAME, now=future)
    store.record_failure(held, ERROR, failures=1, paused_until=future + DAY, now=future)
    again = claim(store, NAME, now=NOW)
    assert store.claim_due("other", now=NOW - DAY, lease_seconds=60) != []
    assert again.fence > held.fence


def test_what_is_wanted_during_an_attempt_is_not_lost(store: Store, puller: Puller) -> None:
    held = claim(store, NAME, now=NOW)
    generation = prepare(store, held, now=NOW)
    store.request_renewal(NAME, "meanwhile", now=NOW)
    finish(store, held, generation, now=NOW)
    row = store.certificate(NAME)
    assert row is not None
    assert row.renewal_wanted
    assert len(store.claim_due("w", now=NOW + 1, lease_seconds=60)) == 1


def test_a_failed_attempt_keeps_no_sealed_key(store: Store, puller: Puller) -> None:
    held = claim(store, NAME, now=NOW)
    generation = prepare(store, held, now=NOW)
    assert store.sealed_keys(NAME, generation)
    store.end_attempt(held, generation, ERROR, now=NOW)
    assert store.sealed_keys(NAME, generation) == {}
    assert store.unfinished_attempt(NAME) is None
    assert prepare(store, held, now=NOW) == generation + 1


def test_due_ones_come_by_urgency_and_only_when_due(store: Store, puller: Puller) -> None:
    issue(store, NAME, now=NOW)
    row = store.certificate(NAME)
    assert row is not None
    assert row.due_at is not None
    assert store.claim_due("w", now=row.due_at - 1, lease_seconds=60) == []
    found = store.claim_due("w", now=row.due_at, lease_seconds=60, exclude=[NAME])
    assert found == []
    skipped = ["https://ca.example.com/dir"]
    assert store.claim_due("w", now=row.due_at, lease_seconds=60, skip_directories=skipped) == []
    assert len(store.claim_due("w", now=row.due_at, lease_seconds=60)) == 1
    attempt = store.newest_issued(NAME)
    assert attempt is not None
    assert attempt.state == AttemptState.ISSUED


def test_many_workers_claim_each_certificate_once(store: Store, url: str, puller: Puller) -> None:
    names = [f"host{n}.example.com" for n in range(20)]
    for name in names:
        store.add_certificate(name, [name], directory_url="https://ca.example.com/dir", now=NOW)
    enrol(store, names, now=NOW)
    other = open_store(url, busy_seconds=30)
    claimed: list[str] = []

    def work(one: Store, owner: str) -> None:
        while found := one.claim_due(owner, now=NOW, lease_seconds=60, limit=2):
            claimed.extend(held.certificate for held in found)

    threads = [
        threading.Thread(target=work, args=(one, f"{n}-{id(one)}"))
        for n in range(4)
        for one in (store, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert sorted(claimed) == sorted([*names, NAME])
