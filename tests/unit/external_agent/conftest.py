"""A store in a fresh database of either engine, and a clock that stands until it is moved."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from external_agent.store.interface import Store
from external_agent.store.open import open_store
from tests.postgresql_server import PostgresqlServer, postgresql_server

NOW = 1_800_000_000


class ManualClock:
    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is asked of a store is asked of both, but for what is about a SQLite file."""
    if "engine" in metafunc.fixturenames:
        both = not list(metafunc.definition.iter_markers("sqlite"))
        other = [pytest.param("postgresql", marks=pytest.mark.postgresql)] if both else []
        metafunc.parametrize("engine", ["sqlite", *other], indirect=True, ids=lambda one: one)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[tuple[PostgresqlServer, str]]:
    """The server, and the name of a database that has the tables."""
    with postgresql_server() as server:
        empty = server.create()
        open_store(server.url(empty)).close()
        yield server, empty


@pytest.fixture
def url(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a database that is not there yet, or has no tables; with ``store`` it is that one's."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path / 'relay.db'}"
        return
    server, empty = request.getfixturevalue("postgresql")
    name = server.create(empty if "store" in request.fixturenames else "template0")
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with its tables: making them takes ten times as long as a copy."""
    path = tmp_path_factory.mktemp("empty") / "relay.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(engine: str, url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    if engine == "sqlite":
        shutil.copy(request.getfixturevalue("empty_database"), tmp_path / "relay.db")
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
