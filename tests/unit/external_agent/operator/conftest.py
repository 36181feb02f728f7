"""One world for each module; every test finds it as it was at first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.external_agent.harness import START
from tests.unit.external_agent.operator.world import World
from tests.unit.external_agent.running import (
    Snapshot,
    own_agent,
    running,
    shared_agent,
    snapshot,
)

__all__ = ["own_agent", "running", "shared_agent", "snapshot"]


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("operator"), allowed_hosts=("relay.example.com",))
    yield world
    world.store.close()


@pytest.fixture(scope="module")
def world_snapshot(shared_world: World) -> Snapshot:
    return Snapshot(shared_world.store)


@pytest.fixture
def world(shared_world: World, world_snapshot: Snapshot) -> World:
    world_snapshot.restore()
    shared_world.clock.now = START
    shared_world.attempts.clear()
    return shared_world
