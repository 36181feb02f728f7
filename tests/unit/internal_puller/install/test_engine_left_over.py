"""What an earlier run left, met by a later one: what is known of how servers stood is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_puller.install import layout, notes
from internal_puller.install.server import Control, Running, Server
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.targets import Target
from shared.contract.errors import StageFailed
from shared.host.commands import CommandResult
from tests.unit.internal_puller.install.fake_servers import THIRD, FakeMachine, FakeServer


class _Killed(BaseException):
    pass


def _kill() -> None:
    raise _Killed


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def served(
    machine: FakeMachine, count: int = 1, **server: object
) -> tuple[FakeServer, list[Target]]:
    made = machine.add_server()
    for attribute, value in server.items():
        setattr(made, attribute, value)
    sites = [machine.add_target(f"site{number}", made) for number in range(count)]
    machine.install(*((one, 1) for one in sites))
    made.did.clear()
    return made, sites


def bad(site: Target, *generations: int) -> set[tuple[str, int]]:
    return {(str(site.directory), one) for one in generations}


def test_a_server_that_we_killed_is_started_by_the_next_good_generation(
    machine: FakeMachine,
) -> None:
    apache, [site] = served(machine, test_reads_keys=False, dies=True)
    apache.unloadable = bad(site, 1, 2)  # neither the new nor the old one can be started with
    assert machine.install((site, 2))[0].verdict is Verdict.BACK_UNSEEN
    [outcome] = machine.install((site, 3))
    assert (outcome.verdict, apache.running) == (Verdict.SERVED, Running.YES)


def test_another_members_installation_does_not_forget_that_we_killed_the_server(
    machine: FakeMachine,
) -> None:
    apache, [one, two] = served(machine, 2, test_reads_keys=False, dies=True)
    apache.unloadable = bad(one, 1, 2)
    machine.install((one, 2))
    machine.install((two, 2))
    apache.unloadable = set()
    machine.engine().resume()
    assert apache.running is Running.YES


def test_a_machine_that_was_away_for_a_moment_does_not_cost_the_server_its_start(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    apache, [site] = served(machine, test_reads_keys=False, dies=True)
    apache.unloadable = bad(site, 2)
    reload = FakeServer.reload

    def killed(self: FakeServer) -> CommandResult:
        reload(self)
        raise _Killed

    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(FakeServer, "reload", killed)
        machine.install((site, 2))
    away = [True]

    def control(server: Server, members: object) -> Control:
        if away and away.pop():
            raise StageFailed("It cannot be reached.")
        return machine.control(server, ())

    engine = machine.engine()
    monkeypatch.setattr(engine, "_control", control)
    engine.install([machine.job(site, 3)])
    assert apache.running is Running.YES


def test_a_member_that_was_begun_is_tested_also_beside_one_whose_way_back_was_not_seen(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx, [one, two] = served(machine, 2)
    reload = FakeServer.reload

    def worse_and_then_unseen(self: FakeServer) -> CommandResult:
        result = reload(self)
        if self.did.count("reload") == 1:
            self.other = {str(one.directory): THIRD}
        else:
            self.other, machine.unseen = {}, {str(one.directory)}
        return result

    with monkeypatch.context() as patch:
        patch.setattr(FakeServer, "reload", worse_and_then_unseen)
        assert machine.install((one, 2))[0].verdict is Verdict.BACK_UNSEEN
    nginx.unloadable = bad(two, 2)
    machine.tick = _kill
    with pytest.raises(_Killed):
        machine.install((two, 2))
    machine.tick = lambda: None
    machine.engine().resume()
    assert nginx.why_not() == ""
    assert machine.active() == [1, 1]


def test_killed_after_a_boot_was_noted_then_the_boots_failure_is_still_no_death(
    machine: FakeMachine,
) -> None:
    nginx, [site] = served(machine)
    machine.tick = _kill
    with pytest.raises(_Killed):
        machine.install((site, 2))
    machine.boot()
    nginx.running = Running.FAILED  # its port was taken
    with pytest.raises(_Killed):
        machine.engine().resume()
    machine.tick = lambda: None
    [outcome] = machine.engine().resume()
    assert (outcome.verdict, nginx.running) == (Verdict.SERVED, Running.YES)
    assert layout.set_aside(site) == {}


def test_the_death_of_one_server_takes_nothing_from_another_that_lives(
    machine: FakeMachine,
) -> None:
    nginx, postfix = machine.add_server("nginx"), machine.add_server("postfix")
    web, _, mail = (
        machine.add_target("web", nginx),
        machine.add_target("both", nginx, postfix),
        machine.add_target("mail", postfix),
    )
    machine.install(*((one, 1) for one in machine.targets))
    nginx.test_reads_keys, nginx.dies, nginx.unloadable = False, True, bad(web, 2)
    outcomes = machine.install(*((one, 2) for one in machine.targets))
    assert outcomes[2].verdict is Verdict.SERVED
    assert postfix.loaded[str(mail.directory)] == 2


def test_a_configuration_that_is_broken_keeps_no_other_server_from_its_reload(
    machine: FakeMachine,
) -> None:
    nginx, postfix = machine.add_server("nginx"), machine.add_server("postfix")
    machine.add_target("both", nginx, postfix)
    mail = machine.add_target("mail", postfix)
    machine.install(*((one, 1) for one in machine.targets))
    nginx.own_fault = True
    outcomes = machine.install(*((one, 2) for one in machine.targets))
    assert outcomes[1].verdict is Verdict.SERVED
    assert postfix.loaded[str(mail.directory)] == 2


def test_a_damaged_note_does_not_keep_others_from_being_recovered(machine: FakeMachine) -> None:
    nginx, [site] = served(machine)
    nginx.unloadable = bad(site, 2)
    machine.tick = _kill
    with pytest.raises(_Killed):
        machine.install((site, 2))
    machine.tick = lambda: None
    Path(machine.state, notes.GROUPS, "0.json").write_text("{")
    machine.engine().recover()
    assert machine.active() == [1]


def test_rolling_back_goes_back_also_after_a_way_back_that_was_not_seen(
    machine: FakeMachine,
) -> None:
    apache, [site] = served(machine, test_reads_keys=False)
    machine.install((site, 2))
    apache.dies, apache.unloadable = True, bad(site, 2, 3)
    assert machine.install((site, 3))[0].verdict is Verdict.BACK_UNSEEN
    machine.engine().roll_back([site])
    assert (machine.active(), apache.running) == ([1], Running.YES)


def test_killed_before_a_dead_server_was_started_its_start_blames_nobody(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    apache, [site] = served(machine, test_reads_keys=False, dies=True)
    apache.unloadable = bad(site, 1, 2)
    machine.install((site, 2))
    start = FakeServer.start

    def killed(self: FakeServer) -> CommandResult:
        if machine.active() == [3]:
            raise _Killed
        return start(self)

    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(FakeServer, "start", killed)
        machine.install((site, 3))
    [outcome] = machine.engine().resume()
    assert (outcome.verdict, outcome.active, apache.running) == (Verdict.SERVED, 3, Running.YES)
    assert 3 not in layout.set_aside(site)
