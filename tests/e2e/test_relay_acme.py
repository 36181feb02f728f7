"""The relay's own public certificate: got by the agent's own engine, changed while it serves."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from external_agent.relay.relay_tls import DIRECTORY
from shared.contract.enrolment_token import EnrolmentToken
from tests.e2e.test_relay_tls import WWW, Ports
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.line import Agent, Puller, leaf_sha256, wait_until
from tests.proxies import ConnectProxy

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
RELAY = "relay.example.com"


@dataclass
class World:
    """A CA, an agent under a public name, and the only way in which a puller finds that name."""

    base: Path
    ca: LabCa
    agent: Agent
    ports: Ports
    proxy: ConnectProxy
    token: str = ""
    roots: Path = field(init=False)

    def __post_init__(self) -> None:
        self.roots = self.base / "public-roots.pem"
        self.roots.write_text(self.ca.root_pem)

    def puller(self, name: str = "puller") -> Puller:
        made = Puller(self.base / name)
        made.settings(proxy=self.proxy.url, roots_file=str(self.roots))
        return made

    def of_relay(self) -> list[Any]:
        return [one for one in self.ca.issued if one.names == (RELAY,)]

    def served(self) -> str:
        """What a new connection is shown."""
        with Visit(self.ports.relay) as visit:
            return hashlib.sha256(visit.leaf).hexdigest()

    def serves_newest(self) -> bool:
        issued = self.of_relay()
        return bool(issued) and self.served() == hashlib.sha256(issued[-1].der).hexdigest()

    def pinned_is_public(self, puller: Puller) -> bool:
        return "known roots" in puller.call("status").out


class Visit:
    """A connection with half a request on it."""

    def __init__(self, port: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._tls = context.wrap_socket(plain, server_hostname=RELAY)
        leaf = self._tls.getpeercert(binary_form=True)
        assert leaf is not None
        self.leaf = leaf
        self._tls.sendall(b"GET /v1/certificates HTTP/1.1\r\nHost: rel")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tls.close()

    def status(self) -> int:
        self._tls.sendall(b"ay.example.com\r\n\r\n")
        return int(self._tls.recv(100).split()[1])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ports = Ports(free_port(), free_port(), free_port())
    with (
        LabCa(http_port=ports.challenge, retry_after=None) as ca,
        ConnectProxy(tmp_path / "proxy", hosts={RELAY: "127.0.0.1"}) as proxy,
    ):
        agent = Agent(
            tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json", RELAY_AGENT_RELAY__TLS="acme"
        )
        url = f"https://{RELAY}:{ports.relay}"
        agent.init(ca.directory_url, ca.tls_root_pem, url, *ports.options)
        yield World(tmp_path, ca, agent, ports, proxy)


def test_got_served_renewed_and_kept_over_a_restart(world: World) -> None:
    agent, ca = world.agent, world.ca
    token = agent.add(WWW)
    assert EnrolmentToken.decode(token, now=time.time()).tls_pin is not None
    with agent.serving():
        wait_until(world.serves_newest, what="the relay serves its public certificate")
        puller = world.puller()
        puller.enroll(token)  # by the roots, for the pinned certificate is not served any more
        directory = puller.target(WWW, ca.root_pem)
        ca.wait_for(lambda one: len(one.issued) == 2, 30)
        wait_until(lambda: puller.pull() and leaf_sha256(directory), what="it is installed")
        assert world.pinned_is_public(puller)
        with (
            puller.running("run") as run,  # a question is held open meanwhile
            Visit(world.ports.relay) as early,
        ):
            agent.call("renew", "_relay")
            wait_until(lambda: len(world.of_relay()) == 2 and world.serves_newest())
            assert early.status() == 400, "a connection that was open goes on"
            agent.call("renew", WWW)
            newest = lambda: hashlib.sha256(ca.issued[-1].der).hexdigest()  # noqa: E731
            wait_until(lambda: len(ca.issued) == 4 and leaf_sha256(directory) == newest())
            assert run.ended is None
        shown = agent.status()["relay"]
        assert (shown["names"], shown["state"]) == ([RELAY], "issued")
        assert [one["certificate"] for one in agent.status()["certificates"]] == [WWW]
        assert "the relay's own" in agent.call("status").out
    with agent.serving():
        assert world.serves_newest()
    files = sorted((agent.state / DIRECTORY).iterdir())
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * len(files)


def test_without_the_ca_it_serves_the_self_made_one(world: World) -> None:
    world.ca.faults.refuse(None, 503, times=None)
    token = world.agent.add(WWW)
    with world.agent.serving():
        puller = world.puller()
        puller.enroll(token)  # by the pin
        assert "the pinned one" in puller.call("status", expect=None).out
        wait_until(lambda: world.agent.status()["relay"]["failures"] > 0)
        world.ca.faults.clear()
        world.agent.call("renew", "_relay")
        wait_until(world.serves_newest, what="the CA is back")
        puller.pull()


def test_to_and_fro_by_the_settings(world: World) -> None:
    """Pullers that pinned the self-made certificate go on when a public one takes its place."""
    text = world.agent.config.read_text()
    as_self = Agent(world.base / "agent", RELAY_AGENT_LOG__FORMAT="json")
    with as_self.serving():
        puller = world.puller()
        puller.enroll(as_self.add(WWW))
        assert not world.of_relay()
    with world.agent.serving() as serving:
        wait_until(world.serves_newest)
        puller.pull()
        for command in ("remove", "change", "token"):
            options = ("--add-name", "other.example.com") if command == "change" else ()
            assert "_relay" in world.agent.call(command, "_relay", *options, expect=4).err
        os.kill(serving.pid, signal.SIGHUP)
        wait_until(lambda: '"settings reloaded"' in serving.text())
        assert world.serves_newest()
    with as_self.serving():
        assert not world.serves_newest()
        assert as_self.status()["relay"] is None
        puller.pull()
    assert world.agent.config.read_text() == text


def test_killed_anywhere_a_pair_is_a_pair(world: World) -> None:
    """The agent is killed as soon as it has an order, then a certificate; it always serves."""
    for count in (1, 2, 3):
        with world.agent.running("serve") as process:
            world.agent.await_listening(process)
            world.agent.call("renew", "_relay", expect=None)
            wait_until(lambda wanted=count: len(world.ca.orders) >= wanted)
            process.kill()
    with world.agent.serving():
        wait_until(world.serves_newest)
        assert world.served()  # the handshake proves that the key fits


def test_a_key_that_is_lost_is_replaced(world: World) -> None:
    with world.agent.serving():
        wait_until(world.serves_newest)
    for path in (world.agent.state / DIRECTORY).iterdir():
        path.unlink()
    with world.agent.serving():
        wait_until(lambda: len(world.of_relay()) == 2 and world.serves_newest())


def test_a_host_that_no_public_ca_signs(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent", RELAY_AGENT_RELAY__TLS="acme")
    agent.init("https://ca.example.com/dir", "", "https://relay.internal:8443")
    said = agent.call("serve", expect=3)
    assert 'relay.tls = "acme" cannot be' in said.err
    assert "Traceback" not in said.err
