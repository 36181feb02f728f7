"""A direct pull is killed at every call and every write: one order, a matching pair, in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from internal_puller.install.verify import verify_active
from internal_puller.settings.targets import Target, load_targets, save_targets
from internal_puller.sources.direct.record import DirectFiles
from internal_puller.state.state import StateDirectory
from shared.acme.keys import generate_account_key
from tests.direct_world import DirectWorld, direct_world
from tests.e2e.killed_direct import WRITES, pull, put_failpoints
from tests.failpoints import Recorder

pytestmark = [pytest.mark.faults, pytest.mark.lab]

ACME_CALLS = (
    "directory",
    "new_account",
    "new_order",
    "fetch_order",
    "fetch_authorization",
    "answer_challenge",
    "finalize",
    "download_chain",
)
POLLS = ("acme.fetch_order", "acme.fetch_authorization")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DirectWorld]:
    with direct_world(tmp_path) as world:
        yield world


class Case:
    """One machine with one certificate and an account of its own."""

    def __init__(self, world: DirectWorld, number: int) -> None:
        self.world, self.name = world, f"case{number}.intra.example.com"
        self.base = world.base / f"case{number}"
        self.base.mkdir()
        state = StateDirectory.create(self.base / "state")
        self.files = DirectFiles(state.path)
        self.files.create()
        self.files.save_account_key(generate_account_key())
        roots = self.base / "root.pem"
        roots.write_text(world.ca.root_pem)
        target = Target(self.name, (self.name,), self.base / "tls", roots=roots)
        save_targets(self.base / "targets.toml", [target])
        world.tables = []
        world.want(self.name)
        text = world.machine.settings.direct_file.read_text()
        (self.base / "direct.toml").write_text(text)
        (self.base / "direct.toml").chmod(0o600)

    def finish(self) -> list[str]:
        """Pull again until nothing is to be done; return what is wrong then."""
        wrong = [] if (code := pull(self.base)) == 0 else [f"exit code {code}"]
        wrong += [] if (code := pull(self.base)) == 0 else [f"then exit code {code}"]
        [target] = load_targets(self.base / "targets.toml")
        wrong += verify_active(target).problems
        known = self.files.of(self.name).progress()
        if known is None or known.generation != verify_active(target).generation:
            wrong.append("what is in place is not what is recorded")
        wrong += ["an attempt is left"] if self.files.of(self.name).has_attempt() else []
        orders = sum(order.names == (self.name,) for order in self.world.ca.orders)
        wrong += [f"{orders} orders at the CA"] if orders != 1 else []
        left = self.world.dns.get("outside", f"_acme-challenge.{self.name}", "TXT")
        wrong += [f"TXT records left: {left}"] if left else []
        loose = [path for path in self.files.path.rglob("*") if path.stat().st_mode & 0o077]
        wrong += [f"loose: {loose}"] if loose else []
        return wrong


class Killed:
    """The process that runs pulls to be killed."""

    def __init__(self) -> None:
        clean = {k: v for k, v in os.environ.items() if "CA_BUNDLE" not in k and "SSL_" not in k}
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.killed_direct"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env={**clean, "PYTHONPATH": str(root)},
            text=True,
        )

    def run(self, case: Case, name: str, occurrence: int) -> int:
        """Return the signal that ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        message = {"base": str(case.base), "name": name, "occurrence": occurrence}
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return int(json.loads(self._process.stdout.readline())["signal"])

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)


@pytest.fixture
def killed() -> Iterator[Killed]:
    process = Killed()
    yield process
    process.close()


def _points(world: DirectWorld) -> list[tuple[str, int]]:
    """Run once unharmed, and return every point passed; of polls the first two."""
    recorder = Recorder()
    take_away = put_failpoints(recorder)
    try:
        assert pull(Case(world, 0).base) == 0
    finally:
        take_away()
    names = {name for name, _ in recorder.passed}
    for side in ("before", "after"):
        assert {f"acme.{call}.{side}" for call in ACME_CALLS} <= names
        assert {f"{owner.__name__}.{name}.{side}" for owner, name in WRITES} <= names
    return [(name, n) for name, n in recorder.passed if n <= 2]


@pytest.mark.timeout(900)
def test_killed_at_every_point(world: DirectWorld, killed: Killed) -> None:
    points = _points(world)
    wrong: dict[str, list[str]] = {}
    for number, (name, occurrence) in enumerate(points, start=1):
        case = Case(world, number)
        ended_by = killed.run(case, name, occurrence)
        if ended_by != signal.SIGKILL and not (name.startswith(POLLS) and occurrence > 1):
            wrong[f"{name} {occurrence}"] = ["was not reached"]
        elif found := case.finish():
            wrong[f"{name} {occurrence}"] = found
    print(f"killed at {len(points)} points")
    assert wrong == {}
