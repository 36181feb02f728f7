"""An agent that offers a new generation at every poll does not make a server reload without end."""

from __future__ import annotations

from internal_puller.outbox.report import PullReport
from internal_puller.pull.daemon import Daemon
from internal_puller.pull.pace import IN_A_ROW, LONGEST, SHARE, SHORTEST, WINDOW, Pace
from internal_puller.pull.puller import Puller
from shared.contract.signing import SigningKey
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def attempts_in(seconds: float, left: float) -> int:
    """Return how often something is tried that is offered anew each second."""
    clock, count = Clock(), 0
    pace, end = Pace(clock), clock.now + seconds
    while clock.now < end:
        if pace.permits("a", left):
            pace.note("a")
            count += 1
        clock.now += 1
    return count


def test_the_first_and_some_in_a_row_are_not_delayed() -> None:
    assert attempts_in(IN_A_ROW, 90 * DAY) == IN_A_ROW
    assert attempts_in(3600, 90 * DAY) == IN_A_ROW


def test_then_each_waits_for_a_share_of_what_is_left() -> None:
    hour = 3600.0
    assert attempts_in(IN_A_ROW + 10 * hour * SHARE, 10 * hour) == IN_A_ROW + 1
    assert attempts_in(DAY, 90 * DAY) <= IN_A_ROW + DAY / LONGEST


def test_what_expires_soon_waits_a_minute_at_most_and_still_not_without_end() -> None:
    assert attempts_in(600, 0) <= IN_A_ROW + 600 / SHORTEST
    assert attempts_in(600, -5 * DAY) >= IN_A_ROW + 600 / SHORTEST - 1


def test_a_day_later_it_is_forgotten_and_others_are_not_concerned() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(IN_A_ROW):
        pace.note("a")
    assert not pace.permits("a", DAY) and pace.permits("b", DAY)
    clock.now += WINDOW
    for _ in range(IN_A_ROW):
        assert pace.permits("a", 90 * DAY)
        pace.note("a")
    assert not pace.permits("a", 90 * DAY)


def test_an_agent_with_something_new_at_every_poll(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    clock = Clock()
    puller = Puller(machine.settings, pace=Pace(clock))
    report, installed = PullReport(), list[str]()
    for _ in range(IN_A_ROW + 5):
        agent.issue(NAME)
        report = puller.pull()
        installed += [one.word for one in report.outcomes]
    assert installed == ["installed"] * IN_A_ROW
    assert any("without end" in one for one in report.warnings)
    clock.now += LONGEST
    assert [one.word for one in puller.pull().outcomes] == ["installed"]
    puller.close()


def test_what_fails_each_time_counts_too(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    puller = Puller(machine.settings, pace=Pace(Clock()))
    tried = 0
    for _ in range(IN_A_ROW + 5):
        agent.issue(NAME, signing_key=SigningKey.generate())
        tried += len(puller.pull().outcomes)
    assert tried == IN_A_ROW
    puller.close()


def test_the_puller_that_stays_is_paced_also_when_it_begins_anew(
    agent: FakeAgent, machine: Machine
) -> None:
    """As after an error or SIGHUP: what was counted stays, or an agent would provoke errors."""
    machine.target(agent)
    daemon = Daemon(lambda: machine.settings, monotonic=Clock())
    installed = set()
    for _ in range(IN_A_ROW + 5):
        agent.issue(NAME)
        daemon._cycle()
        daemon._drop_puller()
        installed.add(machine.active())
    assert len(installed) == IN_A_ROW


def test_a_pull_that_somebody_began_is_not_delayed(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    for _ in range(IN_A_ROW + 2):
        agent.issue(NAME)
        puller = machine.puller()
        assert [one.word for one in puller.pull().outcomes] == ["installed"]
        puller.close()
