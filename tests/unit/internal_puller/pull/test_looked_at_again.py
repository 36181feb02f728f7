"""What is in place and was not seen to be served is looked at again, and told when it is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from internal_puller.facts.alarm import FILE
from internal_puller.install import engine
from internal_puller.install.engine import Engine, Job
from internal_puller.outbox.look import Answer, Look
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import ERRORS, Verdict
from internal_puller.pull.daemon import Daemon
from internal_puller.pull.pauses import LOOK_FIRST
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target, save_targets
from shared.contract.errors import ConfigurationError, NotRunning
from tests.fake_agent import FakeAgent
from tests.machine import NAME, REFUSES, Machine
from tests.unit.internal_puller.pull.test_own_keys import killed_pull

OTHER = "app.example.org"


class Servers(Engine):
    """Installs truly, and says of each server what the test wants.

    Attributes:
        says: directory's last part to verdict; ``SERVED`` if it is not named.
        installs, looked: the calls, by directory's last part.
    """

    says: ClassVar[dict[str, Verdict]]
    installs: ClassVar[list[list[str]]]
    looked: ClassVar[list[list[str]]]

    def install(self, jobs: Sequence[Job]) -> list[Outcome]:
        self.installs.append([one.target.directory.name for one in jobs])
        return [self._as_told(one) for one in super().install(jobs)]

    def look_again(
        self, targets: Sequence[Target], stood: Mapping[str, Verdict] | None = None
    ) -> list[Outcome]:
        self.looked.append([one.directory.name for one in targets])
        return [self._as_told(one) for one in super().look_again(targets, stood)]

    def _as_told(self, outcome: Outcome) -> Outcome:
        name = Path(outcome.directory).name
        verdict = self.says.get(name, Verdict.SERVED)
        kind = ERRORS[verdict]
        leaf = f"{len(name):064x}"
        return dataclasses.replace(
            outcome,
            verdict=verdict,
            error=kind(f"{outcome.certificate}: {name} is {verdict}.") if kind else None,
            looks=(Look("192.0.2.1", len(name), NAME, Answer.PROVEN, leaf, 9),),
        )


class Clock:
    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> type[Servers]:
    Servers.says, Servers.installs, Servers.looked = {}, [], []
    monkeypatch.setattr(engine, "Engine", Servers)
    return Servers


@pytest.fixture
def clock(agent: FakeAgent, machine: Machine) -> Clock:
    clock = Clock()
    agent.clock = machine.clock = clock
    return clock


@pytest.fixture
def stopped(agent: FakeAgent, machine: Machine, servers: type[Servers], clock: Clock) -> Machine:
    """A machine whose server did not run when a certificate came."""
    servers.says = {NAME: Verdict.NOT_RUNNING}
    machine.target(agent)
    agent.issue(NAME)
    assert machine.pull().exit_code == 9
    return machine


def test_it_is_in_place_and_told_so(agent: FakeAgent, stopped: Machine) -> None:
    assert stopped.active() == agent.issued[NAME][-1].generation
    [receipt] = agent.receipts
    assert (receipt.outcome, receipt.error) == ("installed", "install/not-running")
    [standing] = stopped.progress.standing.values()
    assert standing.verdict == "not-running" and standing.what.startswith(f"{NAME}: ")


def test_until_its_pause_is_over_nothing_is_done_and_the_code_stays(
    agent: FakeAgent, stopped: Machine, clock: Clock
) -> None:
    clock.now += LOOK_FIRST - 1
    before = len(agent.requests)
    report = stopped.pull()
    assert (report.exit_code, report.outcomes) == (9, [])
    assert [one.verdict for one in report.standing] == [Verdict.NOT_RUNNING]
    assert agent.requests[before:] == ["GET /v1/certificates"]
    assert Servers.looked == [] and len(agent.receipts) == 1


def test_what_is_as_it_was_is_not_told_again_and_waits_longer(
    agent: FakeAgent, stopped: Machine, clock: Clock
) -> None:
    for pause in (60, 120, 240):
        clock.now += pause
        report = stopped.pull()
        assert (report.exit_code, report.standing) == (9, [])
    assert Servers.looked == [[NAME]] * 3
    assert len(Servers.installs) == 1, "nothing is installed again"
    assert len(agent.receipts) == 1


def test_the_server_was_started(agent: FakeAgent, stopped: Machine, clock: Clock) -> None:
    Servers.says = {}
    clock.now += LOOK_FIRST
    report = stopped.pull()
    assert [one.verdict for one in report.outcomes] == [Verdict.SERVED]
    assert report.exit_code == 0
    assert [one.error for one in agent.receipts] == ["install/not-running", "none"]
    assert stopped.progress.standing == {}
    assert stopped.progress.of(NAME).error is None
    assert stopped.pull().exit_code == 0


def test_another_verdict_is_told(agent: FakeAgent, stopped: Machine, clock: Clock) -> None:
    Servers.says = {NAME: Verdict.CANNOT_BE_SEEN}
    clock.now += LOOK_FIRST
    stopped.pull()
    assert agent.receipts[-1].error == "install/cannot-be-seen"
    [standing] = stopped.progress.standing.values()
    assert standing.pause == LOOK_FIRST


def test_retry_looks_at_once(agent: FakeAgent, stopped: Machine) -> None:
    Servers.says = {}
    assert stopped.pull(retry=True).exit_code == 0
    assert agent.receipts[-1].error == "none"


def test_the_next_generation_ends_it(agent: FakeAgent, stopped: Machine, clock: Clock) -> None:
    Servers.says = {}
    agent.issue(NAME)
    clock.now += LOOK_FIRST
    assert stopped.pull().exit_code == 0
    assert Servers.looked == [], "what was installed a moment ago was looked at"
    assert stopped.progress.standing == {}


def test_it_goes_with_its_target(agent: FakeAgent, stopped: Machine) -> None:
    save_targets(stopped.settings.targets_file, [])
    assert stopped.pull().exit_code == 0
    assert stopped.progress.standing == {}


def test_a_clock_that_was_set_back_puts_nothing_off(stopped: Machine, clock: Clock) -> None:
    progress = stopped.progress
    [standing] = progress.standing.values()
    standing.again_at += 10**8
    stopped.state.save_progress(progress, durable=True)
    stopped.pull()
    assert Servers.looked == [[NAME]]


def test_a_look_in_vain_waits_too(
    stopped: Machine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the service would look at each turn, without end."""

    def blind(
        self: Servers, targets: Sequence[Target], stood: Mapping[str, Verdict]
    ) -> list[Outcome]:
        assert list(stood.values()) == [Verdict.NOT_RUNNING]
        self.looked.append([one.directory.name for one in targets])
        error = ConfigurationError("It cannot be read.")
        return [Outcome(one.certificate, 0, None, error) for one in targets]

    monkeypatch.setattr(Servers, "look_again", blind)
    clock.now += LOOK_FIRST
    for _ in range(3):
        stopped.pull()
    assert len(Servers.looked) == 1
    [standing] = stopped.progress.standing.values()
    assert (standing.verdict, standing.again_at) == ("not-running", clock.now + 2 * LOOK_FIRST)


