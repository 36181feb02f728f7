"""A relay that misbehaves is no more than a transport failure, within bounded time and memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from external_agent.relay.problems import _TITLES
from internal_puller.sources.agent.client import _ENROLMENT_REFUSALS, _NEXT_STEPS
from internal_puller.sources.agent.network import UntimelyPeer
from shared.contract.errors import AnswerUnauthenticated, TransportError
from shared.contract.wire import Problem
from tests.fake_agent import FAULTS, FakeAgent
from tests.machine import NAME, Machine


@pytest.mark.parametrize("fault", sorted(FAULTS - {"cookie"}))
def test_fault_is_a_transport_error_and_changes_nothing(
    agent: FakeAgent, machine: Machine, fault: str
) -> None:
    machine.target(agent)
    issued = agent.issue(NAME)
    machine.pull()
    machine.change(timeout=0.5)
    agent.issue(NAME)
    agent.fault = fault
    begin = time.monotonic()
    report = machine.pull()
    assert time.monotonic() - begin < 5
    assert isinstance(report.contact, TransportError)
    assert report.exit_code == 7
    assert machine.active() == issued.generation
    agent.fault = None
    assert machine.pull().exit_code == 0


@pytest.mark.parametrize("fault", ["unsigned", "replayed", "wrong-key", "edited", "redirect"])
def test_unauthenticated_answers_are_named(agent: FakeAgent, machine: Machine, fault: str) -> None:
    machine.pull()
    agent.fault = fault
    assert isinstance(machine.pull().contact, AnswerUnauthenticated)


def test_redirect_is_not_followed(agent: FakeAgent, machine: Machine) -> None:
    agent.fault = "redirect"
    before = len(agent.requests)
    contact = machine.pull().contact
    assert contact is not None
    assert "redirects are not followed" in contact.do
    assert len(agent.requests) == before + 1


def test_a_body_is_cut_at_its_cap_long_before_the_time_is_over(
    agent: FakeAgent, machine: Machine
) -> None:
    """Else whoever sends quickly fills our memory within the time that is allowed."""
    machine.change(timeout=20)
    agent.fault = "endless-body"
    contact = machine.pull().contact
    assert isinstance(contact, TransportError)
    assert "larger than" in contact.what


def test_busy_agent_is_given_time(agent: FakeAgent, machine: Machine) -> None:
    agent.fault = "busy"
    contact = machine.pull().contact
    assert isinstance(contact, TransportError)
    assert contact.retry_after == 120


def test_no_cookies_and_no_compression(agent: FakeAgent, machine: Machine) -> None:
    agent.fault = "cookie"
    puller = machine.puller()
    puller.pull()
    puller.pull()
    puller.close()
    assert not any("cookie" in headers for headers in agent.headers)
    assert {headers["accept-encoding"] for headers in agent.headers} == {"identity"}


def test_fault_in_a_bundle_leaves_the_rest(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME)
    agent.fault, agent.faulty = "cut", lambda path: path.endswith("/bundle")
    report = machine.pull()
    assert report.exit_code == 7
    assert machine.active() is None
    agent.fault = None
    assert machine.pull().exit_code == 0


def test_another_tls_key_is_sent_nothing(
    agent: FakeAgent, machine: Machine, tmp_path: Path
) -> None:
    port = agent.port
    agent.stop()
    with FakeAgent(tmp_path, signing_key=agent.key) as other:
        enrolment = machine.state.require_enrolment()
        import dataclasses

        moved = dataclasses.replace(enrolment, relay_url=other.url)
        machine.state.save_enrolment(moved)
        report = machine.pull()
        assert isinstance(report.contact, TransportError)
        assert "pinned is" in report.contact.what
        assert "roots_file" in report.contact.do
        assert other.requests == []
    assert port != other.port


def test_relay_with_a_public_certificate(tmp_path: Path) -> None:
    with FakeAgent(tmp_path, host="localhost", public_tls=True) as agent:
        roots = tmp_path / "roots.pem"
        roots.write_bytes(agent.ca.root_pem)
        machine = Machine(tmp_path / "machine", roots_file=roots)
        machine.base.mkdir()
        machine.enrol(agent)
        assert machine.progress.tls_check == "roots"
        assert machine.pull().exit_code == 0
        machine.change(roots_file=None)
        report = machine.pull()
        assert isinstance(report.contact, TransportError)
        assert "verify" in report.contact.what


def test_relay_certificate_for_another_host(tmp_path: Path) -> None:
    with FakeAgent(tmp_path, host="localhost", public_tls=True) as agent:
        agent.url = agent.url.replace("localhost", "127.0.0.1")
        roots = tmp_path / "roots.pem"
        roots.write_bytes(agent.ca.root_pem)
        machine = Machine(tmp_path / "machine", roots_file=roots)
        machine.base.mkdir()
        with pytest.raises(TransportError, match="does not verify"):
            machine.enrol(agent)
        assert agent.requests == []


@pytest.mark.parametrize(
    ("days", "words"), [(2, "certificate is not yet valid"), (-200, "certificate has expired")]
)
def test_a_relay_certificate_that_is_wrong_for_the_time_of_day_alone(
    tmp_path: Path, days: int, words: str
) -> None:
    """Either it or this machine's clock is wrong, and the clock is looked at first."""
    begin = time.time() + days * 86400
    with FakeAgent(tmp_path, host="localhost", public_tls=True, tls_from=begin) as agent:
        roots = tmp_path / "roots.pem"
        roots.write_bytes(agent.ca.root_pem)
        machine = Machine(tmp_path / "machine", roots_file=roots)
        machine.base.mkdir()
        with pytest.raises(UntimelyPeer, match=words) as refused:
            machine.enrol(agent)
        assert "timedatectl" in refused.value.do
        assert agent.requests == []


SLUGS = sorted(_TITLES.keys() - _ENROLMENT_REFUSALS.keys())


@pytest.mark.parametrize("slug", SLUGS)
def test_a_signed_refusal_never_sends_anybody_to_the_network(
    agent: FakeAgent, machine: Machine, slug: str
) -> None:
    """Every problem that the agent knows: it was reached, and its signature was checked."""
    agent.refuse = Problem(slug, "title", _TITLES[slug][0], "No, said the agent.")
    contact = machine.pull().contact
    assert contact is not None
    assert slug == "clock" or "The agent refuses: No, said the agent." in contact.what
    assert contact.do == _NEXT_STEPS.get(slug, contact.do)
    assert "network" not in contact.do
    assert "proxy" not in contact.do or slug == "signature-malformed"


def test_an_agent_that_is_not_reached_is_a_matter_of_the_network(
    agent: FakeAgent, machine: Machine
) -> None:
    agent.stop()
    contact = machine.pull().contact
    assert contact is not None
    assert "cannot be reached" in contact.what
    assert "network" in contact.do
