"""One pull after another, against an honest relay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from internal_puller.install.lock import installation_lock
from internal_puller.outbox.report import EXIT_EXPIRING
from internal_puller.state.floor import Floor
from shared.contract.errors import (
    AnotherServer,
    BadSignature,
    ClockWrong,
    ConfigurationError,
    ConflictingGeneration,
    FutureGeneration,
    InstallBusy,
    InstallError,
    KeyMismatch,
    NameMismatch,
    PolicyError,
    PullerRevoked,
    RefusedForNow,
    RequestRefused,
    ServedMismatch,
    StaleGeneration,
    UntrustedChain,
)
from shared.contract.signing import SigningKey
from shared.contract.wire import Problem
from tests.authority import Authority
from tests.fake_agent import FakeAgent, edited
from tests.machine import NAME, Machine

OTHER = "app.intra.example.com"


def test_nothing_issued_yet_is_quiet(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    report = machine.pull()
    assert (report.exit_code, report.outcomes, report.warnings) == (0, [], [])


def test_new_generation_is_installed_and_reported(agent: FakeAgent, machine: Machine) -> None:
    target = machine.target(agent)
    issued = agent.issue(NAME)
    report = machine.pull()
    assert [one.outcome for one in report.outcomes] == ["installed"]
    assert machine.active() == issued.generation
    assert (target.directory / "current" / "privkey.pem").is_file()
    [receipt] = agent.receipts
    assert (receipt.outcome, receipt.error, receipt.generation) == (
        "installed",
        "none",
        issued.generation,
    )
    assert machine.state.floors()[NAME] == Floor(issued.generation, receipt.digest)


def test_second_pull_fetches_nothing(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    before = len(agent.requests)
    assert machine.pull().exit_code == 0
    assert agent.requests[before:] == ["GET /v1/certificates"]


def test_renewal_replaces(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    newer = agent.issue(NAME)
    assert machine.pull().exit_code == 0
    assert machine.active() == newer.generation
    assert len(agent.receipts) == 2


def test_two_targets_of_one_certificate(agent: FakeAgent, machine: Machine, tmp_path: Path) -> None:
    one = machine.target(agent)
    two = machine.target(agent, directory=machine.base / "second")
    issued = agent.issue(NAME)
    [outcome] = machine.pull().outcomes
    assert len(outcome.directories) == 2
    assert machine.active(one) == machine.active(two) == issued.generation
    assert len(agent.receipts) == 1


def test_target_added_later_gets_the_present_generation(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    issued = agent.issue(NAME)
    machine.pull()
    second = machine.target(agent, directory=machine.base / "second")
    assert machine.pull().exit_code == 0
    assert machine.active(second) == issued.generation


def test_one_failing_certificate_does_not_stop_the_others(
    agent: FakeAgent, machine: Machine
) -> None:
    other = "app.example.org"
    machine.enrol(agent, other)
    machine.target(agent)
    good = machine.target(agent, other)
    agent.issue(NAME, signing_key=SigningKey.generate())
    issued = agent.issue(other)
    report = machine.pull()
    assert report.exit_code == BadSignature.exit_code
    assert machine.active(good) == issued.generation
    assert sorted(one.outcome for one in agent.receipts) == ["installed", "refused"]


def refused(agent: FakeAgent, machine: Machine) -> str:
    before = machine.state.floors()
    active = machine.active()
    report = machine.pull()
    assert report.exit_code == 8
    assert machine.state.floors() == before
    assert machine.active() == active
    assert agent.receipts[-1].outcome == "refused"
    return agent.receipts[-1].error


def test_older_generation_is_refused_even_signed(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    issued = agent.issue(NAME)
    machine.pull()
    agent.issue(NAME, edit=edited(generation=issued.generation - 1))
    assert refused(agent, machine) == StaleGeneration.type


def test_far_future_generation_is_refused(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME, generation=int(time.time()) + 7200)
    assert refused(agent, machine) == FutureGeneration.type


def test_same_generation_with_other_content_is_refused(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    issued = agent.issue(NAME)
    machine.pull()
    machine.target(agent, directory=machine.base / "second")
    agent.issue(NAME, generation=issued.generation)
    assert refused(agent, machine) == ConflictingGeneration.type


def test_what_was_accepted_is_on_the_disk_before_it_is_active(
    agent: FakeAgent, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves a new generation and an old floor: the older one comes again."""
    happened: list[str] = []
    watched: dict[str, Callable[..., Any]] = {
        "fsync": os.fsync,
        "rename": os.rename,
        "replace": os.replace,
    }

    def fsync(descriptor: int) -> None:
        happened.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        watched["fsync"](descriptor)

    def moving(how: str) -> Callable[..., None]:
        def move(old: str, new: str, **named: Any) -> None:
            happened.append(f"name {Path(new).name}")
            watched[how](old, new, **named)

        return move

    machine.target(agent)
    agent.issue(NAME)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", moving("rename"))
    monkeypatch.setattr(os, "replace", moving("replace"))
    assert machine.pull().exit_code == 0
    active, floor = happened.index("name current"), happened.index("name floors.json")
    assert happened[floor - 1].startswith("sync .floors.json.")  # its content
    assert f"sync {machine.state.path.name}" in happened[floor:active]  # its name


