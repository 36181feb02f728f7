"""One target or one note that is damaged keeps neither the others nor the next generation away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from internal_puller.facts.status import read_status
from internal_puller.install import notes
from internal_puller.install.layout import CURRENT, GENERATIONS, RECORD
from internal_puller.sources.agent.source import AgentSource
from internal_puller.sources.source import Work
from shared.contract.wire import Listing, Offer
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

OTHER = "app.example.org"


@pytest.fixture
def two(agent: FakeAgent, machine: Machine) -> Machine:
    """Two certificates, both installed."""
    machine.enrol(agent, NAME, OTHER)
    machine.target(agent)
    machine.target(agent, OTHER)
    agent.issue(NAME)
    agent.issue(OTHER)
    assert machine.pull().exit_code == 0
    return machine


def test_an_unfinished_installation_whose_files_are_gone(agent: FakeAgent, two: Machine) -> None:
    damaged, other = two.targets()
    member = notes.Noted(NAME, "12345", None)
    state = two.settings.state_directory
    notes.write(state, notes.Note("some", "", {str(damaged.directory): member}))
    newest = agent.issue(OTHER).generation
    report = two.pull()
    assert [one.certificate for one in report.outcomes if one.error] == [NAME]
    assert report.exit_code == 9
    assert two.active(other) == newest
    repaired = agent.issue(NAME).generation
    two.pull()
    assert two.active(damaged) == repaired
    assert two.pull().exit_code == 0


def test_a_fault_of_ours_in_one(
    agent: FakeAgent, two: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = AgentSource.fetch

    def faulty(self: AgentSource, work: Work) -> object:
        if work.certificate == NAME:
            raise ZeroDivisionError("by zero")
        return genuine(self, work)

    monkeypatch.setattr(AgentSource, "fetch", faulty)
    agent.issue(NAME)
    newest = agent.issue(OTHER).generation
    report = two.pull()
    (failed,) = [one.error for one in report.outcomes if one.error]
    assert "unexpected ZeroDivisionError" in failed.what and "report it" in failed.do
    assert report.exit_code == 1
    assert two.active(two.targets()[1]) == newest


def test_a_record_that_is_no_json(agent: FakeAgent, two: Machine) -> None:
    damaged, other = two.targets()
    (damaged.directory / CURRENT / RECORD).write_bytes(b"\0" * 20)
    two.state.path.joinpath("progress.json").unlink()  # so that a receipt is wanted
    newest = agent.issue(OTHER).generation
    two.pull()
    assert two.active(other) == newest
    assert [one.certificate for one in read_status(two.settings).certificates] == [OTHER, NAME]
    puller = two.puller()
    puller.look_again()
    puller.close()


def test_a_generation_directory_that_is_gone(agent: FakeAgent, two: Machine) -> None:
    damaged, other = two.targets()
    shutil.rmtree(damaged.directory / GENERATIONS)
    newest = agent.issue(OTHER).generation
    repaired = agent.issue(NAME).generation
    two.pull()
    assert (two.active(damaged), two.active(other)) == (repaired, newest)


def test_a_target_that_cannot_even_be_a_path(agent: FakeAgent, two: Machine) -> None:
    two.target(agent, directory=Path("/" + "a" * 300))
    newest = agent.issue(OTHER).generation
    report = two.pull()
    assert report.exit_code == 3
    assert two.active(two.targets()[1]) == newest


def test_an_agent_that_thinks_of_new_names_without_end(
    agent: FakeAgent, two: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered has to stay readable, however long that goes on."""
    honest = agent.listing

    def listing(puller: object) -> Listing:
        found = honest(puller)  # type: ignore[arg-type]
        turn = len(agent.requests)
        more = (Offer(f"n{turn}-{n}", ("x.example.com",), 9, 9, "agent", False) for n in range(900))
        return Listing.of((*found.offers, *more), found.come_back)

    puller = two.puller()
    for _ in range(3):
        monkeypatch.setattr(agent, "listing", listing)
        assert puller.pull().exit_code == 0
        assert len(two.progress.certificates) == 902
    monkeypatch.setattr(agent, "listing", honest)
    assert puller.pull().exit_code == 0
    assert sorted(two.progress.certificates) == [OTHER, NAME]
    puller.close()
