"""An honest relay, and a machine enrolled with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_agent import FakeAgent
from tests.machine import Machine


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as agent:
        yield agent


@pytest.fixture
def machine(tmp_path: Path, agent: FakeAgent) -> Machine:
    machine = Machine(tmp_path / "machine")
    machine.base.mkdir()
    machine.enrol(agent)
    return machine
