"""Renewal windows in the store, and the pass over them: claimed once, kept, never in the way."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import pytest
from alembic import command
from alembic.config import Config

from external_agent.orders.renewal_info import PASS_SECONDS, WindowWatch
from external_agent.store import schema
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.acme.ports import RenewalWindow
from shared.contract.errors import ClockWrong, IssuanceUnavailable, StoreUnavailable
from shared.issuing.renewal import DAY, HOUR, Advice, Reason, after_look, renewal_due
from tests.agent_world import enrol
from tests.unit.external_agent.conftest import NOW, ManualClock
from tests.unit.external_agent.issued import issue

NAME, OTHER = "www.intra.example.com", "app.example.org"
WINDOW = RenewalWindow(NOW + 10 * DAY, NOW + 12 * DAY, 6.0 * HOUR)


@pytest.fixture
def issued(store: Store) -> Store:
    for name in (NAME, OTHER):
        store.add_certificate(name, [name], directory_url="https://ca.example.com/dir", now=NOW)
    enrol(store, [NAME, OTHER], now=NOW)
    for name in (NAME, OTHER):
        issue(store, name, now=NOW)
    return store


def advice(store: Store, name: str = NAME) -> Advice:
    found = next(one.advice for one in store.status(NOW) if one.certificate.id == name)
    assert found is not None
    return found


def suggest(store: Store, window: RenewalWindow, *, now: int = NOW, name: str = NAME) -> None:
    look = next(one for one in store.claim_looks(now=now) if one.certificate == name)
    found = after_look(look.advice, window, now, 0.5)
    due = renewal_due(look.life, found, certificate=name, generation=look.generation)
    store.record_look(look, found, due, now=now)


# --- the store ------------------------------------------------------------------------------


def test_a_look_is_claimed_once(issued: Store, url: str) -> None:
    other = open_store(url)
    looks = issued.claim_looks(now=NOW)
    assert [one.certificate for one in looks] == [OTHER, NAME]
    assert looks[0].life.not_after == NOW + 90 * DAY
    assert other.claim_looks(now=NOW + 60) == []
    other.close()


def test_a_look_that_was_never_recorded_comes_up_again(issued: Store) -> None:
    """As after a kill between asking and recording."""
    assert len(issued.claim_looks(now=NOW)) == 2
    assert issued.claim_looks(now=NOW + 119) == []
    assert len(issued.claim_looks(now=NOW + 120)) == 2


def test_what_was_suggested_is_kept(issued: Store, url: str) -> None:
    suggest(issued, WINDOW)
    other = open_store(url)
    kept = advice(other)
    assert (kept.start, kept.end, kept.chosen) == (WINDOW.start, WINDOW.end, NOW + 11 * DAY)
    row = other.certificate(NAME)
    assert row is not None
    assert (row.due_at, row.due_reason) == (NOW + 11 * DAY, Reason.WINDOW)
    other.close()


def test_a_look_at_a_generation_that_was_replaced_changes_nothing(issued: Store) -> None:
    look = next(one for one in issued.claim_looks(now=NOW) if one.certificate == NAME)
    issued.request_renewal(NAME, "test", now=NOW)
    generation = issue(issued, NAME, now=NOW + 5)
    before = issued.certificate(NAME)
    found = after_look(look.advice, WINDOW, NOW, 0.5)
    due = renewal_due(look.life, found, certificate=NAME, generation=look.generation)
    issued.record_look(look, found, due, now=NOW + 6)
    assert issued.certificate(NAME) == before
    assert advice(issued).chosen is None
    old = [one for one in issued.claim_looks(now=NOW + 200) if one.certificate == NAME]
    assert [one.generation for one in old] == [generation]


def test_nobody_looks_at_what_is_removed_wanted_or_due(issued: Store) -> None:
    issued.remove_certificate(OTHER, now=NOW)
    issued.request_renewal(NAME, "test", now=NOW)
    assert issued.claim_looks(now=NOW) == []
    issue(issued, NAME, now=NOW + 5)
    assert len(issued.claim_looks(now=NOW + 5)) == 1
    row = issued.certificate(NAME)
    assert row is not None
    assert row.due_at is not None
    assert issued.claim_looks(now=row.due_at) == []


def test_a_clock_that_was_set_back(issued: Store) -> None:
    suggest(issued, WINDOW, now=NOW + 5 * DAY)
    assert len(issued.claim_looks(now=NOW + 5 * DAY - 301)) == 2
    assert issued.claim_looks(now=NOW + 5 * DAY - 301) == []


def test_only_a_past_window_is_a_change_that_others_must_see(issued: Store) -> None:
    before = issued.change_counter()
    suggest(issued, WINDOW)
    assert issued.change_counter() == before
    suggest(issued, RenewalWindow(NOW - DAY, NOW - HOUR, 60.0), now=NOW + DAY)
    assert issued.change_counter() == before + 1
    found = issued.claim_due("worker", now=NOW + DAY, lease_seconds=60)
    assert [one.certificate for one in found] == [NAME]


def test_renewals_for_past_windows_are_counted(issued: Store) -> None:
    suggest(issued, RenewalWindow(NOW - DAY, NOW - HOUR, 60.0))
    generation = issue(issued, NAME, now=NOW + 60)
    renewed = issued.newest_issued(NAME)
    assert renewed is not None
    assert (renewed.generation, renewed.why) == (generation, Reason.WINDOW_PAST)
    look = next(one for one in issued.claim_looks(now=NOW + 200) if one.certificate == NAME)
    assert look.hurried == 1


def test_the_trail_tells_of_windows_that_move_and_not_of_those_that_creep(issued: Store) -> None:
    for number in range(5):
        creep = RenewalWindow(WINDOW.start + number, WINDOW.end + number, 60.0)
        suggest(issued, creep, now=NOW + number * HOUR)
    suggest(issued, RenewalWindow(NOW - DAY, NOW - HOUR, 60.0), now=NOW + 6 * HOUR)
    told = [one.details["reason"] for one in issued.events() if one.kind == "renewal-window"]
    assert told == ["window", "window-past"]
    assert issued.verify_events() is None


def test_what_was_issued_before_the_upgrade_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    store = open_store(f"sqlite:///{path}")
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=NOW)
    enrol(store, [NAME], now=NOW)
    generation = issue(store, NAME, now=NOW)
    store.close()
    with sqlite3.connect(path) as connection:
        schema_now = connection.execute("SELECT sql FROM sqlite_master WHERE name='windows'")
        assert schema_now.fetchone() is not None
        connection.execute("DROP TABLE windows")
        for column in ("ari_id", "account_url", "replaces", "replaced_by", "why"):
            connection.execute(f"ALTER TABLE generations DROP COLUMN {column}")
        for column in ("due_reason", "asked_until"):
            connection.execute(f"ALTER TABLE certificates DROP COLUMN {column}")
    _run_migration(path)
    again = open_store(f"sqlite:///{path}")
    assert [one.generation for one in again.claim_looks(now=NOW)] == [generation]
    row = again.certificate(NAME)
    assert row is not None
    assert row.due_reason is None
    again.close()


def _run_migration(path: Path) -> None:
    """Run 0003 alone, then say again that everything is there."""
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    folder = Path(schema.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
        command.upgrade(config, "0003")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (schema.HEAD,))
    engine.dispose()


# --- the pass -------------------------------------------------------------------------------


@dataclass
class FakeCa:
    """One CA as the watch sees it: a client and the connector at once."""

    clock: ManualClock
    answers: list[Any]
    seconds: float = 0.0
    clock_error: ClockWrong | None = None
    elapsed: float = 0.0
    asked: int = field(default=0)

    def visit(self, _directory: str, _sleep: object) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def check_clock(self) -> None:
        if self.clock_error is not None:
            raise self.clock_error

    def renewal_info(self, _leaf: bytes) -> RenewalWindow | None:
        self.asked += 1
        self.elapsed += self.seconds
        answer = self.answers[(self.asked - 1) % len(self.answers)]
        if isinstance(answer, Exception):
            raise answer
        return cast("RenewalWindow | None", answer)


def watch(store: Store, ca: FakeCa) -> WindowWatch:
    return WindowWatch(
        store,
        cast(Any, ca),
        clock=ca.clock,
        draw=lambda: 0.5,
        elapsed=lambda: ca.elapsed,
    )


@pytest.mark.parametrize("error", [IssuanceUnavailable("away"), TypeError("odd"), ValueError("?")])
def test_one_that_fails_does_not_keep_the_next_from_being_looked_at(
    issued: Store, clock: ManualClock, error: Exception
) -> None:
    assert watch(issued, FakeCa(clock, [error, WINDOW])).look() == 2
    assert (advice(issued, OTHER).failures, advice(issued, OTHER).chosen) == (1, None)
    assert advice(issued, NAME).chosen == NOW + 11 * DAY


def test_a_wrong_clock_is_a_failed_look_for_all_and_no_question(
    issued: Store, clock: ManualClock
) -> None:
    ca = FakeCa(clock, [WINDOW], clock_error=ClockWrong("a year ahead"))
    assert watch(issued, ca).look() == 2
    assert ca.asked == 0
    assert advice(issued).problem == "a year ahead"
    assert advice(issued).next_look <= NOW + 120


def test_a_slow_ca_is_left_after_a_while_and_asked_again(issued: Store, clock: ManualClock) -> None:
    ca = FakeCa(clock, [WINDOW], seconds=PASS_SECONDS + 1)
    assert watch(issued, ca).look() == 1
    clock.now += 120
    assert watch(issued, ca).look() == 1
    assert ca.asked == 2


def test_a_store_that_is_gone_does_not_raise_in_the_middle(
    issued: Store, clock: ManualClock
) -> None:
    class Gone:
        claim_looks = issued.claim_looks

        @staticmethod
        def record_look(*_: object, **__: object) -> None:
            raise StoreUnavailable("The database is gone.")

    assert watch(cast(Store, Gone()), FakeCa(clock, [WINDOW])).look() == 0


def test_nothing_to_look_at_costs_no_connection(store: Store, clock: ManualClock) -> None:
    ca = FakeCa(clock, [WINDOW], clock_error=ClockWrong("not to be asked"))
    assert watch(store, ca).look() == 0
