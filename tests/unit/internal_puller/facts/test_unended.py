"""What is said of an installation that did not end: cut off, or back and not seen as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_puller.doctor.machine import target_findings
from internal_puller.facts.attention import attention
from internal_puller.facts.status import read_status
from internal_puller.facts.unended import tell_unended
from internal_puller.install import notes
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.targets import Target
from internal_puller.state.progress import Progress
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, "was cut off; the next pull goes on with it or takes it back"),
        (Verdict.BACK_BY_DEATH, "was cut off; the next pull goes on with it or takes it back"),
        (Verdict.BACK_UNSEEN, "could not be seen as it was before: look at the server now"),
    ],
)
def test_status_and_doctor_say_which(
    agent: FakeAgent, machine: Machine, verdict: Verdict | None, said: str
) -> None:
    target = machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    state = machine.settings.state_directory
    assert tell_unended(state, target) is None
    noted = {str(target.directory): notes.Noted(NAME, "2", "1", verdict)}
    notes.write(state, notes.Note("unended", "", noted))
    told = read_status(machine.settings)
    assert any(said in one for one in attention(told, machine.settings, 0.0))
    found = [one.what for one in target_findings(target, machine.settings, Progress())]
    assert sum(said in one for one in found) == 1


def test_of_another_target_nothing_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    noted = {"/srv/other": notes.Noted(NAME, "2", "1", Verdict.BACK_UNSEEN)}
    notes.write(tmp_path, notes.Note("unended", "", noted))
    assert tell_unended(tmp_path, Target(NAME, (NAME,), tmp_path / "live")) is None
