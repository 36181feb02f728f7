"""The puller through Debian's squid: passing TLS on, and opening it with a root of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.line import Agent, Puller, active, wait_until
from tests.squid import squid

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
WWW = "www.intra.example.com"


@dataclass
class Line:
    ca: LabCa
    agent: Agent
    token: str
    relay_port: int


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
        token = agent.add(WWW)
        with agent.serving():
            yield Line(ca, agent, token, relay)


def tls_check(puller: Puller) -> str:
    return str(json.loads((puller.state / "progress.json").read_text())["tls_check"])


def through(line: Line, puller: Puller) -> None:
    """Enrol, install, and be woken by a renewal."""
    puller.enroll(line.token)
    directory = puller.target(WWW, line.ca.root_pem)
    wait_until(lambda: puller.pull() and active(directory), what="the first generation")
    first = active(directory)
    with puller.running("run") as run:
        line.agent.call("renew", WWW)
        wait_until(lambda: active(directory) != first, what="the second generation")
        assert run.ended is None


def test_a_proxy_that_passes_tls_on(line: Line, tmp_path: Path) -> None:
    with squid() as proxy:
        puller = Puller(tmp_path / "puller")
        puller.settings(proxy=proxy.url)
        through(line, puller)
        assert f"CONNECT localhost:{line.relay_port}" in proxy.seen()
        assert "/v1/" not in proxy.seen()
        assert tls_check(puller) == "pin"


def test_a_proxy_from_the_environment(line: Line, tmp_path: Path) -> None:
    with squid() as proxy:
        puller = Puller(tmp_path / "puller", HTTPS_PROXY=proxy.url, NO_PROXY="")
        puller.enroll(line.token)
        assert f"CONNECT localhost:{line.relay_port}" in proxy.seen()


def test_a_proxy_that_opens_tls(line: Line, tmp_path: Path) -> None:
    with squid() as proxy:
        puller = Puller(tmp_path / "puller")
        puller.settings(proxy=proxy.opening_url)
        refused = puller.enroll(line.token, expect=7)  # its root is not trusted yet
        assert "roots_file" in refused.err
        assert f"https://localhost:{line.relay_port}/v1/" not in proxy.seen()
        own = tmp_path / "proxy.pem"  # the proxy's directory is another account's
        own.write_bytes(proxy.root.read_bytes())
        puller.settings(proxy=proxy.opening_url, roots_file=str(own))
        through(line, puller)
        assert f"https://localhost:{line.relay_port}/v1/certificates" in proxy.seen()
        assert tls_check(puller) == "roots"
