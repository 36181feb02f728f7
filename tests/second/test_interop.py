"""Each side of the product against the other side of the second implementation, over TLS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key

from tests.lab import LabCa, TableResolver
from tests.lab.ports import free_port
from tests.line import Agent, Puller, active, leaf_sha256, wait_until
from tests.second.other import OtherAgent, OtherPuller

pytestmark = [pytest.mark.second, pytest.mark.timeout(180)]
WWW, APP = "www.intra.example.com", "app.example.org"


@dataclass
class Line:
    """The real agent with the lab's CA, and the second implementation's puller."""

    ca: LabCa
    agent: Agent
    puller: OtherPuller
    root: Path

    def pull(self) -> Any:
        return self.puller.call("pull", str(self.root))

    def pulled(self) -> Any:
        """What the first pull that brings something says."""
        return wait_until(lambda: (done := self.pull())["receipts"] and done, what="a bundle")

    def has(self, certificate: str) -> str:
        """The digest of the leaf that the other puller has; its key is the leaf's."""
        pem = (self.puller.state / f"{certificate}.pem").read_bytes()
        leaf = x509.load_pem_x509_certificate(pem)
        key = load_der_private_key((self.puller.state / f"{certificate}.key").read_bytes(), None)
        assert key.public_key() == leaf.public_key()
        return hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()

    def newest(self) -> str:
        return hashlib.sha256(self.ca.issued[-1].der).hexdigest()

    def delivered(self, certificate: str = WWW) -> bool:
        found = self.agent.certificate(certificate)
        (one,) = found["pullers"]
        return bool(one["installed"]["generation"] == found["issued"]["generation"])


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    challenge, relay = free_port(), free_port()
    with LabCa(TableResolver(None), http_port=challenge, retry_after=None) as ca:
        agent = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json")
        agent.init(
            *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
            *("--challenge-listen", f"127.0.0.1:{challenge}"),
            *("--relay-listen", f"127.0.0.1:{relay}"),
            *("--operator-listen", f"127.0.0.1:{free_port()}"),
        )
        root = tmp_path / "root.pem"
        root.write_text(ca.root_pem)
        yield Line(ca, agent, OtherPuller(tmp_path / "puller"), root)


