"""A store in a fresh directory, and a clock that stands until it is moved."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from external_agent.store.interface import Store
from external_agent.store.open import open_store

NOW = 1_800_000_000


class ManualClock:
    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'relay.db'}"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with its tables: making them takes ten times as long as a copy."""
    path = tmp_path_factory.mktemp("empty") / "relay.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(url: str, tmp_path: Path, empty_database: Path) -> Iterator[Store]:
    shutil.copy(empty_database, tmp_path / "relay.db")
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
