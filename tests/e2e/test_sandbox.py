"""A pull in its unit's sandbox still tests, reloads and probes the real servers."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from internal_puller.targets import ProbePoint, save_targets
from tests import sandbox
from tests.fake_agent import FakeAgent
from tests.lab.peers import clean_environment, require
from tests.machine import NAME, Machine
from tests.servers import SERVERS

pytestmark = pytest.mark.servers
ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "systemd" / "internal-puller.service"
PROGRAMS = {"nginx": "nginx", "apache": "apache2", "haproxy": "haproxy"}


def pull(machine: Machine) -> subprocess.CompletedProcess[str]:
    command = sandbox.argv(UNIT, sys.executable, "-m", "internal_puller", "pull")
    return subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(**machine.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_a_pull_in_its_sandbox(kind: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in (PROGRAMS[kind], "setpriv", "systemd-analyze"):
        require(program)
    machine = Machine(tmp_path / "machine")
    machine.base.mkdir()
    with FakeAgent(tmp_path) as agent:
        machine.enrol(agent)
        target = machine.target(agent, preset=kind, test_command=(), reload_command=(), probe=())
        agent.issue(NAME)
        done = pull(machine)
        assert done.returncode == 0, done.stderr
        (tmp_path / kind).mkdir()
        with SERVERS[kind](target.directory / "current", tmp_path / kind) as server:
            whole = dataclasses.replace(
                target,
                owner="nobody",
                test_command=server.test_command,
                reload_command=server.reload_command,
                probe=(ProbePoint(server.address, server.port, NAME),),
                probe_timeout=20,
            )
            save_targets(machine.settings.targets_file, [whole])
            issued = agent.issue(NAME)
            done = pull(machine)
            assert done.returncode == 0, done.stderr
            assert machine.active() == issued.generation
            key = (target.directory / "current" / "privkey.pem").resolve()
            assert key.owner() == "nobody"


def test_the_sandbox_denies_what_it_should() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    require("setpriv")
    require("systemd-analyze")
    for attempt in (
        "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))",  # @resources
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import os; os.setuid(1)",
        "import os; os.chroot('/')",
    ):
        command = sandbox.argv(UNIT, sys.executable, "-c", attempt)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr, (attempt, done.stderr)
