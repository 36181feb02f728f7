"""What is wrong on this machine is told: by receipt to the agent, here by status and alarm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from internal_puller.doctor.machine import state_findings
from internal_puller.facts.status import read_status
from internal_puller.state import files, pending, state
from shared.contract.diagnosis import Verdict
from shared.contract.errors import ConfigurationError, RelayError, RequestRefused
from shared.contract.wire import NO_DIGEST, Problem
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

pytestmark = pytest.mark.lab

Broken = Callable[[Machine, pytest.MonkeyPatch], None]


@pytest.fixture
def installed(agent: FakeAgent, machine: Machine) -> Machine:
    """One generation in place, and the next one offered."""
    machine.target(agent)
    agent.issue(NAME)
    assert machine.pull().exit_code == 0
    agent.issue(NAME)
    return machine


def pulled(machine: Machine) -> list[RelayError]:
    try:
        return machine.pull().errors
    except ConfigurationError as error:
        return [error]


def cannot_write(*names: str) -> Broken:
    def broken(machine: Machine, patch: pytest.MonkeyPatch) -> None:
        def full(path: Path, content: bytes, **named: bool) -> None:
            if not names or path.name in names:
                raise ConfigurationError(f"{path} cannot be written: No space left on device.")
            files.write_private(path, content, **named)

        for module in (state, pending):
            patch.setattr(module, "write_private", full)

    return broken


def with_content(name: str, content: bytes) -> Broken:
    def broken(machine: Machine, patch: pytest.MonkeyPatch) -> None:
        path = machine.settings.state_directory / name
        path.write_bytes(content)
        path.chmod(0o600)

    return broken


def with_mode(name: str) -> Broken:
    def broken(machine: Machine, patch: pytest.MonkeyPatch) -> None:
        (machine.settings.state_directory / name).chmod(0o644)

    return broken


def with_targets(text: str, mode: int = 0o600) -> Broken:
    def broken(machine: Machine, patch: pytest.MonkeyPatch) -> None:
        path = machine.settings.targets_file
        path.write_text(text or path.read_text())
        path.chmod(mode)

    return broken


def with_direct(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    machine.settings.direct_file.write_text("directory = 1\n")
    machine.settings.direct_file.chmod(0o600)


def without_lock(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    lock = machine.settings.lock
    lock.unlink()
    lock.mkdir()


def without_roots(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    (machine.base / "root.pem").unlink()


FAULTS: dict[str, tuple[Broken, str]] = {
    "nothing can be written": (cannot_write(), "configuration"),
    "the floors cannot be written": (cannot_write("floors.json"), "configuration"),
    "progress cannot be written": (cannot_write("progress.json"), "configuration"),
    "the floors are damaged": (with_content("floors.json", b"{}"), "configuration"),
    "the rule is damaged": (with_content("own-keys.json", b"{}"), "configuration"),
    "the floors are loose": (with_mode("floors.json"), "configuration/loose-file-mode"),
    "the sealing key is loose": (with_mode("sealing.key"), "configuration/loose-file-mode"),
    "targets.toml is no TOML": (with_targets("[[target"), "configuration"),
    "targets.toml is loose": (with_targets("", 0o666), "configuration/loose-file-mode"),
    "direct.toml is wrong": (with_direct, "configuration"),
    "the lock cannot be opened": (without_lock, "configuration"),
    "the roots are gone": (without_roots, "configuration"),
}
NOT_NOTED = {"nothing can be written", "progress cannot be written"}
"""That it was told is forgotten from pull to pull; the agent notes it once all the same."""
IN_PLACE = {"progress cannot be written"}
"""Only that it was installed cannot be noted."""


@pytest.mark.parametrize("fault", FAULTS)
def test_the_agent_hears_of_it_once_and_of_its_end(
    agent: FakeAgent, installed: Machine, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    broken, kind = FAULTS[fault]
    old, newest = installed.active(), agent.issued[NAME][-1].generation
    kept = {
        path: (path.read_bytes(), path.stat().st_mode)
        for path in (
            *installed.base.glob("*.toml"),
            *installed.base.glob("*.pem"),
            *(path for path in installed.state.path.glob("*.*") if path.name != "progress.json"),
        )
    }
    targets = installed.targets()
    with monkeypatch.context() as patch:
        broken(installed, patch)
        for _ in range(2):
            (error,) = pulled(installed)
            assert error.type == kind
            assert error.exit_code == 3
            assert "network" not in error.explain()
        assert installed.active(targets[0]) == (newest if fault in IN_PLACE else old)
    told = [(one.outcome, one.error, one.generation, one.digest) for one in agent.receipts[1:]]
    failed = [one for one in told if one == ("failed", kind, newest, NO_DIGEST)]
    assert len(failed) == (2 if fault in NOT_NOTED else 1)
    assert failed == told or fault in IN_PLACE
    for path, (content, mode) in kept.items():
        path.write_bytes(content)
        path.chmod(mode)
    for path in (installed.settings.direct_file, installed.state.path / "own-keys.json"):
        path.unlink(missing_ok=True)
    if installed.settings.lock.is_dir():
        installed.settings.lock.rmdir()
    assert installed.pull().exit_code == 0
    assert installed.active() == newest
    assert (agent.receipts[-1].outcome, agent.receipts[-1].generation) == ("installed", newest)
    assert installed.progress.of(NAME).error is None


def test_progress_that_others_could_have_written_is_written_anew(
    agent: FakeAgent, installed: Machine
) -> None:
    path = installed.state.path / "progress.json"
    path.chmod(0o666)
    assert installed.pull().exit_code == 0
    assert installed.active() == agent.issued[NAME][-1].generation
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_target_that_cannot_be_looked_at(agent: FakeAgent, installed: Machine) -> None:
    """The other is served; the agent hears of the fault, and of its end."""
    bad = installed.target(agent, directory=installed.base / "second")
    installed.pull()
    newest = agent.issued[NAME][-1].generation
    (bad.directory / "set-aside.json").write_text("{")
    del agent.receipts[:]
    for _ in range(3):
        assert installed.pull().exit_code == 3
    assert [(one.outcome, one.error) for one in agent.receipts] == [("failed", "configuration")]
    assert installed.active() == newest
    (bad.directory / "set-aside.json").unlink()
    assert installed.pull().exit_code == 0
    assert agent.receipts[-1].outcome == "installed"
    assert read_status(installed.settings).attention == ()


def test_a_csr_that_cannot_be_made(agent: FakeAgent, installed: Machine) -> None:
    """What is in place is none the worse; the agent learns why it waits for a CSR."""
    installed.pull()
    agent.own_keys.add(NAME)
    (installed.state.path / "pending").write_text("in the way")
    del agent.receipts[:]
    for _ in range(3):
        assert installed.pull().exit_code == 3
    assert [(one.outcome, one.error) for one in agent.receipts] == [("failed", "configuration")]
    (installed.state.path / "pending").unlink()
    assert installed.pull().csrs_left == [NAME]
    assert installed.pull().exit_code == 0
    assert [one.outcome for one in agent.receipts] == ["failed", "installed"]
    assert read_status(installed.settings).attention == ()


def test_what_the_agent_refuses_is_no_fault_of_this_machine(
    agent: FakeAgent, installed: Machine
) -> None:
    agent.refuse = Problem("puller-suspended", "Suspended", 403, "You are suspended.")
    (error,) = installed.pull().errors
    assert isinstance(error, RequestRefused)
    assert "network" not in error.explain()
    assert len(agent.receipts) == 1


def test_the_alarm_is_given_once_and_what_was_not_looked_at_is_not_over(
    agent: FakeAgent, installed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = installed.base / "said"
    tell = ("/bin/sh", "-c", f'echo "$RELAY_ALARM $RELAY_ALARM_TEXT" >> {said}')
    installed.change(alarm_command=tell, warn_below=0.999999)
    installed.pull()
    installed.pull()
    before = said.read_text()
    assert before.startswith("begun www") and "over" not in before
    with monkeypatch.context() as patch:
        cannot_write()(installed, patch)
        patch.setattr("internal_puller.facts.alarm.write_private", state.write_private)
        for _ in range(3):
            pulled(installed)
    during = said.read_text().removeprefix(before)
    assert during.count("begun nothing can be installed: ") == 1
    assert "No space left" in during and "over" not in during
    installed.pull()
    assert "over nothing can be installed" in said.read_text().removeprefix(before + during)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"f_flag": os.ST_RDONLY}, "read-only"),
        ({"f_bavail": 0}, "no space left"),
        ({"f_favail": 0, "f_files": 10}, "no space left"),
    ],
)
def test_status_and_doctor_see_that_nothing_can_be_written(
    installed: Machine, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], says: str
) -> None:
    installed.pull()
    assert read_status(installed.settings).attention == ()
    real = os.statvfs(installed.state.path)
    names = [one for one in dir(real) if one.startswith("f_")]
    told = {name: getattr(real, name) for name in names} | changes
    monkeypatch.setattr(os, "statvfs", lambda path: type("Room", (), told))
    (what,) = read_status(installed.settings).attention
    assert what.startswith("nothing can be installed: ") and says in what
    problems = [one for one in state_findings(installed.settings) if one.verdict is Verdict.PROBLEM]
    assert [says in one.what for one in problems] == [True]


def test_doctor_names_what_was_learned_and_what_is_damaged(
    agent: FakeAgent, installed: Machine
) -> None:
    installed.state.learn_own_keys(NAME)
    (note,) = [one for one in state_findings(installed.settings) if one.check == "own-keys"]
    assert note.subject == NAME and "--key-origin any" in note.do
    (installed.state.path / "own-keys.json").write_bytes(b"{}")
    (problem,) = state_findings(installed.settings)
    assert "own-keys.json" in problem.what and "backup" in problem.do
    with pytest.raises(ConfigurationError, match=r"own-keys\.json"):
        read_status(installed.settings)
