"""What a pull does is decided once, and again only if another run has worked meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from internal_puller.pull import puller
from internal_puller.pull.deciding import Decision, decide
from internal_puller.pull.turn import Turn
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[Decision]:
    found = list[Decision]()

    def noted(turn: Turn, *, heard: bool, retry: bool) -> Decision:
        found.append(decide(turn, heard=heard, retry=retry))
        return found[-1]

    monkeypatch.setattr(puller, "decide", noted)
    return found


@pytest.mark.parametrize("own_keys", [False, True])
def test_once_for_each_pull(
    agent: FakeAgent, machine: Machine, decided: list[Decision], own_keys: bool
) -> None:
    if own_keys:
        agent.own_keys.add(NAME)
    machine.target(agent)
    machine.pull()
    agent.issue(NAME)
    for count, outcomes in ((2, 1), (3, 0)):
        assert len(machine.pull().outcomes) == outcomes
        assert len(decided) == count
    assert machine.active() == agent.issued[NAME][-1].generation


def test_what_another_run_did_meanwhile_is_not_done_again(
    agent: FakeAgent, machine: Machine, decided: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.target(agent)
    agent.issue(NAME)
    genuine, others = Turn.lock, [machine]

    @contextmanager
    def lock(self: Turn) -> Iterator[None]:
        if others:
            assert others.pop().pull().exit_code == 0
        with genuine(self):
            yield

    monkeypatch.setattr(Turn, "lock", lock)
    assert machine.pull().outcomes == []
    assert [bool(one.plan.work) for one in decided] == [True, True, False]
    assert [one.outcome for one in agent.receipts] == ["installed"]
    assert sum("/bundle" in one for one in agent.requests) == 1
