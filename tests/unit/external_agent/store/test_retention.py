"""Housekeeping: the old goes, the chain stays a chain, and a beginning cut off by hand is found."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from external_agent.facts.audit import FIRST
from external_agent.records.rows import Deleted, TrailEnd
from external_agent.store.housekeeping import Housekeeping
from external_agent.store.interface import Store
from shared.contract.wire import Receipt
from shared.issuing.renewal import DAY
from tests.agent_world import enrol

NAME = "www.intra.example.com"


def _events(store: Store, count: int, at: int) -> None:
    for _ in range(count):
        store.append_event("noted", now=at, actor="test")


def _receipt(store: Store, puller: str, outcome: str, at: int) -> None:
    receipt = Receipt(NAME, at, "ab" * 32, outcome, "none", (), at)
    store.record_receipts(puller, [receipt], now=at)


def test_the_trail_stays_whole_without_its_beginning(store: Store) -> None:
    _events(store, 5, at=10)
    _events(store, 3, at=1000)
    known = store.trail_end()
    assert store.delete_older_than(500, now=2000).events == 5
    assert [row.seq for row in store.events()] == [6, 7, 8, 9]
    (*_, last) = store.events()
    assert (last.kind, last.details["up_to"]) == ("events-deleted", 5)
    assert store.verify_events() is None
    assert store.verify_events(known) is None
    assert store.delete_older_than(1500, now=2001).events == 3
    assert store.verify_events() is None
    assert store.verify_events(TrailEnd(9, last.hash)) is None


@pytest.mark.sqlite
def test_a_beginning_cut_off_by_hand_is_found(store: Store, tmp_path: Path) -> None:
    _events(store, 8, at=10)
    digest = store.events()[3].hash
    with sqlite3.connect(tmp_path / "relay.db") as connection:
        connection.execute("DELETE FROM events WHERE seq <= 4")
        connection.execute("INSERT INTO facts VALUES ('event_tail', 4, ?)", (digest,))
    found = store.verify_events()
    assert found is not None
    assert (found.seq, found.what) == (4, "the oldest events are missing")


def test_an_event_out_of_time_ends_the_cut(store: Store) -> None:
    _events(store, 2, at=10)
    _events(store, 1, at=9999)
    _events(store, 2, at=10)
    assert store.delete_older_than(500, now=10_000).events == 2


def test_the_receipts_that_status_shows_stay(store: Store) -> None:
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=1)
    puller = enrol(store, [NAME], now=1).id
    for at, outcome in ((100, "installed"), (200, "installed"), (300, "rolled_back")):
        _receipt(store, puller, outcome, at)
    _receipt(store, puller, "refused", 400)
    assert store.delete_older_than(1000, now=2000).receipts == 2
    kept = [(one.at, one.outcome) for one in store.receipts(NAME)]
    assert sorted(kept) == [(200, "installed"), (400, "refused")]


class _Recorder:
    """A ``RetentionStore`` in memory."""

    def __init__(self, *turns: Deleted) -> None:
        self.turns, self.at, self.before = list(turns), 0, list[int]()

    def housekeeping_at(self) -> int:
        return self.at

    def delete_older_than(self, before: int, *, now: int) -> Deleted:
        self.at = now
        self.before.append(before)
        return self.turns.pop(0) if self.turns else Deleted()


@pytest.mark.parametrize(("days", "turns"), [(0, 0), (100, 1)])
def test_once_a_day_and_never_when_all_is_kept(days: int, turns: int) -> None:
    now = 1000 * DAY
    recorder = _Recorder()
    housekeeping = Housekeeping(recorder, lambda: days, clock=lambda: now)
    for _ in range(3):
        housekeeping.look()
    assert len(recorder.before) == turns
    now += DAY
    housekeeping.look()
    assert len(recorder.before) == 2 * turns
    now -= 10 * DAY  # a clock that was set back
    housekeeping.look()
    assert len(recorder.before) == 3 * turns


def test_a_long_trail_takes_several_turns_at_once() -> None:
    recorder = _Recorder(Deleted(events=5000), Deleted(events=7))
    housekeeping = Housekeeping(recorder, lambda: 100, clock=lambda: 1000 * DAY)
    for _ in range(5):
        housekeeping.look()
    assert recorder.before == [900 * DAY] * 3


def test_an_empty_trail_ends_nowhere(store: Store) -> None:
    assert store.trail_end() == TrailEnd(0, FIRST)
    assert store.verify_events() is None
