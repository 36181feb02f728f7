"""The agent is killed at every failure point of an issuance; what is left is one order, one key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_csr

from external_agent.records.model import AttemptState
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.acme.keys import generate_account_key, load_account_key
from shared.contract.bundle import Manifest, parse_envelope
from shared.contract.identifiers import parse_names
from shared.contract.key_policy import KeyAlgorithm, PrivateKey, generate_key, load_key
from shared.contract.sealing import SealContext
from shared.contract.signing import SigningKey
from shared.contract.x509 import make_csr, spki_sha256
from tests.agent_world import AgentWorld, ChallengeBoard, Port80, Puller
from tests.canary import leaks
from tests.failpoints import COMMITS, OF_OWN_KEYS, KeyMakerWithFailpoints, Recorder, with_failpoints
from tests.lab.ca import LabCa

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


class DatabaseBoard(ChallengeBoard):
    """What a listener sees that outlives the killed process: a socket that systemd holds, or a
    second agent on the same database."""

    def __init__(self) -> None:
        super().__init__()
        self.directory: Path | None = None

    def get(self, token: str) -> str | None:
        assert self.directory is not None
        store = open_store(f"sqlite:///{self.directory / 'relay.db'}")
        try:
            return store.pending_challenges().get(token)
        finally:
            store.close()


@dataclass
class Lab:
    ca: LabCa
    roots: Path
    directory: Path
    board: DatabaseBoard


@dataclass
class Case:
    """One certificate of an agent of its own."""

    lab: Lab
    directory: Path
    name: str
    account_key: bytes
    signing_key: SigningKey
    puller: Puller
    csr: bytes = b""  # DER, where the puller makes the key

    @classmethod
    def make(cls, lab: Lab, number: int, *, own_key: bool = False) -> Case:
        directory = lab.directory / f"case{number}"
        directory.mkdir(mode=0o700)
        lab.board.directory = directory
        case = cls(
            lab,
            directory,
            f"case{number}.intra.example.com",
            generate_account_key(),
            SigningKey.generate(),
            Puller(),
        )
        if own_key:
            csr = make_csr(generate_key(KeyAlgorithm.EC_P256), parse_names([case.name]))
            case.csr = csr.public_bytes(Encoding.DER)
        with case.world() as world:
            world.add(case.name, puller=case.puller)
            if own_key:
                world.store.change_certificate(case.name, key_origin="puller", now=world.now())
        return case

    def world(self, recorder: Recorder | None = None) -> AgentWorld:
        board = ChallengeBoard()
        return AgentWorld(
            self.directory,
            directory_url=self.lab.ca.directory_url,
            roots=self.lab.roots,
            account_key=load_account_key(self.account_key),
            signing_key=self.signing_key,
            board=board,
            workers=1,
            **(
                {}
                if recorder is None
                else {
                    "failpoint": recorder,
                    "wrap": lambda store: with_failpoints(store, recorder),
                    "wrap_key_maker": lambda maker: KeyMakerWithFailpoints(maker, recorder),
                }
            ),
        )

    def leave_csr(self, store: Store) -> None:
        """What the puller does until it is told that its CSR is there."""
        now = int(time.time())
        store.leave_csr(
            *(self.puller.id, self.name, self.csr),
            now=now,
        )

    def message(self, name: str, occurrence: int) -> str:
        return json.dumps(
            {
                "name": name,
                "occurrence": occurrence,
                "directory": str(self.directory),
                "directory_url": self.lab.ca.directory_url,
                "roots": str(self.lab.roots),
                "account_key": self.account_key.decode(),
                "signing_seed": self.signing_key.seed().hex(),
                "csr": self.csr.hex(),
                "puller": self.puller.id,
                "certificate": self.name,
            }
        )

    def prepared_keys(self) -> list[PrivateKey]:
        """Open what an unfinished attempt holds sealed, as only the puller can."""
        store = open_store(f"sqlite:///{self.directory / 'relay.db'}")
        try:
            attempt = store.unfinished_attempt(self.name)
            if attempt is None:
                return []
            sealed = store.sealed_keys(self.name, attempt.generation)[self.puller.id]
        finally:
            store.close()
        context = SealContext(
            self.signing_key.id,
            self.puller.identity.id,
            attempt.generation,
            attempt.spki_sha256,
            self.name,
        )
        return [load_key(self.puller.identity.open(sealed, context))]

    def orders(self) -> int:
        return sum(order.names == (self.name,) for order in self.lab.ca.orders)

    def finish_own_key(self) -> list[str]:
        """As :meth:`finish`; the certificate is for the puller's key, and no other was made."""
        wrong = []
        with self.world() as world:
            self.leave_csr(world.store)
            world.scheduler.run_until_idle()
            answer = world.store.bundle_for(self.puller.id, self.name, 0, now=world.now())
            if answer.envelope is None:
                row = world.store.certificate(self.name)
                wrong.append(f"no bundle: {row and row.last_error}")
            else:
                envelope = parse_envelope(answer.envelope)
                manifest = Manifest.decode(envelope.open(self.signing_key.public))
                mine = spki_sha256(load_der_x509_csr(self.csr))
                found = (manifest.key_origin, manifest.spki_sha256, manifest.sealed_key)
                wrong += [f"{found}"] if found != ("puller", mine, None) else []
            unfinished = world.store.unfinished_attempt(self.name)
            wrong += [f"unfinished: {unfinished.state}"] if unfinished else []
            wrong += ["the trail is broken"] if world.store.verify_events() else []
        wrong += leaks(self.directory, [])
        wrong += [f"{self.orders()} orders at the CA"] if self.orders() != 1 else []
        return wrong

    def finish(self) -> list[str]:
        """Start again, run to the end; return what is wrong then."""
        keys = self.prepared_keys()
        wrong = leaks(self.directory, keys)
        with self.world() as world:
            world.scheduler.run_until_idle()
            pulled = world.pull(self.puller, self.name)
            if pulled is None:
                row = world.store.certificate(self.name)
                wrong.append(f"no bundle: {row and row.last_error}")
            else:
                keys.append(pulled[1])
            unfinished = world.store.unfinished_attempt(self.name)
            wrong += [f"unfinished: {unfinished.state}"] if unfinished else []
            wrong += ["the trail is broken"] if world.store.verify_events() else []
        wrong += leaks(self.directory, keys)
        wrong += [f"{self.orders()} orders at the CA"] if self.orders() != 1 else []
        return wrong