def test_certificate_for_another_name_is_refused(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME, names=("app.example.org",))
    assert refused(agent, machine) == NameMismatch.type


def test_key_of_another_certificate_is_refused(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME, edit=edited(spki_sha256="0" * 64))
    assert refused(agent, machine) == KeyMismatch.type


def test_chain_of_an_unknown_ca_is_refused(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.ca = Authority.make()
    agent.issue(NAME)
    assert refused(agent, machine) == UntrustedChain.type


def test_floor_survives_another_agent(agent: FakeAgent, machine: Machine, tmp_path: Path) -> None:
    machine.target(agent)
    issued = agent.issue(NAME)
    machine.pull()
    with FakeAgent(tmp_path) as other:
        with pytest.raises(ConfigurationError, match="another agent"):
            machine.enrol(other)
        machine.enrol(other, change_agent=True)
        other.issue(NAME, generation=issued.generation - 5)
        report = machine.pull()
        assert report.outcomes == []
        assert f"GET /v1/certificates/{NAME}/bundle?after={issued.generation}" in other.requests
        newer = other.issue(NAME, generation=issued.generation + 5)
        assert machine.pull().exit_code == 0
        assert machine.active() == newer.generation


def test_agent_away_is_exit_7_and_the_receipt_is_kept(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME)
    agent.fault, agent.faulty = "cut", lambda path: path == "/v1/receipts"
    report = machine.pull()
    assert report.exit_code == 7
    assert machine.progress.of(NAME).receipt is not None
    before = len(agent.receipts)
    agent.fault = None
    assert machine.pull().exit_code == 0
    assert machine.progress.of(NAME).receipt is None
    assert len(agent.receipts) == before + 1


def test_receipt_refused_for_good_is_dropped_and_harms_no_other(
    agent: FakeAgent, machine: Machine
) -> None:
    machine.enrol(agent, NAME, OTHER)
    for name in (NAME, OTHER):
        machine.target(agent, name)
        agent.issue(name)
    agent.unwelcome = {OTHER}
    report = machine.pull()
    assert report.exit_code == 0
    assert report.warnings == [f"{OTHER}: the receipt was not taken: It is not granted."]
    assert [one.certificate for one in agent.receipts] == [NAME]
    assert machine.progress.reports_waiting == 0
    assert agent.requests.count("POST /v1/receipts") == 1


@pytest.mark.parametrize(
    ("slug", "status"), [("quota", 429), ("internal", 500), ("store-unavailable", 503)]
)
def test_refused_receipts_delay_receipts_and_nothing_else(
    agent: FakeAgent, machine: Machine, slug: str, status: int
) -> None:
    machine.target(agent)
    agent.issue(NAME)
    agent.refuse = Problem(slug, "Too many", status, "More than 64 receipts in 600 s.")
    agent.refusing = lambda path: path == "/v1/receipts"
    agent.retry_after = "600"
    now = time.time()
    agent.clock = machine.clock = lambda: now
    report = machine.pull()
    assert (report.exit_code, report.contact) == (0, None)
    [warning] = report.warnings
    assert "the agent takes no more receipts now; again in 600 s" in warning
    newer = agent.issue(NAME)
    assert machine.pull().exit_code == 0  # another process, minutes before the pause is over
    assert machine.active() == newer.generation
    assert agent.requests.count("POST /v1/receipts") == 1
    agent.refuse = None
    now += 599
    assert machine.pull().exit_code == 0
    assert agent.receipts == []
    now += 1
    assert machine.pull().exit_code == 0
    assert [one.generation for one in agent.receipts] == [newer.generation]
    assert machine.progress.reports_paused_until == 0


def test_the_agent_holds_no_question_beyond_the_pause_of_receipts(
    agent: FakeAgent, machine: Machine
) -> None:
    machine.target(agent)
    agent.issue(NAME)
    agent.refuse = Problem("quota", "Too many", 429, "Too many.")
    agent.refusing = lambda path: path == "/v1/receipts"
    now = time.time()
    agent.clock = machine.clock = lambda: now
    machine.pull()
    now = float(machine.progress.reports_paused_until - 1)
    assert machine.pull(wait=50).exit_code == 0
    assert agent.requests[-1].endswith("&wait=1")


def test_floors_are_read_once_and_a_change_by_another_process_is_seen(
    agent: FakeAgent, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    mine, other = machine.state, machine.state
    read: list[Path] = []

    def noted(path: Path) -> bytes | None:
        read.append(path)
        return path.read_bytes()

    monkeypatch.setattr("internal_puller.state.state.read_private", noted)
    before = mine.floors()
    assert mine.floors() == before
    mine.raise_floor(OTHER, Floor(5, "1" * 64))
    assert mine.floors()[OTHER].generation == 5
    assert len(read) == 1
    other.raise_floor(OTHER, Floor(6, "2" * 64))
    assert mine.floors()[OTHER].generation == 6
    mine.floors().clear()
    assert mine.floors()[OTHER].generation == 6


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_list_refused_for_now_says_who_and_when(
    agent: FakeAgent, machine: Machine, status: int
) -> None:
    agent.refuse = Problem("store-unavailable", "No", status, "The database is not available.")
    agent.retry_after = "30"
    contact = machine.pull().contact
    assert isinstance(contact, RefusedForNow)
    assert contact.retry_after == 30
    assert "network" not in contact.do


def test_a_refusal_that_is_not_for_now_is_another(agent: FakeAgent, machine: Machine) -> None:
    agent.refuse = Problem("puller-revoked", "No", 403, "Revoked.")
    assert isinstance(machine.pull().contact, PullerRevoked)
    agent.refuse = Problem("malformed-request", "No", 400, "No.")
    contact = machine.pull().contact
    assert isinstance(contact, RequestRefused)
    assert not isinstance(contact, RefusedForNow)


def test_killed_before_its_receipt_was_written(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    issued = agent.issue(NAME)
    machine.pull()
    (machine.settings.state_directory / "progress.json").unlink()
    agent.receipts.clear()
    assert machine.pull().exit_code == 0
    assert [one.generation for one in agent.receipts] == [issued.generation]
    machine.pull()
    assert len(agent.receipts) == 1


def test_broken_progress_file_is_no_obstacle(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    (machine.settings.state_directory / "progress.json").write_text('{"version": 1}')
    assert machine.pull().exit_code == 0


def test_broken_floors_are_not_ignored(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    (machine.settings.state_directory / "floors.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"floors\.json"):
        machine.pull()


def test_failing_reload_is_rolled_back_and_not_repeated(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    first = agent.issue(NAME)
    machine.pull()
    machine.settings.targets_file.unlink()
    only_the_first = f'test "$RELAY_GENERATION" = {first.generation}'
    machine.target(agent, test_command=("/bin/sh", "-c", only_the_first))
    agent.issue(NAME)
    report = machine.pull()
    assert report.exit_code == 9
    assert machine.active() == first.generation
    assert agent.receipts[-1].outcome == "rolled_back"
    before = len(agent.requests)
    again = machine.pull()
    assert again.exit_code == InstallError.exit_code
    assert "--retry" in str(again.outcomes[0].error and again.outcomes[0].error.do)
    assert agent.requests[before:] == ["GET /v1/certificates"]


def test_retry_installs_what_was_set_aside(agent: FakeAgent, machine: Machine) -> None:
    refuses = ("/bin/sh", "-c", "! test -e $RELAY_DIRECTORY/privkey.pem")
    machine.target(agent, test_command=refuses)
    issued = agent.issue(NAME)
    assert machine.pull().exit_code != 0
    machine.settings.targets_file.unlink()
    machine.target(agent)
    assert machine.pull().exit_code == InstallError.exit_code
    assert machine.pull(retry=True).exit_code == 0
    assert machine.active() == issued.generation


def test_not_served_says_so(agent: FakeAgent, machine: Machine) -> None:
    from internal_puller.settings.targets import ProbePoint

    machine.target(agent, probe=(ProbePoint("127.0.0.1", agent.port, NAME),), probe_timeout=0.2)
    agent.issue(NAME)
    report = machine.pull()
    assert report.exit_code in (9, 12)
    error = report.outcomes[0].error
    assert error is not None
    assert isinstance(error, AnotherServer)
    [receipt] = agent.receipts
    assert receipt.served[0].address is None


def test_addresses_are_reported_only_when_allowed(agent: FakeAgent, machine: Machine) -> None:
    from internal_puller.settings.targets import ProbePoint

    machine.change(report_addresses=True)
    machine.target(agent, probe=(ProbePoint("127.0.0.1", agent.port, NAME),), probe_timeout=0.2)
    agent.issue(NAME)
    machine.pull()
    assert agent.receipts[0].served[0].address == f"127.0.0.1:{agent.port}"


def test_target_that_is_no_directory_stops_no_other(agent: FakeAgent, machine: Machine) -> None:
    (machine.base / "file").write_text("")
    machine.target(agent, directory=machine.base / "file")
    other = machine.target(agent)
    issued = agent.issue(NAME)
    report = machine.pull()
    assert report.exit_code == ConfigurationError.exit_code
    assert machine.active(other) == issued.generation
    assert agent.receipts[0].outcome == "installed"


def test_reload_command_that_is_missing(agent: FakeAgent, machine: Machine) -> None:
    target = machine.target(agent, reload_command=("/nonexistent/reload",))
    agent.issue(NAME)
    report = machine.pull()
    assert report.exit_code == ConfigurationError.exit_code
    assert not target.directory.exists()
    assert (agent.receipts[0].outcome, agent.receipts[0].error) == ("failed", "configuration")


def test_target_that_is_not_granted(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent, "app.example.org")
    report = machine.pull()
    assert report.exit_code == PolicyError.exit_code


def test_revoked(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.revoke(next(iter(agent.pullers)))
    report = machine.pull()
    assert isinstance(report.contact, PullerRevoked)
    assert report.exit_code == 7


def test_wrong_clock_is_named(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    ahead = Machine(machine.base, clock=lambda: time.time() + 1000)
    report = ahead.pull()
    assert isinstance(report.contact, ClockWrong)
    assert report.exit_code == 7
    assert "-1000 s" in report.contact.what or "-999 s" in report.contact.what


@pytest.mark.parametrize("off", [-31_536_000, 31_536_000])
def test_own_clock_a_year_away(agent: FakeAgent, machine: Machine, off: int) -> None:
    machine.target(agent)
    first = agent.issue(NAME)
    assert machine.pull().exit_code == 0
    floors = machine.state.floors()
    second = agent.issue(NAME)
    wrong = Machine(machine.base, clock=lambda: time.time() + off)
    report = wrong.pull()
    assert isinstance(report.contact, ClockWrong)
    assert (report.outcomes, machine.active()) == ([], first.generation)
    assert machine.state.floors() == floors
    assert machine.pull().exit_code == 0
    assert machine.active() == second.generation


@pytest.mark.parametrize("away", [True, False])
def test_little_life_left_warns(agent: FakeAgent, machine: Machine, away: bool) -> None:
    machine.target(agent)
    agent.issue(NAME, lifetime=86400)
    assert machine.pull().exit_code == 0
    later = Machine(machine.base, clock=lambda: time.time() + 80000)
    agent.clock = later.clock
    if away:
        agent.stop()
    report = later.pull()
    assert report.exit_code == EXIT_EXPIRING
    assert report.expiring == [NAME]
    assert ("cannot be reached" in report.warnings[0]) is away


def test_a_warning_knows_of_a_newer_generation_that_was_set_aside(
    agent: FakeAgent, machine: Machine
) -> None:
    machine.target(agent)
    agent.issue(NAME, lifetime=86400)
    machine.pull()
    newer = agent.issue(NAME)
    machine.pull()
    puller = machine.puller()
    puller.roll_back(NAME, None)
    puller.close()
    later = Machine(machine.base, clock=lambda: time.time() + 80000)
    agent.clock = later.clock
    report = later.pull()
    assert report.exit_code == EXIT_EXPIRING
    (warning,) = report.warnings
    assert f"generation {newer.generation} is here but set aside" in warning
    assert "rolled back by an operator" in warning
    assert "no newer one" not in warning
    assert warning.endswith("internal-puller pull --retry")
    assert later.pull(retry=True).warnings == []
    assert machine.active() == newer.generation


def test_second_pull_at_once_leaves_politely(
    agent: FakeAgent, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("internal_puller.pull.puller.LOCK_WAIT", 0.05)
    machine.target(agent)
    agent.issue(NAME)
    assert machine.settings.lock_file is not None
    with installation_lock(machine.settings.lock_file), pytest.raises(InstallBusy):
        machine.pull()
    assert machine.pull().exit_code == 0


def test_roll_back_stays_rolled_back(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    first = agent.issue(NAME)
    machine.pull()
    agent.issue(NAME)
    machine.pull()
    puller = machine.puller()
    report = puller.roll_back(NAME, None)
    puller.close()
    assert [one.error for one in report.outcomes] == [None]
    assert machine.active() == first.generation
    assert agent.receipts[-1].generation == first.generation
    assert machine.pull().exit_code == 0
    assert machine.active() == first.generation
    newest = agent.issue(NAME)
    assert machine.pull().exit_code == 0
    assert machine.active() == newest.generation


def test_what_is_served_is_looked_at_again(agent: FakeAgent, machine: Machine) -> None:
    from internal_puller.settings.targets import ProbePoint

    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    machine.settings.targets_file.unlink()
    machine.target(agent, probe=(ProbePoint("127.0.0.1", agent.port, NAME),))
    puller = machine.puller()
    assert puller.look_again()
    assert not puller.look_again()
    puller.close()
    assert agent.receipts[-1].error == ServedMismatch.type
    assert agent.receipts[-1].outcome == "installed"