def test_the_agent_holds_no_question_beyond_the_next_look(
    agent: FakeAgent, stopped: Machine, clock: Clock
) -> None:
    clock.now += LOOK_FIRST - 1
    stopped.pull(wait=50)
    assert agent.requests[-1].endswith("&wait=1")


def test_without_the_agent_too(agent: FakeAgent, stopped: Machine, clock: Clock) -> None:
    Servers.says = {}
    agent.fault = "busy"
    clock.now += LOOK_FIRST
    assert stopped.pull().exit_code == 7
    assert stopped.progress.standing == {}
    agent.fault = None
    assert stopped.pull().exit_code == 0
    assert agent.receipts[-1].error == "none"


def test_the_alarm_is_given_while_it_stands(
    agent: FakeAgent, stopped: Machine, clock: Clock
) -> None:
    stopped.change(alarm_command=("/bin/true",))
    stopped.pull()
    assert f"unserved {stopped.targets()[0].directory}" in (stopped.state.path / FILE).read_text()
    Servers.says = {}
    stopped.pull(retry=True)
    assert "unserved" not in (stopped.state.path / FILE).read_text()


# --- several servers --------------------------------------------------------------------------


def test_one_receipt_speaks_for_all_its_servers(
    agent: FakeAgent, machine: Machine, servers: type[Servers], clock: Clock
) -> None:
    machine.target(agent)
    machine.target(agent, directory=machine.base / "mail")
    servers.says = {"mail": Verdict.NOT_TAKEN_UP}
    agent.issue(NAME)
    report = machine.pull()
    assert [one.verdict for one in report.outcomes] == [Verdict.SERVED, Verdict.NOT_TAKEN_UP]
    [receipt] = agent.receipts
    assert (receipt.outcome, receipt.error) == ("installed", "install/not-taken-up")
    assert len(receipt.served) == 2
    clock.now += LOOK_FIRST
    servers.says = {"mail": Verdict.NOT_RUNNING}
    machine.pull()
    assert servers.looked == [["mail"]], "the other one is well"
    servers.says = {}
    assert machine.pull(retry=True).exit_code == 0
    assert [one.error for one in agent.receipts[1:]] == ["install/not-running", "none"]


