"""``internal-puller run``: woken within seconds, and alive after whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from internal_puller.outbox.report import PullReport
from internal_puller.pull.daemon import Daemon, _rest
from shared.contract.errors import PullerRevoked, TransportError
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as agent:
        yield agent


@pytest.fixture
def machine(tmp_path: Path, agent: FakeAgent) -> Machine:
    machine = Machine(tmp_path / "machine")
    machine.base.mkdir()
    machine.enrol(agent)
    return machine


class Running:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.02)

    def stop(self) -> float:
        """Ask it to end; return how long that took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log
        return time.monotonic() - begin


@contextmanager
def running(machine: Machine, **environment: str) -> Iterator[Running]:
    log = machine.base / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "internal_puller.cli", "run"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
            | machine.environment
            | environment,
            stderr=file,
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


def waits(agent: FakeAgent) -> None:
    assert agent.until(lambda: agent.waiting > 0)


def test_woken_stopped_and_read_again(agent: FakeAgent, machine: Machine) -> None:
    target = machine.target(agent)
    with running(machine) as daemon:
        waits(agent)
        begin = time.monotonic()
        issued = agent.issue(NAME)
        daemon.until(lambda: machine.active() == issued.generation)
        assert time.monotonic() - begin < 5
        waits(agent)

        second = machine.target(agent, directory=machine.base / "second")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until(lambda: machine.active(second) == issued.generation)
        waits(agent)
        assert daemon.stop() < 3
        assert "Traceback" not in daemon.log
        assert "BEGIN" not in daemon.log
    assert machine.active(target) == issued.generation


def test_agent_goes_and_comes_back(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    with running(machine) as daemon:
        waits(agent)
        agent.stop()
        daemon.until(lambda: "cannot be reached" in daemon.log)
        issued = agent.issue(NAME)
        agent.start_again()
        daemon.until(lambda: machine.active() == issued.generation, 30)
        daemon.until(lambda: "answers again" in daemon.log)
        assert daemon.stop() < 3


def test_not_enrolled_yet(tmp_path: Path, agent: FakeAgent) -> None:
    machine = Machine(tmp_path / "new")
    machine.base.mkdir()
    with running(machine) as daemon:
        daemon.until(lambda: "internal-puller enroll" in daemon.log)
        machine.enrol(agent)
        machine.target(agent)
        issued = agent.issue(NAME)
        daemon.until(lambda: machine.active() == issued.generation)
        daemon.stop()


def test_tells_systemd(agent: FakeAgent, machine: Machine) -> None:
    path = machine.base / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(20)
        with running(machine, NOTIFY_SOCKET=str(path)) as daemon:
            assert listener.recv(100) == b"READY=1"
            waits(agent)
            assert listener.recv(100) == b"WATCHDOG=1"
            daemon.stop()
        heard = set()
        while b"STOPPING=1" not in heard:
            heard.add(listener.recv(100))


def test_a_long_pause_is_no_hanging(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An agent that is away for a day must not have systemd kill the puller."""
    slept: list[float] = []
    monkeypatch.setattr("internal_puller.pull.daemon.time.sleep", slept.append)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        _rest(3600 * 0.05)
        assert slept == [60, 60, 60]
        assert [listener.recv(100) for _ in slept] == [b"WATCHDOG=1"] * 3


# --- how long it waits, decided without waiting ---------------------------------------------------


def daemon_with(machine: Machine, chance: float = 0.5) -> Daemon:
    return Daemon(lambda: machine.settings, chance=lambda: chance)


def test_back_off_grows_and_is_bounded(machine: Machine) -> None:
    daemon = daemon_with(machine)
    report = PullReport(contact=TransportError("gone"))
    pauses = [daemon._pause_after(report, first=False, took=0.1) for _ in range(15)]
    assert pauses[:3] == [2, 4, 8]
    assert pauses == sorted(pauses)
    assert max(pauses) == 300


def test_back_off_is_jittered_and_keeps_the_hint(machine: Machine) -> None:
    report = PullReport(contact=TransportError("busy", retry_after=120))
    assert daemon_with(machine)._pause_after(report, first=False, took=0.1) == 120
    gone = PullReport(contact=TransportError("gone"))
    low = daemon_with(machine, 0.0)._pause_after(gone, first=False, took=0.1)
    high = daemon_with(machine, 0.99)._pause_after(gone, first=False, took=0.1)
    assert low < high


def test_revoked_is_tried_seldom(machine: Machine) -> None:
    report = PullReport(contact=PullerRevoked("revoked"))
    assert daemon_with(machine)._pause_after(report, first=False, took=0.1) == 3600


def test_agent_that_does_not_hold_the_question(machine: Machine) -> None:
    daemon = daemon_with(machine)
    report = PullReport(come_back=3600)
    pauses = [daemon._pause_after(report, first=False, took=0.01) for _ in range(15)]
    assert pauses[-1] == 3600
    assert daemon._pause_after(report, first=False, took=50) < 1


def test_revoked_daemon_says_so_once_and_lives(agent: FakeAgent, machine: Machine) -> None:
    with running(machine) as daemon:
        waits(agent)
        agent.revoke(next(iter(agent.pullers)))
        daemon.until(lambda: "was revoked" in daemon.log)
        daemon.stop()
        assert daemon.log.count("was revoked") == 1
