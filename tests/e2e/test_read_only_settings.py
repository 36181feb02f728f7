"""Every way to install with settings that cannot be written, as the shipped units mount them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.direct_world import direct_world
from tests.fake_agent import FakeAgent
from tests.lab.peers import clean_environment
from tests.machine import NAME, Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
ROOT = Path(__file__).resolve().parents[2]
MOUNT = """
set -e
mount --bind "$1" "$1"
mount --bind "$1/tls" "$1/tls"
mount -o remount,bind,ro "$1"
if touch "$1/probe" 2> /dev/null; then echo "$1 can be written"; exit 99; fi
shift
exec "$@"
"""


def pulled(machine: Machine, *arguments: str) -> tuple[int, str]:
    """Run a command; below the settings' directory it can write to ``tls`` alone."""
    own = () if os.geteuid() == 0 else ("--map-root-user",)
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", *own),
            *("sh", "-c", MOUNT, "sh", str(machine.settings.targets_file.parent)),
            *(sys.executable, "-P", "-m", "internal_puller", *arguments),
        ],
        env=clean_environment(PYTHONPATH=str(ROOT), **machine.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def with_settings_apart(machine: Machine) -> Machine:
    etc = machine.base / "etc"
    (etc / "tls").mkdir(parents=True)
    machine.change(
        targets_file=etc / "targets.toml",
        direct_file=etc / "direct.toml",
        lock_file=machine.settings.state_directory / "install.lock",
    )
    return machine


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as agent:
        yield agent


@pytest.fixture
def machine(tmp_path: Path, agent: FakeAgent) -> Machine:
    machine = with_settings_apart(Machine(tmp_path / "machine"))
    machine.enrol(agent)
    machine.target(agent, directory=machine.settings.targets_file.parent / "tls" / NAME)
    return machine


def test_sealed_key(agent: FakeAgent, machine: Machine) -> None:
    first = agent.issue(NAME)
    assert pulled(machine, "pull")[0] == 0
    second = agent.issue(NAME)
    assert pulled(machine, "pull")[0] == 0
    assert machine.active() == second.generation
    assert pulled(machine, "rollback", NAME)[0] == 0
    assert machine.active() == first.generation
    assert [one.error for one in agent.receipts] == ["none"] * 3


def test_key_made_inside(agent: FakeAgent, machine: Machine) -> None:
    agent.own_keys.add(NAME)
    assert pulled(machine, "pull")[0] == 0
    own = agent.issue(NAME)
    assert pulled(machine, "pull")[0] == 0
    assert machine.active() == own.generation
    assert [one.outcome for one in agent.receipts] == ["installed"]
    agent.own_keys.clear()
    agent.issue(NAME)
    assert pulled(machine, "pull")[0] == 8, "and the agent's key is not taken any more"
    assert agent.receipts[-1].error == "bundle/key-origin-refused"


def test_direct_mode_with_its_first_order(tmp_path: Path) -> None:
    with direct_world(tmp_path) as world:
        machine = with_settings_apart(world.machine)
        world.want()
        world.target(directory=machine.settings.targets_file.parent / "tls" / NAME)
        code, text = pulled(machine, "pull")
        assert (code, machine.active() is not None) == (0, True), text
        world.change(renew="in a test")
        first = machine.active()
        code, text = pulled(machine, "pull")
        assert code == 0, text
        assert machine.active() != first