def test_one_of_two_is_well_again(
    agent: FakeAgent, machine: Machine, servers: type[Servers]
) -> None:
    """The receipt is that of the one that still is not."""
    machine.target(agent)
    second = machine.target(agent, directory=machine.base / "mail")
    servers.says = {"mail": Verdict.NOT_TAKEN_UP, NAME: Verdict.NOT_RUNNING}
    agent.issue(NAME)
    machine.pull()
    progress = machine.progress
    progress.standing[str(second.directory)].again_at += 600
    first = next(one for place, one in progress.standing.items() if place.endswith(NAME))
    first.again_at = 1
    machine.state.save_progress(progress, durable=True)
    servers.says = {}
    report = machine.pull()
    assert report.exit_code == 9
    assert servers.looked == [[NAME]]
    assert agent.receipts[-1].error == "install/not-taken-up"
    assert list(machine.progress.standing) == [str(second.directory)]


def test_all_that_came_is_installed_by_one_call(
    agent: FakeAgent, machine: Machine, servers: type[Servers]
) -> None:
    names = [f"n{number}.example.org" for number in range(4)]
    machine.enrol(agent, *names)
    for name in names:
        machine.target(agent, name)
        agent.issue(name)
    machine.target(agent, names[0], directory=machine.base / "mail")
    agent.issue(names[2], edit=lambda manifest: dataclasses.replace(manifest, names=(OTHER,)))
    report = machine.pull()
    assert servers.installs == [[names[0], "mail", names[1], names[3]]]
    assert sorted(one.outcome for one in agent.receipts) == [*["installed"] * 3, "refused"]
    assert agent.requests.count("POST /v1/receipts") == 1
    assert report.exit_code == 8


def test_a_bug_while_installing_is_told(
    agent: FakeAgent, machine: Machine, servers: type[Servers], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Servers, jobs: Sequence[Job]) -> list[Outcome]:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(servers, "install", broken)
    machine.target(agent)
    agent.issue(NAME)
    report = machine.pull()
    assert report.exit_code == 1 and "ZeroDivisionError" in report.errors[0].what
    assert [(one.outcome, one.error) for one in agent.receipts] == [("failed", "unexpected")]


# --- looked at by the service, and killed -----------------------------------------------------


def test_what_is_served_no_more_stands_too(agent: FakeAgent, machine: Machine) -> None:
    point = ProbePoint("127.0.0.1", agent.port, NAME)
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    machine.settings.targets_file.unlink()
    machine.target(agent, probe=(point,))
    puller = machine.puller()
    assert puller.look_again()
    puller.close()
    [standing] = machine.progress.standing.values()
    assert standing.verdict == "another-server"
    assert machine.pull().exit_code == 9


def test_the_service_logs_it_once_and_not_each_time_it_looks(
    agent: FakeAgent, stopped: Machine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = Daemon(lambda: stopped.settings, clock=clock)
    for _ in range(4):
        daemon._cycle()
        daemon._drop_puller()
        clock.now += 600
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == [
        f"{NAME}: {NAME} is not-running. {NotRunning.do}"
    ]
    assert len(Servers.looked) == 3
    assert len(agent.receipts) == 1


@pytest.mark.parametrize("refused", [False, True])
def test_killed_before_its_receipt_was_kept(
    agent: FakeAgent, machine: Machine, refused: bool
) -> None:
    """In place or gone back: both are told by the next run, once."""
    machine.target(agent, test_command=REFUSES if refused else (), reload_command=("/bin/true",))
    issued = agent.issue(NAME)
    assert killed_pull(machine, Engine, "install", "after")
    assert agent.receipts == []
    for _ in range(3):
        machine.pull()
    [receipt] = agent.receipts
    word = "rolled_back" if refused else "installed"
    assert (receipt.outcome, receipt.generation) == (word, issued.generation)
