"""Other formats, groups and modes of a target take effect with the next pull."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

from internal_puller.install.layout import active_name, set_aside
from internal_puller.settings.targets import save_targets
from shared.contract.errors import ConfigTestFailed, ConfigurationError
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine


def _change(machine: Machine, **members: Any) -> None:
    (target,) = machine.targets()
    save_targets(machine.settings.targets_file, [dataclasses.replace(target, **members)])


def _current(machine: Machine) -> Path:
    return machine.targets()[0].directory / "current"


def _installed(agent: FakeAgent, machine: Machine, **members: Any) -> str:
    machine.target(agent, **members)
    agent.issue(NAME)
    assert machine.pull().exit_code == 0
    name = active_name(machine.targets()[0])
    assert name is not None
    return name


def test_new_formats_and_modes_of_the_same_generation(agent: FakeAgent, machine: Machine) -> None:
    first = _installed(agent, machine)
    key = (_current(machine) / "privkey.pem").read_bytes()
    fetched, receipts = len(agent.requests), len(agent.receipts)
    _change(machine, formats=("combined", "privkey"), key_mode=0o640)
    report = machine.pull()
    assert [(one.outcome, one.changed) for one in report.outcomes] == [("installed", True)]
    assert active_name(machine.targets()[0]) == f"{first}.1"
    files = sorted(one.name for one in _current(machine).iterdir())
    assert files == ["combined.pem", "generation.json", "privkey.pem"]
    assert stat.S_IMODE((_current(machine) / "privkey.pem").stat().st_mode) == 0o640
    assert (_current(machine) / "privkey.pem").read_bytes() == key
    assert (len(agent.requests), len(agent.receipts)) == (fetched + 1, receipts)
    assert machine.pull().outcomes == []
    _change(machine, formats=(), key_mode=None)
    assert machine.pull().exit_code == 0
    assert active_name(machine.targets()[0]) == first


def test_without_the_agent_too(agent: FakeAgent, machine: Machine) -> None:
    first = _installed(agent, machine)
    agent.stop()
    _change(machine, mode=0o640)
    assert [one.outcome for one in machine.pull().outcomes] == ["installed"]
    assert active_name(machine.targets()[0]) == f"{first}.1"


def test_what_the_server_refuses_is_taken_back_and_said_once(
    agent: FakeAgent, machine: Machine
) -> None:
    first = _installed(agent, machine)
    refuses = ("/bin/sh", "-c", "! test -e $RELAY_DIRECTORY/combined.pem")
    _change(machine, formats=("combined",), test_command=refuses)
    report = machine.pull()
    assert [type(one.error) for one in report.outcomes] == [ConfigTestFailed]
    (target,) = machine.targets()
    assert (active_name(target), set_aside(target)) == (first, {})
    assert machine.pull().outcomes == []
    _change(machine, formats=("combined",), test_command=())
    newest = agent.issue(NAME)
    assert machine.pull().exit_code == 0
    assert machine.active() == newest.generation
    assert (_current(machine) / "combined.pem").is_file()


def test_files_without_a_key_cannot_be_written_anew(agent: FakeAgent, machine: Machine) -> None:
    _installed(agent, machine, formats=("fullchain", "privkey"))
    (machine.targets()[0].directory / "current" / "privkey.pem").unlink()
    _change(machine, formats=("combined",))
    report = machine.pull()
    assert [type(one.error) for one in report.outcomes] == [ConfigurationError]
    assert "next generation" in report.outcomes[0].error.do  # type: ignore[union-attr]
    assert machine.pull().exit_code == 0


def test_lost_notes_cost_a_look(agent: FakeAgent, machine: Machine) -> None:
    first = _installed(agent, machine)
    (machine.settings.state_directory / "progress.json").unlink()
    assert machine.pull().exit_code == 0
    assert active_name(machine.targets()[0]) == first
    assert machine.progress.shapes
