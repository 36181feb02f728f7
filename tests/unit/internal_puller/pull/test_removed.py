"""What is withdrawn or removed leaves status, alarms and receipts; what protects stays."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from internal_puller.facts.alarm import FILE
from internal_puller.facts.status import CertificateStatus, read_status
from internal_puller.pull.remembered import follow, forget, without_target
from internal_puller.settings.targets import save_targets
from internal_puller.state.pending import PendingKeys
from internal_puller.state.progress import CertificateProgress, LastError, Progress
from shared.contract.errors import KeyOriginRefused, PolicyError
from shared.contract.wire import Offer
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

OTHER = "app.example.org"
BAD = LastError("install/reload-failed", "The reload failed.", 1)
FULL = CertificateProgress(
    offered=5,
    csr_wanted=True,
    csr_error="no",
    lifetime=9,
    served={"a": "b"},
    reported=5,
    receipt="{}",
    error=BAD,
    fault="5 configuration",
    target="here",
)


def offer(generation: int = 5) -> Offer:
    return Offer(NAME, (NAME,), generation, 0, "agent", csr_wanted=False)


def of(machine: Machine, certificate: str = NAME) -> CertificateStatus | None:
    found = read_status(machine.settings).certificates
    return next((one for one in found if one.certificate == certificate), None)


def withdraw(agent: FakeAgent, certificate: str = NAME) -> None:
    for puller in agent.pullers.values():
        puller.granted.discard(certificate)


def grant(agent: FakeAgent, certificate: str = NAME) -> None:
    for puller in agent.pullers.values():
        puller.granted.add(certificate)


def without_targets(machine: Machine) -> None:
    save_targets(machine.settings.targets_file, [])


REFUSES = ("/bin/sh", "-c", "! test -e $RELAY_DIRECTORY/privkey.pem")


@pytest.fixture
def failing(agent: FakeAgent, machine: Machine) -> Machine:
    """One certificate, which the server's test refuses, and an alarm that was given."""
    machine.change(alarm_command=("/bin/true",))
    machine.target(agent, test_command=REFUSES)
    agent.issue(NAME)
    assert machine.pull().exit_code == 9
    assert agent.receipts[-1].outcome == "rolled_back"
    assert read_status(machine.settings).attention
    return machine


def alarms(machine: Machine) -> dict[str, str]:
    return dict(json.loads((machine.state.path / FILE).read_text()))


# --- a target is removed ----------------------------------------------------------------------


def test_a_target_that_failed_and_is_removed(agent: FakeAgent, failing: Machine) -> None:
    assert list(alarms(failing)) == [f"failing {NAME}"]
    without_targets(failing)
    assert read_status(failing.settings).attention == (), "at once, before any pull"
    assert failing.pull().exit_code == 0
    last = agent.receipts[-1]
    assert (last.outcome, last.error, last.generation) == (
        "removed",
        "none",
        agent.issued[NAME][-1].generation,
    )
    assert failing.progress.of(NAME) == CertificateProgress(
        offered=last.generation, target="removed"
    )
    assert read_status(failing.settings).attention == ()
    assert alarms(failing) == {}
    count = len(agent.receipts)
    assert failing.pull().exit_code == 0
    assert len(agent.receipts) == count, "it is told once"


def test_a_target_that_comes_back(agent: FakeAgent, failing: Machine) -> None:
    without_targets(failing)
    failing.pull()
    failing.target(agent)
    assert failing.pull(retry=True).exit_code == 0
    assert agent.receipts[-1].outcome == "installed"
    assert failing.progress.of(NAME).target == "here"


def test_one_of_two_targets_is_removed(agent: FakeAgent, machine: Machine) -> None:
    first = machine.target(agent)
    machine.target(agent, directory=machine.base / "second")
    agent.issue(NAME)
    machine.pull()
    save_targets(machine.settings.targets_file, [first])
    machine.pull()
    assert [one.outcome for one in agent.receipts] == ["installed"]


def test_the_agent_was_away_when_it_was_removed(agent: FakeAgent, failing: Machine) -> None:
    without_targets(failing)
    agent.fault = "busy"
    assert failing.pull().exit_code == 7
    agent.fault = None
    assert failing.pull().exit_code == 0
    assert agent.receipts[-1].outcome == "removed"


def test_without_a_target_nobody_asked_for_one_yet(agent: FakeAgent, machine: Machine) -> None:
    machine.pull()
    (what,) = read_status(machine.settings).attention
    assert "no target takes it" in what
    assert agent.receipts == []


def test_pending_keys_go_with_the_last_target(agent: FakeAgent, machine: Machine) -> None:
    """Also where the settings were edited by hand."""
    agent.own_keys.add(NAME)
    machine.target(agent)
    machine.pull()
    assert PendingKeys(machine.state.path, NAME).entries()
    without_targets(machine)
    machine.pull()
    assert not list((machine.state.path / "pending").iterdir())


# --- a grant is withdrawn ---------------------------------------------------------------------