class Killed:
    """The process that runs issuances to be killed."""

    def __init__(self) -> None:
        clean = {k: v for k, v in os.environ.items() if "CA_BUNDLE" not in k and "SSL_" not in k}
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.killed_agent"],
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
        self._process.stdin.write(case.message(name, occurrence) + "\n")
        self._process.stdin.flush()
        return int(json.loads(self._process.stdout.readline())["signal"])

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    board = DatabaseBoard()
    roots = tmp_path / "lab-root.pem"
    with Port80(board) as port80, LabCa(http_port=port80.port, retry_after=None) as ca:
        roots.write_text(ca.tls_root_pem)
        yield Lab(ca, roots, tmp_path, board)


@pytest.fixture
def killed() -> Iterator[Killed]:
    process = Killed()
    yield process
    process.close()


def _points(lab: Lab) -> list[tuple[str, int]]:
    """Run once unharmed, and return every failure point passed; of polls the first two."""
    recorder = Recorder()
    case = Case.make(lab, 0)
    with case.world(recorder) as world:
        assert world.scheduler.run_until_idle() == 1
        assert world.pull(case.puller, case.name) is not None
    names = {name for name, _ in recorder.passed}
    for side in ("before", "after"):
        assert {f"store.{commit}.{side}" for commit in COMMITS} <= names
        assert {f"acme.{call}.{side}" for call in ACME_CALLS} <= names
        assert f"key.make.{side}" in names
    return [(name, n) for name, n in recorder.passed if n <= 2]