def test_the_other_puller_enrols_lists_waits_fetches_opens_and_reports(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        enrolled = line.puller.call("enrol", stdin=token + "\n")
        assert enrolled["granted"] == [{"certificate": WWW, "names": [WWW]}]
        done = line.pulled()
        assert [one["outcome"] for one in done["receipts"]] == ["installed"], done
        assert done["refused"] == []
        assert line.has(WWW) == line.newest()
        assert line.delivered()
        before = line.puller.call("list")
        with line.puller.begin("wait", "50") as held:  # the same state: the question is held
            line.agent.call("renew", WWW)
            out, _ = held.communicate(timeout=60)
        after = json.loads(out)
        assert after["version"] != before["version"]
        assert after["certificates"][0]["generation"] > before["certificates"][0]["generation"]
        assert line.pulled()["receipts"][0]["outcome"] == "installed"
        assert line.has(WWW) == line.newest()


def test_the_other_pullers_own_key_is_certified(line: Line) -> None:
    token = line.agent.add(WWW, "--key-origin", "puller")
    with line.agent.serving():
        line.puller.call("enrol", stdin=token)
        done = line.pulled()
        assert [one["error"] for one in done["receipts"]] == ["none"], done
        assert line.has(WWW) == line.newest()
        assert line.delivered()


def test_both_halves_of_a_diagnosis_and_what_it_gets_by_itself(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        line.puller.call("enrol", stdin=token)
        half = line.puller.call("examine")
        assert half["side"] == "agent", half
        assert line.puller.call("report") == {"refused": []}
        assert "own.example.com" in json.dumps(line.agent.status())


def test_a_refused_bundle_is_reported_by_the_documents_error(line: Line) -> None:
    token = line.agent.add(WWW)
    line.root.write_text(line.ca.tls_root_pem)  # not the root of what it issues
    with line.agent.serving():
        line.puller.call("enrol", stdin=token)
        (receipt,) = line.pulled()["receipts"]
        assert (receipt["outcome"], receipt["error"]) == ("refused", "bundle/untrusted-chain")
        assert not (line.puller.state / f"{WWW}.pem").exists()
        (mine,) = line.agent.certificate(WWW)["pullers"]
        assert "bundle/untrusted-chain" in json.dumps(mine)


def test_a_token_that_others_redeemed_is_refused_by_a_signed_answer(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        line.puller.call("enrol", stdin=token)
        late = OtherPuller(line.puller.state.with_name("late")).call("enrol", stdin=token)
        assert late["error"] == "token-used", late


def test_the_other_puller_rehearses_at_the_real_agent(line: Line, tmp_path: Path) -> None:
    token = line.agent.add(WWW)
    roots = tmp_path / "staging-tls.pem"
    with LabCa(TableResolver(None), http_port=line.ca.http_port, retry_after=None) as staging:
        roots.write_text(staging.tls_root_pem)
        line.root.write_text(staging.root_pem)
        with line.agent.config.open("a") as settings:
            settings.write(
                f'\n[acme.cas.staging]\ndirectory = "{staging.directory_url}"\n'
                f'terms_agreed = true\nca_root = "{roots}"\n'
            )
        line.agent.environment["RELAY_AGENT_ACME__STAGING"] = "staging"
        with line.agent.serving():
            line.puller.call("enrol", stdin=token)
            done = line.puller.call("rehearse", WWW, str(line.root))
        assert done.get("outcome") == "done", done
        assert done["manifest"]["names"] == [WWW]
        assert len(staging.issued) == 1


def test_a_puller_that_was_revoked_gets_nothing(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller.call("enrol", stdin=token)["puller"]
        line.pulled()
        line.agent.call("puller", "revoke", puller)
        assert line.puller.call("list") == {"error": "puller-revoked", "reason": ANY}


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path / "puller")


def test_the_other_agent_serves_the_real_puller(puller: Puller) -> None:
    with OtherAgent(WWW, f"{APP}=puller") as agent:
        puller.enroll(agent.token)
        places = {one: puller.target(one, agent.root_pem) for one in (WWW, APP)}
        leaf = agent.call(f"issue {WWW}")["leaf_sha256"]
        puller.pull()
        assert leaf_sha256(places[WWW]) == leaf
        state = agent.call("state")
        assert state["csrs"] == [APP], "the key that the puller makes"
        leaf = agent.call(f"issue {APP}")["leaf_sha256"]
        puller.pull()
        assert leaf_sha256(places[APP]) == leaf
        receipts = agent.call("state")["receipts"]
        found = {(one["certificate"], one["outcome"], one["error"]) for one in receipts}
        assert found >= {(one, "installed", "none") for one in (WWW, APP)}
        generations = {one["certificate"]: one["generation"] for one in receipts}
        assert generations == {one: active(place) for one, place in places.items()}


def test_the_real_puller_waits_at_the_other_agent(puller: Puller) -> None:
    with OtherAgent(WWW) as agent:
        puller.enroll(agent.token)
        place = puller.target(WWW, agent.root_pem)
        agent.call(f"issue {WWW}")
        with puller.running("run"):
            wait_until(lambda: leaf_sha256(place), what="the first")
            wait_until(lambda: agent.call("state")["waiting"], what="a question is held")
            leaf = agent.call(f"issue {WWW}")["leaf_sha256"]
            wait_until(lambda: leaf_sha256(place) == leaf, what="the second, by the question")


def test_the_real_puller_rehearses_at_the_other_agent(puller: Puller, tmp_path: Path) -> None:
    with OtherAgent(WWW) as agent:
        puller.enroll(agent.token)
        commands = ("--test-command", "true", "--reload-command", "true")
        place = puller.target(WWW, agent.root_pem, *commands)
        agent.call(f"issue {WWW}")
        puller.pull()
        before = active(place)
        said = puller.call("rehearse", WWW, "--root", str(puller.base / "root.pem"), "--json").out
        assert json.loads(said)["good"], said
        assert active(place) == before
