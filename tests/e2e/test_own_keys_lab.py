"""A certificate goes from the agent's key to the puller's and back, both sides as processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from internal_puller.state.pending import PendingKeys
from tests.e2e.test_whole_line import Line, delivered, issued, key_is_the_leafs, place, pull_until
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.line import Agent, Puller, active, leaf_sha256, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
WWW = "www.intra.example.com"


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


def kinds(line: Line) -> list[str]:
    return [event["kind"] for event in json.loads(line.agent.call("events", "--json").out)]


def published_after(line: Line, generation: int) -> int:
    """Wait until the agent offers a newer generation; the CA has issued it a moment before."""

    def newest() -> int:
        return int(line.agent.certificate(WWW)["issued"]["generation"])

    wait_until(lambda: newest() > generation)
    return newest()


def waits_for(puller: Puller) -> str:
    facts = json.loads(puller.call("status", "--json").out)
    return str(facts["certificates"][0]["waits_for"])


def public_key(puller: Puller) -> object:
    pem = (place(puller) / "current" / "fullchain.pem").read_bytes()
    return load_pem_x509_certificate(pem).public_key().public_numbers()  # type: ignore[union-attr]


def test_to_the_pullers_key_by_itself_and_back_by_a_command(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
        with puller.running("run") as run:
            # --- there, by itself
            line.agent.call("change", WWW, "--key-origin", "puller")
            issued(line, 2)
            wait_until(lambda: leaf_sha256(place(puller)) == line.newest(), what="installed")
            assert key_is_the_leafs(puller)
            wait_until(lambda: line.agent.certificate(WWW)["csr"]["waits"], what="the next CSR")
            wait_until(lambda: delivered(line, puller), what="the receipt")
            own = public_key(puller)
            # --- a renewal waits for nobody, and has a fresh key
            line.agent.call("renew", WWW)
            issued(line, 3)
            wait_until(lambda: leaf_sha256(place(puller)) == line.newest(), what="installed")
            assert key_is_the_leafs(puller)
            assert public_key(puller) != own
            wait_until(lambda: line.agent.certificate(WWW)["csr"]["waits"], what="the next CSR")
            # --- back: asked for outside, refused inside, the old one serves
            before = active(place(puller))
            line.agent.call("change", WWW, "--key-origin", "agent")
            issued(line, 4)
            wait_until(
                lambda: "--key-origin any" in line.agent.certificate(WWW)["waits_for"],
                what="the agent says what it waits for",
            )
            wait_until(lambda: "--key-origin any" in waits_for(puller), what="so does the puller")
            assert active(place(puller)) == before
            assert run.ended is None
        puller.call("target", "change", WWW, "--key-origin", "any")
        pull_until(puller, line.newest())
        assert key_is_the_leafs(puller)
        assert line.agent.certificate(WWW)["waits_for"] == ""
        assert PendingKeys(puller.state, WWW).entries() == []
    assert len(line.ca.issued) == len(line.ca.orders) == 4
    found = kinds(line)
    assert found.count("csr-left") == 3
    assert "csr-refused" not in found


def test_renewal_wanted_while_no_csr_is_there(line: Line) -> None:
    token = line.agent.add(WWW, "--key-origin", "puller")
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        facts = line.agent.certificate(WWW)
        assert "a CSR from" in facts["waits_for"]
        assert not line.ca.orders
        puller.pull()
        issued(line, 1)
        pull_until(puller, line.newest())
        wait_until(lambda: line.agent.certificate(WWW)["csr"]["waits"])
        # The key of what is ordered now is lost inside; another takes its place by itself.
        before = line.agent.certificate(WWW)["issued"]["generation"]
        PendingKeys(puller.state, WWW).clear()
        line.agent.call("renew", WWW)
        second = published_after(line, before)
        assert puller.pull(expect=None).code == 8
        published_after(line, second)
        pull_until(puller, line.newest())
        assert key_is_the_leafs(puller)
    assert "key-lost" in kinds(line)


def test_one_machine_only(line: Line) -> None:
    token = line.agent.add(WWW, "--key-origin", "puller")
    with line.agent.serving():
        line.puller("puller", token, WWW)
        refused = line.agent.call("token", WWW, expect=4)
        assert "no second machine can have this certificate" in refused.err
        assert "external-agent puller revoke" in refused.err