@pytest.mark.timeout(900)
def test_killed_at_every_point(lab: Lab, killed: Killed) -> None:
    points = _points(lab)
    wrong: dict[str, list[str]] = {}
    for number, (name, occurrence) in enumerate(points, start=1):
        case = Case.make(lab, number)
        ended_by = killed.run(case, name, occurrence)
        if ended_by != signal.SIGKILL and not (name.startswith(POLLS) and occurrence > 1):
            wrong[f"{name} {occurrence}"] = ["was not reached"]
        elif found := case.finish():
            wrong[f"{name} {occurrence}"] = found
    print(f"killed at {len(points)} points")
    assert wrong == {}
    assert len(points) >= 2 * (len(COMMITS) + len(ACME_CALLS) + 1)


@pytest.mark.timeout(600)
def test_killed_at_every_commit_where_the_puller_makes_the_key(lab: Lab, killed: Killed) -> None:
    recorder = Recorder()
    unharmed = Case.make(lab, 0, own_key=True)
    with unharmed.world(recorder) as world:
        unharmed.leave_csr(with_failpoints(world.store, recorder))
        assert world.scheduler.run_until_idle() == 1
    assert unharmed.finish_own_key() == []
    points = [
        (name, n)
        for name, n in recorder.passed
        if n == 1 and (name.startswith("store.") or name == "acme.new_order.after")
    ]
    assert {name for name, _ in points} >= {
        f"store.{commit}.{side}"
        for commit in (*OF_OWN_KEYS, "commit_prepared", "commit_order", "commit_state", "publish")
        for side in ("before", "after")
    }
    assert "key.make.before" not in {name for name, _ in recorder.passed}
    wrong: dict[str, list[str]] = {}
    for number, (name, occurrence) in enumerate(points, start=1):
        case = Case.make(lab, number, own_key=True)
        if killed.run(case, name, occurrence) != signal.SIGKILL:
            wrong[name] = ["was not reached"]
        elif found := case.finish_own_key():
            wrong[name] = found
    assert wrong == {}


def test_issued_but_not_written(lab: Lab) -> None:
    """The database refuses the chain: it is downloaded again, from the same order."""
    case = Case.make(lab, 1)
    with case.world() as world:
        store = world.store
        _execute(
            case,
            "CREATE TRIGGER no_chain BEFORE UPDATE ON generations WHEN NEW.chain IS NOT NULL "
            "BEGIN SELECT RAISE(ABORT, 'disk on fire'); END",
        )
        world.scheduler.run_until_idle()
        attempt = store.unfinished_attempt(case.name)
        assert attempt is not None
        assert attempt.state == AttemptState.CERTIFIED
        assert world.published == []
        _execute(case, "DROP TRIGGER no_chain")
    assert case.finish() == []
    assert len(lab.ca.requests("cert")) == 2


def test_port_80_dies_with_the_agent(lab: Lab, killed: Killed) -> None:
    """The CA finds nobody while it looks, and ends the order: the next attempt has another."""
    case = Case.make(lab, 1)
    lab.board.directory = lab.directory
    assert killed.run(case, "acme.answer_challenge.after", 1) == signal.SIGKILL
    lab.ca.wait_for(lambda ca: all(order.status == "invalid" for order in ca.orders))
    lab.board.directory = case.directory
    with case.world() as world:
        world.scheduler.run_until_idle()
        row = world.store.certificate(case.name)
        assert row is not None
        assert (row.failures, case.orders()) == (1, 1)
        assert row.last_error is not None
        assert "could not validate" in row.last_error.what
        world.store.request_renewal(case.name, "port 80 is back", now=world.now())
        world.scheduler.run_until_idle()
        assert world.pull(case.puller, case.name) is not None
    assert case.orders() == 2


def _execute(case: Case, statement: str) -> None:
    import sqlite3

    connection = sqlite3.connect(case.directory / "relay.db", timeout=10)
    connection.execute(statement)
    connection.commit()
    connection.close()
