"""The audit trail: whichever one event is tampered with, it is found and named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from external_agent.facts.audit import event_hash
from external_agent.records.rows import TrailEnd
from external_agent.store.interface import Store
from external_agent.store.open import open_store

pytestmark = pytest.mark.sqlite  # it is tampered with by hand, in the file


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trail") / "relay.db"
    store = open_store(f"sqlite:///{path}")
    for number in range(8):
        store.append_event(
            "noted",
            now=100 + number,
            actor="test",
            certificate="www.intra.example.com",
            details={"number": number, "text": "ü\n\0"},
        )
    store.close()
    return path


@pytest.fixture
def trail(written: Path, url: str, tmp_path: Path) -> Iterator[Store]:
    shutil.copy(written, tmp_path / "relay.db")
    store = open_store(url)
    yield store
    store.close()


def _tamper(tmp_path: Path, statement: str) -> None:
    with sqlite3.connect(tmp_path / "relay.db") as connection:
        connection.execute(statement)


def test_a_whole_trail(trail: Store) -> None:
    assert trail.verify_events() is None
    assert [event.seq for event in trail.events(after=5)] == [6, 7, 8]
    assert [event.seq for event in trail.latest_events(2)] == [7, 8]


@pytest.mark.parametrize("seq", range(1, 9))
@pytest.mark.parametrize(
    "change",
    [
        "at = at + 1",
        "kind = 'other'",
        "actor = 'somebody'",
        "certificate = NULL",
        "puller = 'p'",
        "details = '{}'",
        "details = 'not json'",
        "previous_hash = 'x'",
        "hash = 'x'",
    ],
)
def test_any_change_is_found(trail: Store, tmp_path: Path, seq: int, change: str) -> None:
    _tamper(tmp_path, f"UPDATE events SET {change} WHERE seq = {seq}")
    found = trail.verify_events()
    assert found is not None
    assert found.seq == seq


@pytest.mark.parametrize("seq", range(1, 9))
def test_a_missing_event_is_found(trail: Store, tmp_path: Path, seq: int) -> None:
    _tamper(tmp_path, f"DELETE FROM events WHERE seq = {seq}")
    found = trail.verify_events()
    assert found is not None
    assert found.seq == seq


def _rewrite(tmp_path: Path, first: int, last: int) -> TrailEnd:
    """Change an event, and give it and those up to ``last`` hashes by our own rules."""
    digest = ""
    with sqlite3.connect(tmp_path / "relay.db") as connection:
        connection.execute("UPDATE events SET actor = 'somebody' WHERE seq = ?", (first,))
        names = "seq, at, kind, actor, certificate, puller, details, previous_hash"
        for seq in range(first, last + 1):
            row = connection.execute(f"SELECT {names} FROM events WHERE seq = ?", (seq,)).fetchone()
            event = dict(zip(names.split(", "), row, strict=True))
            event["details"] = json.loads(event["details"])
            if seq > first:
                event["previous_hash"] = digest
            digest = event_hash(**event)
            connection.execute(
                "UPDATE events SET previous_hash = ?, hash = ? WHERE seq = ?",
                (event["previous_hash"], digest, seq),
            )
    return TrailEnd(last, digest)


@pytest.mark.parametrize("seq", range(1, 9))
def test_an_event_with_a_new_hash_of_its_own_is_found(
    trail: Store, tmp_path: Path, seq: int
) -> None:
    """The event after it does not follow; of the newest one the end is noted besides."""
    _rewrite(tmp_path, seq, seq)
    found = trail.verify_events()
    assert found is not None
    assert found.seq == seq + 1


@pytest.mark.parametrize("seq", range(1, 9))
def test_a_trail_written_anew_misses_the_end_that_was_kept(
    trail: Store, tmp_path: Path, seq: int
) -> None:
    """Whoever also writes the note of the end leaves a trail that is whole, and another one."""
    kept = trail.trail_end()
    end = _rewrite(tmp_path, seq, kept.seq)
    _tamper(tmp_path, f"UPDATE facts SET text = '{end.hash}' WHERE key = 'event_head'")
    assert trail.trail_end() == end != kept
    assert trail.verify_events() is None
    assert trail.verify_events(end) is None
    found = trail.verify_events(kept)
    assert found is not None
    assert "known" in found.what


def test_events_put_in_or_swapped_are_found(trail: Store, tmp_path: Path) -> None:
    _tamper(
        tmp_path,
        "INSERT INTO events SELECT 9, at, kind, actor, certificate, puller, details, "
        "previous_hash, hash FROM events WHERE seq = 8",
    )
    found = trail.verify_events()
    assert found is not None
    assert found.seq == 9
    _tamper(tmp_path, "DELETE FROM events WHERE seq = 9")
    assert trail.verify_events() is None
    _tamper(tmp_path, "UPDATE events SET seq = 0 WHERE seq = 3")
    assert trail.verify_events() is not None
