"""An installation is killed, or refused by the disk, at every file-system call that it makes.

The promise: what is active is wholly old or wholly new, key and certificate match, and the next
run ends in order.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.peers import require
from tests.unit.internal_puller.install.helpers import key_and_leaf_agree

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
CHANGING = {
    "mkdir", "mkdirat", "write", "pwrite64", "fchmod", "fchmodat", "fchown", "fchownat", "fsync",
    "fdatasync", "rename", "renameat", "renameat2", "symlink", "symlinkat", "unlink", "unlinkat",
    "rmdir",
}  # fmt: skip
NO_FILE_SYSTEM = ("epoll_", "pipe", "fcntl", "ioctl", "lseek", "mmap", "dup", "poll", "select")
CALL = re.compile(r"^([a-z0-9_]+)\((.*)\)? += ")


@dataclass(frozen=True)
class Call:
    """One call of the baseline: the ``number``-th of its name."""

    name: str
    number: int
    text: str

    @property
    def changes(self) -> bool:
        return self.name in CHANGING or "O_CREAT" in self.text


@dataclass
class Driver:
    process: subprocess.Popen[str]
    work: Path
    template: Path
    old: dict[str, bytes] | None = None
    new: dict[str, bytes] = field(default_factory=dict)

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def install(
        self, directory: Path, generation: int, reload_program: str, *strace: str
    ) -> tuple[dict[str, Any] | None, int]:
        """Install in a child, under strace if asked; return its report and how it ended."""
        assert self.process.stdin
        self.process.stdin.write(f"{directory} {generation} {reload_program}\n")
        self.process.stdin.flush()
        child = self.line()
        tracer = None
        if strace:
            tracer = subprocess.Popen(
                ["strace", "-p", child, *strace], stderr=subprocess.PIPE, text=True
            )
            assert tracer.stderr
            assert "attached" in tracer.stderr.readline()
        subprocess.run(["kill", "-USR1", child], check=True)
        line, report = self.line(), None
        if not line.startswith("ended"):
            report, line = json.loads(line), self.line()
        if tracer:
            tracer.communicate()
        return report, int(line.removeprefix("ended "))

    def fresh(self) -> Path:
        directory = self.work / "live"
        shutil.rmtree(directory, ignore_errors=True)
        if self.template.exists():
            shutil.copytree(self.template, directory, symlinks=True)
        return directory

    def trace(self, reload_program: str) -> list[Call]:
        """Return every file-system call of one installation of generation 3."""
        log = self.work / "trace"
        directory = self.fresh()
        options = ("-e", "trace=%file,%desc", "-e", "signal=none", "-o", str(log))
        self.install(directory, 3, reload_program, *options)
        calls, seen = [], Counter[str]()
        for line in log.read_text().splitlines():
            if (found := CALL.match(line)) and not found[1].startswith(NO_FILE_SYSTEM):
                seen[found[1]] += 1
                calls.append(Call(found[1], seen[found[1]], line))
        return calls

    def state(self, directory: Path) -> str:
        """Return which generation is active: ``old``, ``new``, or what is wrong."""
        found = files_of(directory)
        if found is not None and not key_and_leaf_agree(directory):
            return "no pair"
        names = {"old": self.old, "new": self.new}
        return next((name for name, files in names.items() if files == found), "mixed")


def files_of(directory: Path) -> dict[str, bytes] | None:
    current = directory / "current"
    if not current.is_symlink():
        return None
    return {path.name: path.read_bytes() for path in current.iterdir()}


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    require("strace")
    command = [sys.executable, "-m", "tests.e2e.install_driver"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        made = Driver(process, tmp_path, tmp_path / "template")
        directory = made.fresh()
        assert made.install(directory, 3, "none")[0]
        made.new = files_of(directory) or {}
        yield made
        assert process.stdin
        process.stdin.close()


def with_old(driver: Driver) -> None:
    """Let generations 1 and 2 be installed; with ``keep=2`` the next one removes the first."""
    directory = driver.fresh()
    for generation in (1, 2):
        report, _ = driver.install(directory, generation, "none")
        assert report
        assert report["error"] is None
    driver.old = files_of(directory)
    shutil.copytree(directory, driver.template, symlinks=True)


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.parent.rglob(".tmp-*")]


def converged(driver: Driver, directory: Path, reload_program: str) -> dict[str, Any]:
    report, status = driver.install(directory, 3, reload_program)
    assert status == 0
    assert report
    assert report["problems"] == []
    assert not report["unfinished"]
    assert leftovers(directory) == []
    return report


def sweep_kills(driver: Driver, calls: list[Call], reload_program: str) -> Counter[str]:
    """Kill an installation at each of the calls; return how often which state was left."""
    states = Counter[str]()
    for call in calls:
        directory = driver.fresh()
        inject = f"inject={call.name}:signal=KILL:when={call.number}"
        options = ("-e", f"trace={call.name}", "-e", inject, "-o", "/dev/null")
        report, status = driver.install(directory, 3, reload_program, *options)
        assert (report, status) == (None, -signal.SIGKILL), call
        state = driver.state(directory)
        assert state in {"old", "new"}, (state, call)
        states[state] += 1
        after = converged(driver, directory, reload_program)
        if reload_program == "none":
            assert (after["active"], after["error"]) == (3, None), (call, after)
            assert driver.state(directory) == "new"
            assert after["generations"] in ([3], [2, 3]), call
        else:
            assert after["error"] == "install/config-test-failed", (call, after)
            assert driver.state(directory) == "old"
            assert after["set_aside"] == [3], call
    return states


def test_killed_at_every_call_of_a_renewal(
    driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    with_old(driver)
    calls = [call for call in driver.trace("none") if not on_stdout(call)]
    assert sum(call.changes for call in calls) > 30
    states = sweep_kills(driver, calls, "none")
    with capsys.disabled():
        print(f"\nrenewal: {len(calls)} kill points, {dict(states)}, 0 mixed")


@pytest.mark.parametrize("case", ["first installation", "renewal that is rolled back"])
def test_killed_at_every_change(
    driver: Driver, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reload_program = "none"
    if case != "first installation":
        with_old(driver)
        script = driver.work / "refuses-3"
        script.write_text('#!/bin/sh\ntest "$RELAY_GENERATION" != 3\n')
        script.chmod(0o755)
        reload_program = str(script)
    calls = [call for call in driver.trace(reload_program) if call.changes and not on_stdout(call)]
    assert len(calls) > 20
    states = sweep_kills(driver, calls, reload_program)
    with capsys.disabled():
        print(f"\n{case}: {len(calls)} kill points, {dict(states)}, 0 mixed")


@pytest.mark.parametrize("fault", ["ENOSPC", "EIO"])
def test_disk_refuses_every_change(
    driver: Driver, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_old(driver)
    outcomes = Counter[str]()
    calls = [call for call in driver.trace("none") if call.changes and not on_stdout(call)]
    for call in calls:
        directory = driver.fresh()
        inject = f"inject={call.name}:error={fault}:when={call.number}"
        options = ("-e", f"trace={call.name}", "-e", inject, "-o", "/dev/null")
        report, status = driver.install(directory, 3, "none", *options)
        assert status == 0, call
        assert report, call
        state = driver.state(directory)
        if report["error"]:
            assert report["error"] == "install/stage-failed", (call, report)
            assert (state, report["active"]) == ("old", 2), (call, report)
        else:
            assert (state, report["active"]) == ("new", 3), (call, report)
        outcomes[report["error"] or "installed"] += 1
        after = converged(driver, directory, "none")
        assert (after["active"], after["error"]) == (3, None), call
        assert driver.state(directory) == "new"
    with capsys.disabled():
        print(f"\n{fault}: {len(calls)} refused calls, {dict(outcomes)}, 0 mixed")


def test_everything_is_synced_before_and_after_it_is_named(driver: Driver) -> None:
    with_old(driver)
    calls = [call for call in driver.trace("none") if call.changes and not on_stdout(call)]
    renames = [
        index
        for index, call in enumerate(calls)
        if call.name.startswith("rename") and '"1"' not in call.text  # pruning
    ]
    assert len(renames) == 3  # the generation, the note, the link
    for index in renames:
        assert calls[index - 1].name in {"fsync", "symlinkat"}, calls[index]
        assert calls[index + 1].name == "fsync", calls[index]
    names = Counter(call.name for call in calls[: renames[0]])
    assert names["fsync"] == names["write"] + names["mkdirat"]


def on_stdout(call: Call) -> bool:
    """The driver's own report, or what Popen writes to its pipes."""
    return call.name == "write" and call.text.startswith("write(1,")
