"""What SQLite does for a page of the status: it reads stretches of indexes, never a large table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import event

from external_agent.store.open import open_store
from tests.big_store import fill

NOW = 1_800_000_000
LARGE = ("bundles", "challenges", "events", "generations", "receipts")


def test_a_page_of_the_status_scans_no_large_table(tmp_path: Path) -> None:
    url = fill(tmp_path / "relay.db", 200, now=NOW)
    (tmp_path / "relay.db").chmod(0o600)
    store = open_store(url)
    asked: list[tuple[str, Any]] = []

    def remember(_c: Any, _k: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            asked.append((statement, parameters))

    engine = store._database._engine
    event.listen(engine, "before_cursor_execute", remember)
    assert len(store.status(NOW, after="host00100.example.com", limit=20)) == 20
    event.remove(engine, "before_cursor_execute", remember)
    plans = []
    with store._database.read() as connection:
        for statement, parameters in asked:
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [str(row[-1]) for row in found]
    assert len(plans) > 10
    scans = [line for line in plans if line.startswith("SCAN") and line.split()[1] in LARGE]
    assert scans == [], "\n".join(plans)
    store.close()
