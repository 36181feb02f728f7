"""What a puller learns stays in its state directory: settings neither hold it nor drop it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from internal_puller.install.engine import Engine
from internal_puller.settings.targets import KEY_ORIGINS, save_targets
from internal_puller.state.state import StateDirectory
from internal_puller.trust import takes_only_own_keys
from shared.contract.errors import ConfigurationError, KeyOriginRefused
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine
from tests.unit.internal_puller.pull.test_own_keys import killed_pull

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def agent(agent: FakeAgent) -> FakeAgent:
    agent.own_keys.add(NAME)
    return agent


@pytest.fixture
def taught(agent: FakeAgent, machine: Machine) -> Machine:
    """A machine that has accepted a key of its own."""
    machine.target(agent)
    machine.pull()
    agent.issue(NAME)
    assert machine.pull().exit_code == 0
    return machine


def refuses_the_agents_key(agent: FakeAgent, machine: Machine) -> bool:
    agent.own_keys.discard(NAME)
    before = machine.active()
    agent.issue(NAME)
    refused = [type(error) for error in machine.pull().errors] == [KeyOriginRefused]
    assert refused == (machine.active() == before)
    return refused


@pytest.mark.parametrize("origins", [(one, other) for one in KEY_ORIGINS for other in KEY_ORIGINS])
@pytest.mark.parametrize("learned", [False, True])
def test_the_stricter_of_setting_and_learned_wins(origins: tuple[str, str], learned: bool) -> None:
    strict = learned or origins != ("any", "any")
    assert takes_only_own_keys(origins, learned=learned) is strict


def test_nothing_that_pulls_can_write_a_settings_file() -> None:
    """Only commands do; so what a service learns cannot end there."""
    writers = {"save_targets", "replace_toml", "keep", "add_certificate", "remove_certificate"}
    kept = {"internal_puller/settings", "internal_puller/sources/direct/file.py"}
    for path in sorted((ROOT / "internal_puller").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(("internal_puller/commands/", *kept)):
            continue
        imports = [
            one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.ImportFrom)
        ]
        named = {alias.name for one in imports for alias in one.names}
        modules = {one.module for one in imports}
        assert not named & writers, place
        assert "tomlkit" not in modules | named, place
        assert "internal_puller.sources.direct.file" not in modules, place


def test_the_settings_stay_as_they_were_written(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    before = machine.settings.targets_file.stat()
    machine.pull()
    agent.issue(NAME)
    machine.pull()
    after = machine.settings.targets_file.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert machine.state.own_keys() == {NAME}


def test_a_target_that_is_removed_and_added_again(agent: FakeAgent, taught: Machine) -> None:
    save_targets(taught.settings.targets_file, [])
    taught.pull()
    taught.target(agent, key_origin="any")
    assert refuses_the_agents_key(agent, taught)


def test_another_target_of_the_same_certificate(agent: FakeAgent, taught: Machine) -> None:
    second = taught.target(agent, directory=taught.base / "second")
    save_targets(taught.settings.targets_file, [second])
    taught.pull()
    assert refuses_the_agents_key(agent, taught)


def test_enrolled_again(agent: FakeAgent, taught: Machine) -> None:
    taught.enrol(agent)
    assert refuses_the_agents_key(agent, taught)


def test_without_the_rest_of_what_is_known(agent: FakeAgent, taught: Machine) -> None:
    (taught.state.path / "progress.json").unlink()
    assert refuses_the_agents_key(agent, taught)


def test_another_certificate_is_free(agent: FakeAgent, taught: Machine) -> None:
    taught.enrol(agent, "app.example.org")
    other = taught.target(agent, "app.example.org")
    issued = agent.issue("app.example.org")
    assert taught.pull().exit_code == 0
    assert taught.active(other) == issued.generation


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"certificates":"www"}', b'{"certificates":[],"more":1}']
)
def test_a_damaged_rule_is_not_ignored(agent: FakeAgent, taught: Machine, content: bytes) -> None:
    (taught.state.path / "own-keys.json").write_bytes(content)
    before = taught.active()
    agent.issue(NAME)
    report = taught.pull()
    (error,) = report.errors
    assert isinstance(error, ConfigurationError)
    assert "own-keys.json" in error.what and "--key-origin puller" in error.do
    assert taught.active() == before


_STEPS = {
    "before it is learned": (StateDirectory, "learn_own_keys", "before"),
    "right after": (StateDirectory, "learn_own_keys", "after"),
    "before the floor": (StateDirectory, "raise_floor", "before"),
    "after the floor": (StateDirectory, "raise_floor", "after"),
    "before it is installed": (Engine, "install", "before"),
    "after it was installed": (Engine, "install", "after"),
}


@pytest.mark.parametrize("step", _STEPS)
def test_killed_while_it_learns(agent: FakeAgent, machine: Machine, step: str) -> None:
    """The key made here is in place only where the rule is."""
    agent.own_keys.clear()
    machine.target(agent)
    first = agent.issue(NAME).generation
    machine.pull()
    agent.own_keys.add(NAME)
    machine.pull()
    agent.issue(NAME)
    assert killed_pull(machine, *_STEPS[step])
    learned = NAME in machine.state.own_keys()
    assert learned or machine.active() == first
    if learned:
        assert refuses_the_agents_key(agent, machine)
    else:
        assert machine.pull().exit_code == 0
        assert machine.state.own_keys() == {NAME}


def test_the_rule_is_read_once_and_a_change_by_another_process_is_seen(
    taught: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a thousand certificates it is asked for a thousand times in a pull."""
    mine, other = taught.state, taught.state
    read: list[Path] = []

    def noted(path: Path) -> bytes | None:
        read.append(path)
        return path.read_bytes()

    monkeypatch.setattr("internal_puller.state.state.read_private", noted)
    assert mine.own_keys() == mine.own_keys() == {NAME}
    mine.learn_own_keys("other")
    assert mine.own_keys() == {NAME, "other"}
    assert len(read) == 1
    other.forget_own_keys(NAME)
    assert mine.own_keys() == {"other"}
