"""The engine over servers that are made of memory: every row by test and by reload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from internal_puller.install import layout, notes
from internal_puller.install.server import Running
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.targets import Target
from shared.contract.errors import ServerDied, StageFailed
from tests.unit.internal_puller.install.fake_servers import THIRD, FakeMachine, FakeServer
from tests.unit.internal_puller.install.helpers import is_noted


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def verdicts(outcomes: list[Outcome]) -> list[Verdict | None]:
    return [one.verdict for one in outcomes]


def some(machine: FakeMachine, server: FakeServer, count: int) -> list[Target]:
    return [machine.add_target(f"site{number}", server) for number in range(count)]


def renewed(
    machine: FakeMachine, count: int = 1, **server: object
) -> tuple[FakeServer, list[Target]]:
    """Have generation 1 of some sites served by one server, then let the server be as told."""
    made = machine.add_server()
    sites = some(machine, made, count)
    assert set(verdicts(machine.install(*((one, 1) for one in sites)))) == {Verdict.SERVED}
    made.did.clear()
    for attribute, value in server.items():
        setattr(made, attribute, value)
    return made, sites


def bad(*sites: Target, generation: int = 2) -> set[tuple[str, int]]:
    return {(str(one.directory), generation) for one in sites}


# --- one server, one installation -------------------------------------------------------------


def test_two_first_certificates_on_one_server_come_up_together(machine: FakeMachine) -> None:
    nginx = machine.add_server()
    one, two = some(machine, nginx, 2)
    outcomes = machine.install((one, 1), (two, 1))
    assert verdicts(outcomes) == [Verdict.SERVED, Verdict.SERVED]
    assert [one.exit_code for one in outcomes] == [0, 0]
    assert nginx.did == ["test", "reload"]
    assert machine.active() == [1, 1]
    assert not notes.has_note(machine.state)


def test_twelve_renewals_are_one_test_and_one_reload(machine: FakeMachine) -> None:
    nginx, sites = renewed(machine, 12)
    outcomes = machine.install(*((one, 2) for one in sites))
    assert set(verdicts(outcomes)) == {Verdict.SERVED}
    assert [one.certificate for one in outcomes] == [one.certificate for one in sites]
    assert nginx.did == ["test", "reload"]


def test_of_fifty_two_bad_ones_go_back_by_few_tests_and_one_reload(machine: FakeMachine) -> None:
    nginx, sites = renewed(machine, 50)
    nginx.unloadable = bad(sites[17], sites[41])
    outcomes = machine.install(*((one, 2) for one in sites))
    assert nginx.did.count("test") <= 17
    assert nginx.did.count("reload") == 1
    back = [index for index, one in enumerate(outcomes) if one.verdict is Verdict.BACK_BY_TEST]
    assert back == [17, 41]
    assert verdicts(outcomes).count(Verdict.SERVED) == 48
    assert [nginx.loaded[str(one.directory)] for one in sites].count(2) == 48
    assert 2 in layout.set_aside(sites[17]) and 2 not in layout.set_aside(sites[18])


def test_a_target_of_two_servers_is_installed_for_both(machine: FakeMachine) -> None:
    nginx, postfix = machine.add_server("nginx"), machine.add_server("postfix")
    machine.add_target("web", nginx)
    machine.add_target("both", nginx, postfix)
    machine.add_target("mail", postfix)
    outcomes = machine.install(*((one, 1) for one in machine.targets))
    assert set(verdicts(outcomes)) == {Verdict.SERVED}
    assert nginx.did == postfix.did == ["test", "reload"]
    postfix.running = Running.NO
    outcomes = machine.install(*((one, 2) for one in machine.targets))
    assert verdicts(outcomes) == [Verdict.SERVED, Verdict.NOT_RUNNING, Verdict.NOT_RUNNING]


def test_what_is_in_place_and_served_is_neither_tested_nor_told(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    [outcome] = machine.install((site, 1))
    assert (outcome.verdict, outcome.changed, nginx.did) == (Verdict.SERVED, False, [])


# --- by test ----------------------------------------------------------------------------------


def test_a_renewal_that_the_test_refuses_goes_back_alone(machine: FakeMachine) -> None:
    nginx, [one, two] = renewed(machine, 2)
    first = machine.add_target("first", nginx)
    nginx.unloadable = bad(two)
    outcomes = machine.install((one, 2), (two, 2), (first, 2))
    assert verdicts(outcomes) == [Verdict.SERVED, Verdict.BACK_BY_TEST, Verdict.SERVED]
    assert machine.active() == [2, 1, 2]
    assert outcomes[1].active == 1
    assert "cannot load" in str(outcomes[1].error)
    assert nginx.did.count("reload") == 1


def test_a_first_one_that_the_configuration_does_without_goes_back(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    first = machine.add_target("first", nginx, needed=False)
    nginx.unloadable = bad(first)
    outcomes = machine.install((first, 2), (site, 2))
    assert verdicts(outcomes) == [Verdict.BACK_BY_TEST, Verdict.SERVED]
    assert machine.active() == [2, None]


def test_a_first_one_that_the_configuration_names_stays(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    first = machine.add_target("first", nginx)
    nginx.unloadable = bad(first)
    outcomes = machine.install((site, 2), (first, 2))
    assert verdicts(outcomes) == [Verdict.BROKEN_BEFORE, Verdict.BROKEN_BEFORE]
    assert machine.active() == [2, 2]
    assert "reload" not in nginx.did
    assert layout.set_aside(first) == {}


def test_a_configuration_that_was_broken_before_keeps_all_and_is_not_reloaded(
    machine: FakeMachine,
) -> None:
    nginx, [site] = renewed(machine, own_fault=True)
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.active) == (Verdict.BROKEN_BEFORE, 2)
    assert nginx.did == ["test", "test"]
    nginx.own_fault = False
    [outcome] = machine.engine().look_again([site])
    assert (outcome.verdict, nginx.did.count("reload")) == (Verdict.SERVED, 1)


# --- by reload --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Running.NO, Running.FAILED])
def test_a_stopped_server_is_left_alone_and_takes_it_up_when_it_starts(
    machine: FakeMachine, how: Running
) -> None:
    nginx, [site] = renewed(machine, running=how)
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.active, nginx.did) == (Verdict.NOT_RUNNING, 2, ["test"])
    assert "systemctl start nginx.service" in str(outcome.error and outcome.error.what)
    assert layout.set_aside(site) == {}
    nginx.start()
    [outcome] = machine.engine().look_again([site])
    assert (outcome.verdict, nginx.did[-1]) == (Verdict.SERVED, "start")


def test_a_first_pair_stays_where_a_stopped_server_needs_it(machine: FakeMachine) -> None:
    nginx = machine.add_server(running=Running.NO)
    [site] = some(machine, nginx, 1)
    assert verdicts(machine.install((site, 1))) == [Verdict.NOT_RUNNING]
    assert machine.active() == [1]
    assert nginx.start().ok


def test_a_reload_that_fails_keeps_the_new_files(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine, reload_fails=True)
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.active) == (Verdict.RELOAD_FAILED, 2)
    nginx.reload_fails = False
    assert verdicts(machine.engine().look_again([site])) == [Verdict.SERVED]


def test_a_server_that_a_reload_killed_is_started_with_the_old_files(
    machine: FakeMachine, noted: list[dict[str, Verdict | None]]
) -> None:
    apache, sites = renewed(machine, 3, dies=True, test_reads_keys=False)
    apache.unloadable = bad(sites[1])
    outcomes = machine.install(*((one, 2) for one in sites))
    assert set(verdicts(outcomes)) == {Verdict.BACK_BY_DEATH}
    assert isinstance(outcomes[0].error, ServerDied)
    assert (apache.running, apache.did) == (Running.YES, ["test", "reload", "start"])
    assert machine.active() == [1, 1, 1]
    changes = [one for one in noted if any(one.values())]
    assert [set(one.values()) for one in changes] == [{Verdict.BACK_BY_DEATH}]  # one write

    apache.did.clear()
    outcomes = machine.install(*((one, 2) for one in sites))
    assert verdicts(outcomes) == [
        Verdict.SERVED,
        Verdict.BACK_BY_DEATH,
        Verdict.BACK_BY_DEATH,  # not tried: one death is enough for one run
    ]
    assert apache.did == ["test", "reload", "test", "reload", "start"]
    outcomes = machine.install((sites[1], 2), (sites[2], 2))
    assert verdicts(outcomes) == [Verdict.BACK_BY_DEATH, Verdict.SERVED]
    assert apache.did[-2:] == ["test", "reload"]
    assert machine.active() == [2, 1, 2]


def test_a_dead_server_that_cannot_be_started_wants_a_person_and_is_tried_again(
    machine: FakeMachine,
) -> None:
    apache, [site] = renewed(machine, dies=True, test_reads_keys=False, start_fails=True)
    apache.unloadable = bad(site)
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.exit_code, outcome.active) == (Verdict.BACK_UNSEEN, 12, 1)
    assert is_noted(machine.state, site)
    assert verdicts(machine.engine().resume()) == [Verdict.BACK_UNSEEN]
    apache.start_fails = False
    [healed] = machine.engine().resume()
    assert (healed.verdict, apache.running) == (Verdict.BACK_BY_LEAF, Running.YES)
    assert not notes.has_note(machine.state)


def test_without_a_probe_too_a_server_that_stays_dead_wants_a_person(machine: FakeMachine) -> None:
    apache, [site] = renewed(machine, dies=True, test_reads_keys=False, start_fails=True)
    apache.unloadable = bad(site)
    machine.no_probe = {str(site.directory)}
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.exit_code, outcome.active) == (Verdict.BACK_UNSEEN, 12, 1)


def test_a_dying_server_takes_no_first_pair_away_that_it_names(machine: FakeMachine) -> None:
    """Of two first ones with it, one is named by the configuration, and one is to blame."""
    apache, [site] = renewed(machine, dies=True, test_reads_keys=False)
    named = machine.add_target("named", apache)
    spare = machine.add_target("spare", apache, needed=False)
    apache.unloadable = bad(spare)
    outcomes = machine.install((site, 2), (named, 2), (spare, 2))
    assert verdicts(outcomes)[1:] == [Verdict.NOT_CAUSED, Verdict.BACK_BY_DEATH]
    assert (apache.running, machine.active()) == (Running.YES, [1, 2, None])


def test_after_a_boot_a_failed_server_is_started_with_what_its_test_lets_through(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx, [one, two] = renewed(machine, 2)
    nginx.unloadable = bad(two)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(nginx, "test", _killed)
        machine.install((one, 2), (two, 2))
    machine.boot()  # without the recovery unit
    assert nginx.running is Running.FAILED
    nginx.did.clear()
    outcomes = machine.engine().resume()
    assert verdicts(outcomes) == [Verdict.SERVED, Verdict.BACK_BY_TEST]
    assert nginx.did.count("start") == 1 and nginx.running is Running.YES


def test_recovery_at_boot_lets_links_follow_and_keeps_the_note(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx, [one, two] = renewed(machine, 2)
    nginx.unloadable = bad(two)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(nginx, "test", _killed)
        machine.install((one, 2), (two, 2))
    nginx.did.clear()
    machine.engine().recover()
    assert set(nginx.did) == {"test"} and machine.active() == [2, 1]
    machine.boot()
    assert nginx.running is Running.YES and notes.has_note(machine.state)
    assert verdicts(machine.engine().resume()) == [Verdict.SERVED, Verdict.BACK_BY_TEST]
    assert not notes.has_note(machine.state)


def test_a_test_that_could_not_be_run_sets_nothing_aside(machine: FakeMachine) -> None:
    _, [site] = renewed(machine)

    def not_run() -> None:
        raise StageFailed("It is not known what the test of nginx says.")

    machine.tick = not_run
    [outcome] = machine.install((site, 2))
    assert outcome.verdict is None and isinstance(outcome.error, StageFailed)
    assert machine.active() == [1] and not notes.has_note(machine.state)
    machine.tick = lambda: None
    assert verdicts(machine.install((site, 2))) == [Verdict.SERVED]


def test_a_machine_that_is_away_changes_nothing_here(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine, reachable=False)
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.active) == (None, 1)
    assert outcome.error is not None and "cannot be reached" in outcome.error.what
    assert not notes.has_note(machine.state) and layout.set_aside(site) == {}
    nginx.reachable = True
    assert verdicts(machine.install((site, 2))) == [Verdict.SERVED]


def _killed() -> None:
    raise KeyboardInterrupt


def test_a_first_pair_that_killed_a_server_which_names_it_stays(machine: FakeMachine) -> None:
    apache, [site] = renewed(machine, dies=True, test_reads_keys=False)
    first = machine.add_target("first", apache)
    apache.unloadable = bad(first)
    outcomes = machine.install((site, 2), (first, 2))
    assert verdicts(outcomes) == [Verdict.BACK_UNSEEN, Verdict.NOT_CAUSED]
    assert machine.active() == [1, 2]


def test_a_damaged_memory_of_one_target_keeps_no_other_from_its_end(machine: FakeMachine) -> None:
    _, sites = renewed(machine, 2)

    def damage() -> None:
        (sites[0].directory / layout.SET_ASIDE).write_text("{")

    machine.tick = damage
    outcomes = machine.install(*((one, 2) for one in sites))
    assert verdicts(outcomes) == [Verdict.SERVED, Verdict.SERVED]
    assert not notes.has_note(machine.state)


def test_no_note_can_be_written_or_dropped_then_each_target_is_told_so(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StageFailed("The file system is read-only.")

    nginx, sites = renewed(machine, 2)
    monkeypatch.setattr(notes, "write", refuse)
    monkeypatch.setattr(notes, "drop", refuse)
    outcomes = machine.install(*((one, 2) for one in sites))
    assert [type(one.error) for one in outcomes] == [StageFailed, StageFailed]
    assert (machine.active(), nginx.did) == ([1, 1], [])


# --- by leaf ----------------------------------------------------------------------------------


def test_what_is_not_taken_up_stays_and_is_told_again(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    nginx.blind = {str(site.directory)}
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.active) == (Verdict.NOT_TAKEN_UP, 2)
    assert layout.set_aside(site) == {}
    nginx.blind = set()
    assert verdicts(machine.engine().look_again([site])) == [Verdict.SERVED]
    assert nginx.did == ["test", "reload", "test", "reload"]


def test_what_cannot_be_seen_stays_and_is_looked_at_without_a_reload(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    machine.unseen = {str(site.directory)}
    assert verdicts(machine.install((site, 2))) == [Verdict.CANNOT_BE_SEEN]
    assert verdicts(machine.engine().look_again([site])) == [Verdict.CANNOT_BE_SEEN]
    machine.unseen = set()
    assert verdicts(machine.engine().look_again([site])) == [Verdict.SERVED]
    assert nginx.did.count("reload") == 1


def test_a_leaf_shown_with_another_key_goes_back_by_one_more_reload(machine: FakeMachine) -> None:
    nginx, sites = renewed(machine, 3)
    nginx.shown_only = bad(sites[0], sites[2])
    outcomes = machine.install(*((one, 2) for one in sites))
    assert verdicts(outcomes) == [Verdict.BACK_BY_LEAF, Verdict.SERVED, Verdict.BACK_BY_LEAF]
    assert nginx.did == ["test", "reload", "test", "reload"]
    assert machine.active() == [1, 2, 1]
    assert nginx.loaded == {str(one.directory): n for one, n in zip(sites, (1, 2, 1), strict=True)}
    assert set(layout.set_aside(sites[0])) == {2}


def test_going_back_that_does_not_help_is_undone_without_a_reload(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)

    nginx.load = nginx.loaded.clear  # type: ignore[method-assign]  # somebody took its lines away
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.active) == (Verdict.NOT_CAUSED, 2)
    assert nginx.did.count("reload") == 2
    assert layout.set_aside(site) == {}


def test_back_by_leaf_never_goes_to_what_has_expired(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    nginx.shown_only = bad(site)
    machine.clock.seconds += 86400 * 365 * 1000  # those of the tests live long
    [outcome] = machine.install((site, 2))
    assert (outcome.verdict, outcome.active) == (Verdict.WORSE_AND_KEPT, 2)


def test_another_server_is_seen_as_before(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    nginx.other[str(site.directory)] = THIRD
    assert verdicts(machine.install((site, 2))) == [Verdict.ANOTHER_SERVER]
    assert verdicts(machine.engine().look_again([site])) == [Verdict.ANOTHER_SERVER]


def test_seen_before_it_was_put_in_place_is_never_served(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    nginx.loaded[str(site.directory)] = 2
    assert verdicts(machine.install((site, 2))) == [Verdict.SEEN_BEFORE]
    stood = {str(site.directory): Verdict.SEEN_BEFORE}
    assert verdicts(machine.engine().look_again([site], stood)) == [Verdict.SEEN_BEFORE]


def test_without_a_probe_it_is_in_place_and_not_looked_at(machine: FakeMachine) -> None:
    nginx, [site] = renewed(machine)
    machine.no_probe = {str(site.directory)}
    assert verdicts(machine.install((site, 2))) == [Verdict.IN_PLACE]
    assert nginx.did == ["test", "reload"]


# --- an operator ------------------------------------------------------------------------------


def test_an_operator_goes_back_and_the_next_pull_does_not_undo_it(machine: FakeMachine) -> None:
    _, sites = renewed(machine, 2)
    machine.install(*((one, 2) for one in sites))
    outcomes = machine.engine().roll_back(sites)
    assert verdicts(outcomes) == [Verdict.SERVED, Verdict.SERVED]
    assert [one.generation for one in outcomes] == [1, 1]
    [outcome] = machine.install((sites[0], 2))
    assert (outcome.verdict, outcome.active) == (None, 1)
    assert verdicts(machine.install((sites[0], 2), force=True)) == [Verdict.SERVED]


def test_of_two_targets_one_that_cannot_be_used_is_an_error_of_its_own(
    machine: FakeMachine,
) -> None:
    one, two = (machine.add_target(name, machine.add_server(name)) for name in ("one", "two"))
    machine.install((one, 1), (two, 1))
    one.directory.joinpath("current").unlink()
    one.directory.joinpath("current").write_text("not ours")
    outcomes = machine.install((one, 2), (two, 2))
    assert outcomes[0].verdict is None
    assert outcomes[0].error is not None and "no symbolic link" in outcomes[0].error.what
    assert outcomes[1].verdict is Verdict.SERVED


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Verdict | None]]:
    """Return the verdicts of each note that is written."""
    found: list[dict[str, Verdict | None]] = []
    write: Callable[[Path, notes.Note], None] = notes.write

    def written(state: Path, note: notes.Note) -> None:
        found.append({where: one.verdict for where, one in note.members.items()})
        write(state, note)

    monkeypatch.setattr(notes, "write", written)
    return found