def test_a_grant_that_was_withdrawn_and_whose_target_was_removed(
    agent: FakeAgent, failing: Machine
) -> None:
    withdraw(agent)
    assert failing.pull().exit_code == PolicyError.exit_code
    without_targets(failing)
    assert failing.pull().exit_code == 0
    status = read_status(failing.settings)
    assert (status.certificates, status.attention) == ((), ())
    assert failing.progress.certificates == {}
    assert alarms(failing) == {}
    assert failing.pull().warnings == []


def test_removed_first_and_withdrawn_then(agent: FakeAgent, failing: Machine) -> None:
    without_targets(failing)
    failing.pull()
    withdraw(agent)
    failing.pull()
    assert failing.progress.certificates == {}
    assert read_status(failing.settings).certificates == ()


def test_what_is_served_and_no_longer_granted_is_said(agent: FakeAgent, machine: Machine) -> None:
    machine.change(alarm_command=("/bin/true",))
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    withdraw(agent)
    assert machine.pull().exit_code == PolicyError.exit_code
    (what,) = read_status(machine.settings).attention
    assert "does not grant it" in what and "expires in 89 days" in what
    assert "external-agent puller grant" in what and "target remove" in what
    assert list(alarms(machine)) == [f"withdrawn {NAME}"]
    grant(agent)
    assert machine.pull().exit_code == 0
    assert read_status(machine.settings).attention == ()
    assert alarms(machine) == {}
    assert [one.outcome for one in agent.receipts] == ["installed"] * 2, "it is told anew"


def test_a_target_that_was_never_granted(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent, OTHER)
    machine.pull()
    assert any("does not grant it" in what for what in read_status(machine.settings).attention)


@pytest.mark.parametrize("removed", [False, True])
def test_an_agent_that_offers_less_takes_no_protection_along(
    agent: FakeAgent, machine: Machine, removed: bool
) -> None:
    agent.own_keys.add(NAME)
    target = machine.target(agent)
    machine.pull()
    agent.issue(NAME)
    machine.pull()
    floor, active = machine.state.floors()[NAME], machine.active(target)
    withdraw(agent)
    if removed:
        without_targets(machine)
    machine.pull()
    assert machine.state.floors()[NAME] == floor
    assert machine.state.own_keys() == {NAME}
    grant(agent)
    if removed:
        save_targets(machine.settings.targets_file, [target])
    agent.own_keys.clear()
    agent.issue(NAME)
    assert [type(one) for one in machine.pull().errors] == [KeyOriginRefused]
    older = agent.issue(NAME, generation=floor.generation - 1)
    agent.issued[NAME] = [older]
    machine.pull()
    assert machine.active(target) == active


def test_a_receipt_of_what_is_no_longer_granted_is_not_sent(
    agent: FakeAgent, failing: Machine
) -> None:
    progress = failing.progress
    progress.of(NAME).receipt = "not delivered yet"
    failing.state.save_progress(progress, durable=True)
    withdraw(agent)
    before = len(agent.receipts)
    assert failing.pull().warnings == []
    assert len(agent.receipts) == before
    assert failing.progress.of(NAME).receipt is None


# --- the rule ---------------------------------------------------------------------------------


def listed(
    one: CertificateProgress, offers: list[Offer], here: set[str], own: set[str]
) -> Progress:
    progress = Progress(certificates={NAME: replace(one)})
    follow(progress, offers, here, own, now=7)
    return progress


def test_what_is_offered_or_has_a_target_is_kept() -> None:
    for offers, here, own in (
        ([offer()], {NAME}, set()),
        ([offer()], set(), set()),
        ([], set(), {NAME}),
    ):
        assert listed(FULL, offers, here, own).of(NAME).error == BAD  # type: ignore[arg-type]
    assert listed(FULL, [], set(), set()).certificates == {}


def test_of_what_is_withdrawn_only_what_is_in_place_is_known() -> None:
    one = listed(FULL, [], {NAME}, set()).of(NAME)
    assert one == CertificateProgress(lifetime=9, served={"a": "b"}, target="here", withdrawn_at=7)
    again = Progress(certificates={NAME: one})
    follow(again, [], {NAME}, set(), now=8)
    assert again.of(NAME).withdrawn_at == 7, "since when, not how often it was seen"
    follow(again, [offer(6)], {NAME}, set(), now=9)
    assert (again.of(NAME).withdrawn_at, again.of(NAME).offered) == (0, 6)


def test_a_report_of_its_own_is_still_delivered() -> None:
    gone = CertificateProgress(receipt="{}", direct=True, target="removed")
    assert NAME in listed(gone, [], set(), set()).certificates
    assert listed(replace(gone, receipt=None), [], set(), set()).certificates == {}


def test_forgetting() -> None:
    progress = Progress(certificates={NAME: replace(FULL)})
    assert without_target(progress, {NAME}) == []
    assert without_target(progress, set()) == [NAME]
    forget(progress, NAME, "gone")
    assert progress.of(NAME) == CertificateProgress(offered=5, target="removed", receipt="gone")
    assert without_target(progress, set()) == []
