"""The running agent without its database, without room, stopped, doubled, and stolen from."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.contract.enrolment_token import EnrolmentToken
from tests.canary import find_in_files, private_key, secret
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.lab.resolver import TableResolver
from tests.line import Agent, Puller, active, leaf_sha256, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
WWW = "www.intra.example.com"


class Gate(TableResolver):
    """Where the CA looks names up; closed, it lets the CA wait with its look at port 80."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reached, self.open = threading.Event(), threading.Event()
        self.open.set()

    def close(self) -> None:
        self.reached.clear()
        self.open.clear()

    def addresses(self, name: str) -> list[str]:
        self.reached.set()
        assert self.open.wait(90)
        return super().addresses(name)


@dataclass
class Line:
    """One agent, one puller, one certificate."""

    ca: LabCa
    gate: Gate
    base: Path
    challenge: int = field(default_factory=free_port)
    relay: int = field(default_factory=free_port)
    operator: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.puller = Puller(self.base / "puller")
        self.agent = self.made("agent")

    def made(self, name: str) -> Agent:
        """An agent with these ports."""
        agent = Agent(
            self.base / name, RELAY_AGENT_LOG__FORMAT="json", RELAY_AGENT_OPERATOR__OPEN_READ="true"
        )
        agent.init(
            *(self.ca.directory_url, self.ca.tls_root_pem, f"https://localhost:{self.relay}"),
            *("--challenge-listen", f"127.0.0.1:{self.challenge}"),
            *("--relay-listen", f"127.0.0.1:{self.relay}"),
            *("--operator-listen", f"127.0.0.1:{self.operator}"),
        )
        return agent

    def first_certificate(self) -> Path:
        """Enrol and install one; return where it is."""
        self.puller.enroll(self.agent.add(WWW))
        directory = self.puller.target(WWW, self.ca.root_pem)
        self.installed(1)
        return directory

    def installed(self, count: int, seconds: float = 60) -> None:
        """Wait for the newest of so many certificates to be in place."""
        self.ca.wait_for(lambda ca: len(ca.issued) >= count, seconds)
        assert len(self.ca.issued) == count
        wait_until(
            lambda: self.puller.pull() and leaf_sha256(self.place) == newest(self.ca), seconds
        )

    @property
    def place(self) -> Path:
        return self.puller.base / "tls" / WWW

    def get(self, port: int, path: str) -> tuple[int, bytes, str | None]:
        """Ask a listener in plain HTTP; the relay by TLS."""
        connection = (
            http.client.HTTPSConnection(
                "localhost", port, timeout=30, context=ssl._create_unverified_context()
            )
            if port == self.relay
            else http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        )
        with contextlib.closing(connection):
            connection.request("GET", path)
            with connection.getresponse() as answer:
                return answer.status, answer.read(), answer.getheader("Retry-After")


def newest(ca: LabCa) -> str:
    return hashlib.sha256(ca.issued[-1].der).hexdigest()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    gate, challenge = Gate(), free_port()
    with LabCa(gate, http_port=challenge, retry_after=None) as ca:
        yield Line(ca, gate, tmp_path, challenge)
        gate.open.set()


