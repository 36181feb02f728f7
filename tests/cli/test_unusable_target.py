"""One target that cannot be used hides none of the others; a failed start is in nobody's way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internal_puller.state.files import write_private
from shared.contract.errors import ConfigurationError
from tests.cli.conftest import Run
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

OTHER = "app.example.org"


@pytest.fixture
def spoilt(agent: FakeAgent, machine: Machine) -> Path:
    """Two targets with a generation each; ``current`` of the second one is none of ours."""
    machine.enrol(agent, NAME, OTHER)
    machine.target(agent)
    bad = machine.target(agent, OTHER)
    agent.issue(NAME)
    agent.issue(OTHER)
    assert machine.pull().exit_code == 0
    current = bad.directory / "current"
    current.unlink()
    current.mkdir()
    return bad.directory


def test_status_shows_the_good_ones(run: Run, machine: Machine, spoilt: Path) -> None:
    code, out, _ = run("status")
    assert code == ConfigurationError.exit_code
    assert str(machine.active()) in out
    assert "UNUSABLE" in out
    assert f"{OTHER} in {spoilt}: " in out


def test_status_as_json_has_the_error_where_it_belongs(
    run: Run, machine: Machine, spoilt: Path
) -> None:
    code, out, _ = run("status", "--json")
    assert code == ConfigurationError.exit_code
    targets = {one["certificate"]: one["targets"][0] for one in json.loads(out)["certificates"]}
    assert (targets[NAME]["installed"], targets[NAME]["error"]) == (machine.active(), None)
    assert (targets[OTHER]["installed"], targets[OTHER]["directory"]) == (None, str(spoilt))
    assert "current" in targets[OTHER]["error"]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_target_list_shows_the_good_ones(
    run: Run, machine: Machine, spoilt: Path, more: tuple[str, ...]
) -> None:
    code, out, error = run("target", "list", *more)
    assert code == ConfigurationError.exit_code
    assert str(machine.active()) in out
    assert "UNUSABLE" in out
    assert str(spoilt) in error


@pytest.mark.parametrize("file", ["signing.key", "sealing.key", "enrolment.json", "progress.json"])
def test_an_enrolment_that_failed_half_way_is_no_obstacle(
    agent: FakeAgent, machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def full_disk(path: Path, content: bytes, **named: bool) -> None:
        if path.name == file:
            raise ConfigurationError(f"{path} cannot be written: No space left on device.")
        write_private(path, content, **named)

    token = agent.token(NAME) + "\n"
    with monkeypatch.context() as patch:
        patch.setattr("internal_puller.state.state.write_private", full_disk)
        code, _, error = run("enroll", stdin=token)
        assert (code, "No space left" in error) == (3, True)
    assert run("enroll", stdin=token)[0] == 0
    machine.target(agent)
    agent.issue(NAME)
    assert run("pull")[0] == 0
