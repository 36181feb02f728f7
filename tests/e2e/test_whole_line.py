"""The whole line on loopback, both command lines as processes: many to many, losses, restores."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.line import Agent, Puller, active, installed, leaf_sha256, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
WWW, APP, WIKI = "www.intra.example.com", "app.example.org", "wiki.example.net"


@dataclass
class Line:
    """A CA, an agent that is set up, and pullers as they are wanted."""

    ca: LabCa
    agent: Agent
    base: Path

    def puller(self, name: str, token: str, *certificates: str) -> Puller:
        """Enrol a new puller and give it a target for each certificate."""
        made = Puller(self.base / name)
        made.enroll(token)
        for certificate in certificates:
            made.target(certificate, self.ca.root_pem)
        return made

    def newest(self, name: str = WWW) -> str:
        """The leaf that the CA issued last for a name; "" while there is none."""
        of_name = [one for one in self.ca.issued if name in one.names]
        return hashlib.sha256(of_name[-1].der).hexdigest() if of_name else ""


def place(puller: Puller, certificate: str = WWW) -> Path:
    return puller.base / "tls" / certificate


def identity(puller: Puller) -> str:
    """The id under which the agent knows it."""
    return str(json.loads((puller.state / "enrolment.json").read_text())["puller"])


def key_is_the_leafs(puller: Puller, certificate: str = WWW) -> bool:
    from cryptography import x509

    current = place(puller, certificate) / "current"
    key = load_pem_private_key((current / "privkey.pem").read_bytes(), None)
    leaf = x509.load_pem_x509_certificate((current / "fullchain.pem").read_bytes())
    return bool(key.public_key() == leaf.public_key())


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    challenge, relay, operator = free_port(), free_port(), free_port()
    with LabCa(http_port=challenge, retry_after=None) as ca:
        agent = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json")
        agent.init(
            *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
            *("--challenge-listen", f"127.0.0.1:{challenge}"),
            *("--relay-listen", f"127.0.0.1:{relay}"),
            *("--operator-listen", f"127.0.0.1:{operator}"),
        )
        yield Line(ca, agent, tmp_path)


def pull_until(puller: Puller, leaf: str, certificate: str = WWW) -> None:
    """Pull until a leaf is in place."""
    wait_until(
        lambda: puller.pull() and leaf_sha256(place(puller, certificate)) == leaf,
        what=f"{certificate} is installed",
    )


def issued(line: Line, count: int) -> None:
    """Wait until the CA has issued so many and the agent has taken note of the last."""

    def noted() -> bool:
        last = hashlib.sha256(line.ca.issued[-1].der).hexdigest()
        found = [one["issued"] for one in line.agent.status()["certificates"]]
        return any(one is not None and one["leaf_sha256"] == last for one in found)

    line.ca.wait_for(lambda ca: len(ca.issued) >= count, 30)
    wait_until(noted, what="the agent has it")
    assert len(line.ca.issued) == count


def delivered(line: Line, puller: Puller, certificate: str = WWW) -> bool:
    """Whether the agent knows that this puller has installed the newest generation."""
    found = line.agent.certificate(certificate)
    (mine,) = [one for one in found["pullers"] if one["puller"] == identity(puller)]
    return bool(mine["installed"]["generation"] == found["issued"]["generation"])


def test_one_certificate_for_several_pullers(line: Line) -> None:
    first_token = line.agent.add(WWW)
    with line.agent.serving():
        pullers = [
            line.puller(f"puller{number}", token, WWW)
            for number, token in enumerate([first_token, *(line.agent.token(WWW) for _ in "ab")])
        ]
        # The first may have been served already when the others came: then there is a newer one.
        wait_until(lambda: line.agent.certificate(WWW)["issued"])
        wait_until(
            lambda: (
                [one.pull() for one in pullers]
                and {leaf_sha256(place(one)) for one in pullers} == {line.newest()}
            ),
            what="all have the same leaf",
        )
        assert all(key_is_the_leafs(one) for one in pullers)
        assert all(delivered(line, one) for one in pullers)
        assert len(line.ca.orders) == len(line.ca.issued)
        count = len(line.ca.issued) + 1
        line.agent.call("renew", WWW)
        issued(line, count)
        for one in pullers:
            pull_until(one, line.newest())
        assert len(line.ca.issued) == count


def test_several_certificates_for_one_puller(line: Line) -> None:
    line.agent.add(WWW)
    line.agent.add(APP)
    token = line.agent.token(WWW, APP)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW, APP)
        issued(line, 2)
        pull_until(puller, line.newest(WWW), WWW)
        pull_until(puller, line.newest(APP), APP)
        wiki = line.agent.add(WIKI)
        puller.enroll(wiki)  # a second token of the same machine adds to what it may fetch
        puller.target(WIKI, line.ca.root_pem)
        issued(line, 3)
        pull_until(puller, line.newest(WIKI), WIKI)
        assert all(key_is_the_leafs(puller, name) for name in (WWW, APP, WIKI))
        line.agent.call("renew", APP)
        issued(line, 4)
        pull_until(puller, line.newest(APP), APP)
        assert [len(installed(place(puller, name))) for name in (WWW, APP, WIKI)] == [1, 2, 1]


def test_a_machine_that_lost_its_keys(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
        before = active(place(puller))
        lost = identity(puller)
        shutil.rmtree(puller.state)
        assert puller.pull(expect=None).code == 3
        puller.enroll(line.agent.token(WWW))
        assert identity(puller) != lost
        issued(line, 2)  # what is sealed to the lost key opens for nobody
        pull_until(puller, line.newest())
        assert active(place(puller)) > before  # type: ignore[operator]
        assert key_is_the_leafs(puller)


def test_a_revoked_puller(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        kept = line.puller("kept", token, WWW)
        revoked = line.puller("revoked", line.agent.token(WWW), WWW)
        wait_until(
            lambda: (
                kept.pull()
                and revoked.pull()
                and leaf_sha256(place(kept)) == leaf_sha256(place(revoked)) == line.newest()
            )
        )
        old, count = line.newest(), len(line.ca.issued)
        with revoked.running("run") as run:
            wait_until(lambda: "state in" in run.text())
            line.agent.call("puller", "revoke", identity(revoked))
            issued(line, count + 1)  # with a key that the revoked one has never seen
            pull_until(kept, line.newest())
            assert run.ended is None
        refused = revoked.pull(expect=None)
        assert refused.code == 7 and "revoked" in refused.err
        assert leaf_sha256(place(revoked)) == old
        assert revoked.enroll(line.agent.token(WWW), expect=5).err
        assert leaf_sha256(place(revoked)) == old
        events = json.loads(line.agent.call("events", "--json").out)
        assert any("revoked" in json.dumps(event) for event in events)


def test_the_agent_dies_in_the_middle_and_comes_back(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving() as serving:
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        with puller.running("run") as run:
            wait_until(lambda: leaf_sha256(place(puller)) == line.newest())
            first = line.newest()
            line.ca.faults.stay_processing(polls=None)  # the order is under way for ever ...
            line.agent.call("renew", WWW)
            line.ca.wait_for(lambda ca: len(ca.orders) == 2 and bool(ca.requests("finalize")), 20)
            serving.kill()
            assert leaf_sha256(place(puller)) == first
            assert run.ended is None
            line.ca.faults.clear()  # ... and is done when the agent comes back
            serving.start()
            line.agent.await_listening(serving)
            wait_until(
                lambda: leaf_sha256(place(puller)) == line.newest() != first,
                90,
                what="the second generation is installed",
            )
            assert run.ended is None
        assert (len(line.ca.orders), len(line.ca.issued)) == (2, 2)
        assert key_is_the_leafs(puller)


def test_an_agent_restored_from_a_backup(line: Line, tmp_path: Path) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
    backup = shutil.copytree(line.agent.state, tmp_path / "backup")
    with line.agent.serving():
        for count in (2, 3):
            line.agent.call("renew", WWW)
            issued(line, count)
            pull_until(puller, line.newest())
    seen, leaf = active(place(puller)), line.newest()
    assert seen is not None
    shutil.rmtree(line.agent.state)
    shutil.copytree(backup, line.agent.state)
    with line.agent.serving():
        # It knows an older generation only; the puller says what it has, and a newer one is made.
        puller.pull()
        assert leaf_sha256(place(puller)) == leaf, "nothing goes backwards"
        issued(line, 4)
        pull_until(puller, line.newest())
        assert active(place(puller)) > seen  # type: ignore[operator]
        assert line.agent.certificate(WWW)["issued"]["generation"] == active(place(puller))


def test_backup_and_restore_by_their_commands(line: Line, tmp_path: Path) -> None:
    """Taken while it serves; afterwards pullers go on, and what was handed out before is void."""
    archive, wasted = tmp_path / "monday.tar", line.agent.add(APP)
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
        line.agent.call("access", "create", "someone")
        line.agent.call("backup", str(archive))
        assert archive.stat().st_mode & 0o777 == 0o600
        assert "exists already" in line.agent.call("backup", str(archive), expect=3).err
        line.agent.call("renew", WWW)
        issued(line, 2)
        pull_until(puller, line.newest())
    seen = active(place(puller))
    assert seen is not None
    assert "replaces nothing" in line.agent.call("restore", str(archive), expect=3).err
    shutil.rmtree(line.agent.state)
    line.agent.config.unlink()
    said = line.agent.call("restore", str(archive)).err
    assert "1 enrolment tokens, 1 access tokens" in said
    with line.agent.serving():
        stranger = Puller(tmp_path / "stranger")
        assert stranger.enroll(wasted, expect=5).code == 5
        puller.pull()  # it says what it has, and a newer one is made
        issued(line, 3)
        pull_until(puller, line.newest())
        assert active(place(puller)) > seen  # type: ignore[operator]
        kinds = [one["kind"] for one in json.loads(line.agent.call("events", "--json").out)]
        assert kinds.count("restored") == kinds.count("restore-noticed") == 1
        line.agent.call("events", "verify")


def test_the_agent_tells_systemd(line: Line, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        line.agent.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        with line.agent.serving():
            assert [listener.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        heard = set()
        while b"STOPPING=1" not in heard:
            heard.add(listener.recv(100))
        assert heard <= {b"WATCHDOG=1", b"STOPPING=1"}
