"""What failed is tried again when its pause is over, not when the agent has something new."""

from __future__ import annotations

import time

from internal_puller.outbox.report import PullReport
from internal_puller.pull.daemon import Daemon
from internal_puller.pull.puller import Puller
from shared.contract.errors import BadSignature
from shared.contract.signing import SigningKey
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine


def test_the_agent_is_not_asked_to_wait_beyond_the_next_attempt(
    agent: FakeAgent, machine: Machine
) -> None:
    machine.target(agent)
    agent.issue(NAME, signing_key=SigningKey.generate())
    since = [0.0]
    puller = Puller(machine.settings, monotonic=lambda: since[0])
    assert puller.pull(wait=50).exit_code == BadSignature.exit_code
    since[0] = 9.5  # the first pause is ten seconds
    begin = time.monotonic()
    assert puller.pull(wait=50).outcomes == []
    assert time.monotonic() - begin < 10
    since[0] = 10.5
    assert puller.pull(wait=50).exit_code == BadSignature.exit_code
    puller.close()


def test_a_lost_connection_is_no_fault_of_the_generation(
    agent: FakeAgent, machine: Machine
) -> None:
    machine.target(agent)
    issued = agent.issue(NAME)
    puller = machine.puller()
    agent.fault, agent.faulty = "cut", lambda path: path.endswith("/bundle")
    report = puller.pull(wait=50)
    assert report.contact is not None
    agent.fault = None
    assert puller.pull().exit_code == 0
    assert machine.active() == issued.generation
    puller.close()


def test_a_pause_that_nobody_waits_for_is_forgotten(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME, signing_key=SigningKey.generate())
    since = [0.0]
    puller = Puller(machine.settings, monotonic=lambda: since[0])
    assert puller.pull().exit_code == BadSignature.exit_code
    agent.issue(NAME)
    assert puller.pull().exit_code == 0
    since[0] = 1000.0
    puller.pull()
    begin = time.monotonic()
    puller.pull(wait=1)
    assert time.monotonic() - begin > 0.9
    puller.close()


def test_the_state_is_called_as_the_agent_calls_it(agent: FakeAgent, machine: Machine) -> None:
    """Another agent may compute it otherwise; only then is the question held."""
    machine.target(agent)
    agent.call_version = lambda digest: f"Revision_{digest}.~7"
    puller = machine.puller()
    puller.pull(wait=1)
    begin = time.monotonic()
    puller.pull(wait=1)
    assert time.monotonic() - begin > 0.9
    [one] = agent.pullers.values()
    known = agent.listing(one).version
    assert agent.requests[-1] == f"GET /v1/certificates?since={known}&wait=1"
    puller.close()


def test_an_agent_that_never_holds_the_question_is_asked_for_years(machine: Machine) -> None:
    daemon = Daemon(lambda: machine.settings, chance=lambda: 0.5)
    report = PullReport(come_back=3600)
    pauses = [daemon._pause_after(report, first=False, took=0.0) for _ in range(2000)]
    assert pauses[:2] == [2.0, 4.0]
    assert pauses[-1] == max(pauses) == 3600
