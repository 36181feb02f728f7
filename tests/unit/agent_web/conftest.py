"""One agent for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.agent_web.harness import CERTIFICATE, OTHER, RunningAgent, running_agent


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with running_agent(tmp_path_factory.mktemp("agent"), CERTIFICATE, OTHER) as one:
        yield one


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with running_agent(tmp_path_factory.mktemp("shared"), CERTIFICATE, OTHER) as one:
        yield one
