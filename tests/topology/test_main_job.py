"""The main job on real ports: issued outside, carried in by a puller that nobody can reach."""

from __future__ import annotations

import hashlib
import json
import socket
import time

import pytest

from tests.line import active, wait_until

from .conftest import LabStage
from .namespaces import Namespace
from .world import INTRANET, NAT, RELAY, VM, WWW

pytestmark = [pytest.mark.topology, pytest.mark.timeout(300)]


def newest(stage: LabStage) -> str:
    return hashlib.sha256(stage.ca.issued[-1].der).hexdigest()


def knock(host: Namespace, address: str, port: int) -> str:
    """Try to connect from a host: `open`, `refused`, or `dropped` when nobody answers."""
    with host.entered():
        try:
            socket.create_connection((address, port), timeout=1).close()
        except TimeoutError:
            return "dropped"
        except ConnectionRefusedError:
            return "refused"
    return "open"


def asked(host: Namespace, path: str) -> bytes:
    """Return the beginning of what the VM's port 80 answers."""
    with host.entered(), socket.create_connection((VM, 80), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {WWW}\r\n\r\n".encode())
        return connection.recv(4096)


def enrolled(stage: LabStage) -> None:
    """The commands of DESIGN.md, with `add` done and `serve` running; nginx waits for its files."""
    stage.puller.enroll(stage.agent.token(WWW))
    directory = stage.puller.target(WWW, stage.ca.root_pem, "--preset", "nginx")
    stage.configure_nginx(directory / "current")


def test_the_main_job(stage: LabStage) -> None:
    world, ca, agent, puller = stage.world, stage.ca, stage.agent, stage.puller
    token = agent.add(WWW)
    with agent.serving():
        assert stage.listening() == {"nginx:443"}
        puller.enroll(token)
        directory = puller.target(WWW, ca.root_pem, "--preset", "nginx")
        stage.configure_nginx(directory / "current")
        wait_until(lambda: puller.pull() and active(directory), what="the first generation")

        # The CA asked the VM on port 80, by the outside view; the visitor met the inside server.
        assert len(ca.issued) == 1 and len(ca.orders) == 1
        assert world.challenges() >= 1
        seen = stage.visit(ca.root_pem)
        assert seen == {
            "address": INTRANET,
            "leaf_sha256": newest(stage),
            "answer": "the intranet",
        }
        _nobody_gets_in(stage)
        _facts_agree(stage)

        with puller.running("run"):
            assert stage.listening() == {"nginx:443"}
            wait_until(lambda: agent.certificate(WWW)["pullers"][0]["last_seen_at"])
            agent.call("renew", WWW)
            ca.wait_for(lambda ca: len(ca.issued) == 2, 20)
            issued_at = time.monotonic()
            wait_until(lambda: stage.visit(ca.root_pem)["leaf_sha256"] == newest(stage))
            took = time.monotonic() - issued_at
            assert took < 10, f"from the CA to the server in {took:.1f} s"
            wait_until(lambda: _facts_agree(stage) or True)
        _nobody_gets_in(stage)
        assert puller.pull().out == ""  # quiet: nothing is new


def _facts_agree(stage: LabStage) -> None:
    def agree() -> bool:
        found = stage.agent.certificate(WWW)
        generation = found["issued"]["generation"]
        (delivery,) = found["pullers"]
        return (
            delivery["pulled"]["generation"] == delivery["installed"]["generation"] == generation
            and delivery["served"]["matches"]
            and [one["leaf_sha256"] for one in delivery["served"]["leaves"]] == [newest(stage)]
            and found["issued"]["leaf_sha256"] == newest(stage)
        )

    wait_until(agree, what="issued, pulled, installed and served are the same")


def _nobody_gets_in(stage: LabStage) -> None:
    world = stage.world
    for host in (world.internet, world.vm):
        before = world.dropped()
        assert knock(host, INTRANET, 443) == "dropped"
        assert world.dropped() > before
        assert knock(host, NAT, 443) == "dropped"
    assert world.arrived() == 0
    assert world.let_out() > 0
    assert stage.listening() == {"nginx:443"}


def test_the_twin_serves_challenges_and_nothing_else(stage: LabStage) -> None:
    stage.agent.add(WWW)
    with stage.agent.serving():
        internet = stage.world.internet
        assert knock(internet, VM, 443) == "refused"
        assert knock(internet, VM, 8080) == "refused"  # for operators, on loopback only
        assert knock(internet, VM, 8443) == "open"
        for path in ("/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x"):
            answer = asked(internet, path)
            assert answer.startswith(b"HTTP/1.1 404 ") and b"\r\nLocation:" not in answer


def test_a_cut_link(stage: LabStage) -> None:
    agent, puller, ca = stage.agent, stage.puller, stage.ca
    agent.add(WWW)
    puller.settings(timeout=5.0)
    with agent.serving():
        enrolled(stage)
        directory = puller.base / "tls" / WWW
        wait_until(lambda: puller.pull() and active(directory))
        with puller.running("run") as run:
            for direction in ("both", "inward", "outward"):
                wait_until(lambda: agent.certificate(WWW)["pullers"][0]["last_seen_at"])
                _cut_once(stage, direction)
                assert run.ended is None
                _facts_agree(stage)
        assert len(ca.orders) == len(ca.issued) == 4
        found = json.loads(agent.call("doctor", "--json", expect=13).out)["findings"]
        (room,) = [one for one in found if one["check"] == "rate-limits"]
        assert room["verdict"] == "warning" and "has issued 4 certificates" in room["what"]


def _cut_once(stage: LabStage, direction: str) -> None:
    """Renew while the link is cut: the old one is served, and the new one when it is back."""
    ca, old, count = stage.ca, newest(stage), len(stage.ca.issued)
    with stage.world.cut(direction):
        stage.agent.call("renew", WWW)
        ca.wait_for(lambda ca: len(ca.issued) == count + 1, 20)
        failed = stage.puller.pull(expect=None)
        assert failed.code == 7, failed
        assert stage.visit(ca.root_pem)["leaf_sha256"] == old
    healed = time.monotonic()
    wait_until(lambda: stage.visit(ca.root_pem)["leaf_sha256"] == newest(stage), 60)
    took = time.monotonic() - healed
    assert took < 30, f"{direction}: served {took:.1f} s after the link was back"


def test_the_names(stage: LabStage) -> None:
    """The relay's name leads out from inside; no proxy and no port on the way in is needed."""
    ask = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
    for host, name, address in (
        (stage.world.intranet, RELAY, VM),
        (stage.world.intranet, WWW, INTRANET),
        (stage.world.vm, WWW, VM),
        (stage.world.internet, WWW, VM),
    ):
        assert host.run("python3", "-I", "-c", ask, name).strip() == address


def test_a_new_users_path(stage: LabStage) -> None:
    """From nothing to served: four commands on the VM, three inside.

    Installed (`tests/packages` does it), `external-agent init` (the stage has done it), `serve` by
    systemd, and `add`; installed, `enroll`, `pull`.
    """
    root = stage.puller.base / "root.pem"
    root.write_text(stage.ca.root_pem)
    with stage.agent.serving():
        token = stage.agent.add(WWW)
        enrol = ("enroll", "--preset", "nginx", "--root", str(root))  # a private CA has a root
        said = stage.puller.call(*enrol, stdin=f"{token}\n")
        directory = stage.puller.base / "tls" / WWW
        assert f"ssl_certificate {directory}/current/fullchain.pem" in said.out
        stage.configure_nginx(directory / "current")  # the line that was printed
        wait_until(lambda: stage.puller.pull() and active(directory))
        assert stage.visit(stage.ca.root_pem)["leaf_sha256"] == newest(stage)
        _facts_agree(stage)
