"""Whole line: two copies of one machine ask by turns, and the agent names both."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from external_agent.facts.issues import Concern, Kind, concerns_of
from external_agent.facts.machines import LATELY
from external_agent.present.wording import describe
from internal_puller.sources.agent.enrolment import enrol
from internal_puller.sources.agent.this_machine import this_machine
from shared.contract import wire
from shared.host.boot import BOOT_ID
from shared.issuing.renewal import DAY, HOUR
from tests.lab.ports import free_port
from tests.machine import Machine
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    RunningAgent,
    running_agent,
    settings_in,
)

BOOTS = {"first": "a" * 32, "copy": "b" * 32, "rebooted": "c" * 32}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    base = tmp_path_factory.mktemp("agent")
    port = free_port()
    own = settings_in(base / "state", url=f"https://127.0.0.1:{port}", listen=[f"127.0.0.1:{port}"])
    with running_agent(base, CERTIFICATE, settings=own) as running:
        yield running


def identify(boot: str, host: str) -> Callable[[], wire.Machine | None]:
    return lambda: this_machine(environment={BOOT_ID: BOOTS[boot]}, host=host)


@pytest.fixture
def machine(agent: RunningAgent, tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "web1", clock=agent.clock, identify=identify("first", "web1"))
    made.base.mkdir()
    enrol(agent.token(CERTIFICATE).encode(), made.settings, clock=agent.clock, host="web1")
    return made


def copy_of(machine: Machine, base: Path, boot: str, host: str) -> Machine:
    """The whole disk, started beside the original."""
    shutil.copytree(machine.base, base)
    return Machine(base, clock=machine.clock, identify=identify(boot, host))


def found(agent: RunningAgent, machine: Machine) -> list[Concern]:
    """The issues about this machine's puller; other tests have left other pullers."""
    puller, now = machine.state.require_enrolment().puller, int(agent.clock())
    (status,) = agent.store.status(now)
    mine = tuple(one for one in status.deliveries if one.puller == puller)
    concerns = concerns_of(replace(status, deliveries=mine), now)
    return [one for one in concerns if one.kind is Kind.TWO_MACHINES]


def events(agent: RunningAgent, machine: Machine) -> list[dict[str, object]]:
    puller = machine.state.require_enrolment().puller
    return [
        one.details
        for one in agent.store.events()
        if one.kind == "two-machines" and one.puller == puller
    ]


def test_two_copies_are_noticed_and_named(
    agent: RunningAgent, machine: Machine, tmp_path: Path
) -> None:
    machine.pull()
    copy = copy_of(machine, tmp_path / "copy", "copy", "web1-copy")
    for turn in range(3):
        for one in (machine, copy):
            agent.clock.now += HOUR
            assert one.pull().contact is None
        assert bool(found(agent, machine)) == (turn > 0)
    [issue] = found(agent, machine)
    what, to_do = describe(issue)
    assert "web1 and web1-copy" in what
    assert "state directory" in to_do
    for language in ("en", "ja"):
        assert "web1-copy" in describe(issue, language)[0]  # type: ignore[arg-type]
    assert events(agent, machine) == [{"hosts": ["web1", "web1-copy"]}]
    agent.clock.now += LATELY - HOUR - 1  # the copy has been enrolled anew, and asks as another
    machine.pull()
    assert found(agent, machine)
    agent.clock.now += HOUR + 1
    machine.pull()
    assert found(agent, machine) == []
    assert len(events(agent, machine)) == 1


def test_a_reboot_and_a_new_host_name_are_no_copy(agent: RunningAgent, machine: Machine) -> None:
    for boot, host in (("first", "web1"), ("rebooted", "web1"), ("rebooted", "web1-new")):
        machine.identify = identify(boot, host)
        for _ in range(3):
            agent.clock.now += HOUR
            assert machine.pull().contact is None
    assert found(agent, machine) == []
    assert events(agent, machine) == []


def test_one_that_does_not_say_is_not_judged(
    agent: RunningAgent, machine: Machine, tmp_path: Path
) -> None:
    machine.identify = lambda: None
    copy = copy_of(machine, tmp_path / "copy", "copy", "web1-copy")
    for _ in range(3):
        for one in (machine, copy):
            agent.clock.now += DAY
            assert one.pull().contact is None
    assert found(agent, machine) == []


def test_a_revoked_puller_leaves_nothing(agent: RunningAgent, machine: Machine) -> None:
    puller = machine.state.require_enrolment().puller
    agent.store.revoke_puller(puller, now=int(agent.clock()))
    machine.identify = identify("copy", "told-by-a-revoked-one")
    assert machine.pull().contact is not None
    deliveries = [d for s in agent.store.status(int(agent.clock())) for d in s.deliveries]
    assert [one.machines for one in deliveries if one.puller == puller] == [()]