def test_locked_database(line: Line) -> None:
    with line.agent.serving() as serving:
        line.first_certificate()
        line.gate.close()
        line.agent.call("renew", WWW)
        assert line.gate.reached.wait(30)
        (pending,) = [
            one
            for authorization in line.ca.orders[-1].authorizations
            for one in authorization.challenges
            if one.kind == "http-01" and authorization.status == "pending"
        ]
        with sqlite3.connect(line.agent.state / "relay.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            wait_until(lambda: line.get(line.operator, "/readyz")[0] == 503, 30)
            path = "/.well-known/acme-challenge/"
            status, body, _ = line.get(line.challenge, path + pending.token)
            assert status == 200 and body.startswith(pending.token.encode() + b".")
            assert line.get(line.challenge, path + "x" * 43)[0] == 404
            refused = line.puller.pull(expect=7)
            assert "503" in refused.err and "tried again" in refused.err
            assert active(line.place) is not None
            status, _, retry_after = line.get(line.operator, "/v1/status")
            assert (status, retry_after) == (503, "5")
            said = line.agent.call("renew", WWW, expect=11)
            assert "Traceback" not in said.err and "locked" in said.err
            line.gate.open.set()  # the CA looks, finds the answer, and waits for nobody
            other.execute("ROLLBACK")
        other.close()
        line.installed(2, 90)
        assert len(line.ca.orders) == 2
        assert wait_until(lambda: line.get(line.operator, "/readyz")[0] == 200)
        assert "Traceback" not in serving.text()


def test_a_clock_that_differs_from_the_cas_is_told_by_status(line: Line) -> None:
    line.ca.faults.date_skew(-400)
    with line.agent.serving():
        line.puller.enroll(line.agent.add(WWW))
        said = wait_until(lambda: line.agent.certificate(WWW)["last_error"], 30)
        assert "400 s" in said["what"] or "401 s" in said["what"] or "399 s" in said["what"]
        assert "clock" in line.agent.call("status").out
        assert line.ca.orders == []


def test_stopped_in_the_middle_of_an_order(line: Line) -> None:
    with line.agent.serving() as serving:
        line.first_certificate()
        line.ca.faults.stay_processing(polls=None)
        line.agent.call("renew", WWW)
        line.ca.wait_for(lambda ca: len(ca.requests("finalize")) == 2, 30)
        begun = time.monotonic()
        assert serving.stop() == 0
        assert time.monotonic() - begun < 25
        assert '"stopped"' in serving.text() and "Traceback" not in serving.text()
        line.ca.orders[-1].polls_left = 1
        serving.start()
        line.agent.await_listening(serving)
        line.installed(2, 90)
    assert len(line.ca.orders) == 2


def test_a_second_one_with_the_same_state_does_not_start(line: Line) -> None:
    with line.agent.serving() as serving:
        second = line.agent.call("serve", expect=3)
        assert "Another external-agent serve is running" in second.err
        assert "Traceback" not in second.err
        serving.kill()
        serving.start()  # what a killed one held, nobody holds
        line.agent.await_listening(serving)
        line.first_certificate()
        assert len(line.ca.orders) == 1


def test_two_pulls_at_once(line: Line) -> None:
    with line.agent.serving():
        line.first_certificate()
        line.agent.call("renew", WWW)
        line.ca.wait_for(lambda ca: len(ca.issued) == 2, 30)
        wait_until(lambda: line.agent.certificate(WWW)["attempt"] is None)
        both = [
            subprocess.Popen(
                line.puller.argv("pull"),
                env=line.puller.variables(),
                cwd=line.puller.base,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        ends = [(one.communicate(timeout=60)[1], one.returncode) for one in both]
        assert {code for _, code in ends} <= {0, 10}, ends
        assert 0 in {code for _, code in ends}
        assert all("Traceback" not in said for said, _ in ends)
        line.installed(2)


def test_stolen_database(line: Line, tmp_path: Path) -> None:
    """The database alone, on a machine of the thief's: no keys, no enrolment, no install."""
    with line.agent.serving():
        directory = line.first_certificate()
        unused = line.agent.token(WWW)
    before = active(directory)
    loot = tmp_path / "loot"
    loot.mkdir(mode=0o700)
    shutil.copy(line.agent.state / "relay.db", loot)
    needles = [
        private_key("the server's key", (directory / "current" / "privkey.pem").read_bytes()),
        secret("agent key", (line.agent.state / "agent-signing.key").read_bytes()),
        private_key("account key", (line.agent.state / "account.key").read_bytes()),
        private_key("TLS key", (line.agent.state / "relay-tls.key").read_bytes()),
        secret("token seed", EnrolmentToken.decode(unused, now=0).seed),
        *(
            secret(one, (line.puller.state / f"{one}.key").read_bytes())
            for one in ("signing", "sealing")
        ),
    ]
    assert find_in_files([loot], needles) == []
    thief = line.made("thief")
    shutil.copy(loot / "relay.db", thief.state / "relay.db")
    for name in ("relay-tls.key", "relay-tls.pem"):  # nothing rests on TLS: let him have that, too
        shutil.copy(line.agent.state / name, thief.state / name)
    with thief.serving():
        assert thief.certificate(WWW)["issued"], "the thief does see what was issued, and to whom"
        refused = line.puller.pull(expect=7)
        assert "Traceback" not in refused.err
        newcomer = Puller(tmp_path / "newcomer")
        newcomer.enroll(unused, expect=7)
        assert not (newcomer.state / "enrolment.json").exists()
        # Nor does the thief's own token take over who is enrolled already.
        line.puller.enroll(thief.token(WWW), expect=3)
        assert active(directory) == before
    with line.agent.serving():
        newcomer.enroll(unused)  # the real one still takes it: nobody could use it up
        assert line.puller.pull().code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_no_room_for_the_agent_or_the_puller(line: Line, tmp_path: Path) -> None:
    with small_disk(line.agent.state, "1m") as agent_disk, line.agent.serving() as serving:
        directory = line.first_certificate()
        fill(agent_disk)
        said = line.agent.call("renew", WWW, expect=11)
        assert "full" in said.err and "Traceback" not in said.err
        line.puller.pull(expect=None)
        assert len(line.ca.orders) == 1
        (agent_disk / "filler").unlink()
        assert serving.ended is None
        line.agent.call("renew", WWW)
        line.installed(2)
        before = active(directory)
        with small_disk(line.puller.state, "64k") as puller_disk:
            line.agent.call("renew", WWW)
            line.ca.wait_for(lambda ca: len(ca.issued) == 3, 30)
            wait_until(lambda: line.agent.certificate(WWW)["attempt"] is None)
            fill(puller_disk)
            refused = line.puller.pull(expect=3)
            assert "No space left" in refused.err and "Traceback" not in refused.err
            assert active(directory) == before
            (puller_disk / "filler").unlink()
            line.installed(3)


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """Put a directory with what is in it on a disk of its own."""
    kept = directory.with_name(directory.name + ".kept")
    shutil.copytree(directory, kept)
    options = f"size={size},mode=700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(directory)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        shutil.copytree(kept, directory, dirs_exist_ok=True)
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(b"x")
