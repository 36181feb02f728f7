"""Keys that this machine makes: left ahead, kept apart, promoted only with their certificates."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_der_x509_csr

from internal_puller.pull import next_csr
from internal_puller.settings.targets import KEY_ALGORITHMS
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.waiting import waits_for
from internal_puller.state.pending import MOST_KEYS, PendingKeys
from shared.contract.errors import KeyMismatch, KeyOriginRefused, RequestRefused
from shared.contract.key_policy import KeyAlgorithm
from shared.contract.wire import Problem
from shared.contract.x509 import spki_sha256
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

pytestmark = pytest.mark.lab


@pytest.fixture
def agent(agent: FakeAgent) -> FakeAgent:
    agent.own_keys.add(NAME)
    return agent


def pending(machine: Machine) -> PendingKeys:
    return PendingKeys(machine.settings.state_directory, NAME)


def csr_key(agent: FakeAgent) -> str:
    """The key of the CSR that waits at the agent."""
    return spki_sha256(load_der_x509_csr(agent.csrs[NAME]))


def installed_key(machine: Machine) -> str:
    pem = (machine.targets()[0].directory / "current" / "privkey.pem").read_bytes()
    key = load_pem_private_key(pem, None)
    return spki_sha256(key)  # type: ignore[arg-type]


def waiting(machine: Machine) -> str:
    return waits_for(
        NAME, machine.progress.of(NAME), pending(machine), installed=machine.active() or 0
    )


def test_the_names_of_algorithms_are_those_of_the_contract() -> None:
    assert list(KEY_ALGORITHMS) == [str(one) for one in KeyAlgorithm]


def test_first_a_csr_then_a_certificate_then_the_next_csr(
    agent: FakeAgent, machine: Machine
) -> None:
    machine.target(agent)
    report = machine.pull()
    assert (report.exit_code, report.csrs_left) == (0, [NAME])
    first = csr_key(agent)
    assert machine.active() is None
    assert "get a certificate" in waiting(machine)
    before = len(agent.requests)
    assert machine.pull().csrs_left == []
    assert agent.requests[before:] == ["GET /v1/certificates"], "nothing more to say"

    issued = agent.issue(NAME)
    report = machine.pull()
    assert [one.word for one in report.outcomes] == ["installed"]
    assert machine.active() == issued.generation
    assert installed_key(machine) == first
    assert report.csrs_left == [NAME], "the next one is left at once"
    assert csr_key(agent) != first
    assert waiting(machine) == ""
    assert [one.error for one in agent.receipts] == ["none"]


def test_the_key_is_kept_until_a_newer_generation_is_in_place(
    agent: FakeAgent, machine: Machine
) -> None:
    machine.target(agent)
    spkis = []
    for _ in range(3):
        machine.pull()
        spkis.append(csr_key(agent))
        agent.issue(NAME)
        assert machine.pull().exit_code == 0
        assert installed_key(machine) == spkis[-1]
        assert [one.spki for one in pending(machine).entries()] == [spkis[-1], csr_key(agent)]
    second = machine.target(agent, directory=machine.base / "second")
    assert machine.pull().exit_code == 0, "the same generation once more, with the same key"
    assert machine.active(second) == machine.active()


def test_files_are_private(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    previous = os.umask(0)
    try:
        machine.pull()
    finally:
        os.umask(previous)
    top = machine.settings.state_directory / "pending"
    modes = {path: path.stat().st_mode & 0o777 for path in (top, *top.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert [mode for path, mode in modes.items() if path.is_file()] == [0o600]
    (file,) = [path for path in modes if path.is_file()]
    file.chmod(0o644)
    agent.issue(NAME)
    report = machine.pull()
    assert "other users can get at it" in report.errors[0].what
    assert machine.active() is None


def test_a_target_that_had_an_own_key_takes_no_other(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    machine.pull()
    agent.issue(NAME)
    machine.pull()
    assert machine.state.own_keys() == {NAME}
    assert machine.targets()[0].key_origin == "any", "what an administrator decides is left alone"
    old = machine.active()
    agent.own_keys.clear()
    agent.issue(NAME)
    report = machine.pull()
    assert [type(error) for error in report.errors] == [KeyOriginRefused]
    assert agent.receipts[-1].error == "bundle/key-origin-refused"
    assert machine.active() == old
    assert "--key-origin any" in waiting(machine)


def test_from_the_agents_key_to_an_own_one_by_itself(agent: FakeAgent, machine: Machine) -> None:
    agent.own_keys.clear()
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    assert agent.left == []
    agent.own_keys.add(NAME)
    assert machine.pull().csrs_left == [NAME]
    issued = agent.issue(NAME)
    machine.pull()
    assert machine.active() == issued.generation
    assert machine.state.own_keys() == {NAME}
    assert machine.targets()[0].key_origin == "any", "what an administrator decides is left alone"


# --- a defined way on ------------------------------------------------------------------------


def test_lost_before_anything_was_issued(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    machine.pull()
    first = csr_key(agent)
    pending(machine).clear()
    assert machine.pull().csrs_left == [NAME], "unasked"
    assert csr_key(agent) != first
    issued = agent.issue(NAME)
    machine.pull()
    assert machine.active() == issued.generation


def test_lost_when_the_certificate_has_come(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    machine.pull()
    agent.issue(NAME)
    pending(machine).clear()
    report = machine.pull()
    assert [type(error) for error in report.errors] == [KeyMismatch]
    assert agent.receipts[-1].error == "bundle/key-mismatch"
    assert report.csrs_left == [NAME], "for the generation that takes its place"
    issued = agent.issue(NAME)
    assert machine.pull().exit_code == 0
    assert machine.active() == issued.generation


def test_a_damaged_key_is_a_lost_one(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    machine.pull()
    (entry,) = pending(machine).entries()
    path = machine.settings.state_directory / "pending" / NAME / entry.name
    path.write_bytes(path.read_bytes()[:100])
    agent.issue(NAME)
    assert [type(error) for error in machine.pull().errors] == [KeyMismatch]
    machine.pull()
    issued = agent.issue(NAME)
    assert machine.pull().exit_code == 0
    assert machine.active() == issued.generation


def test_a_csr_that_did_not_arrive_is_left_again(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.fault, agent.faulty = "cut", lambda path: path.endswith("/csr")
    report = machine.pull()
    assert report.exit_code == 7
    assert report.csrs_left == []
    agent.fault = None
    agent.csrs.clear()  # it did not arrive
    machine.pull()
    assert len(pending(machine).entries()) == 1
    assert agent.left[0] == agent.left[1], "the very same"


def test_a_csr_that_no_certificate_came_for(agent: FakeAgent, machine: Machine) -> None:
    """The agent wants another: the key is not certified twice, and the older one goes."""
    machine.target(agent)
    machine.pull()
    first = csr_key(agent)
    agent.used_keys.add(first)
    agent.csrs.clear()
    assert machine.pull().csrs_left == [NAME]
    second = csr_key(agent)
    assert second != first
    assert [one.spki for one in pending(machine).entries()] == [first, second]
    agent.issue(NAME)
    machine.pull()
    assert installed_key(machine) == second
    assert first not in pending(machine).by_spki()


def test_a_certificate_for_an_older_csr(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    machine.pull()
    older = agent.csrs.pop(NAME)
    agent.used_keys.add(spki_sha256(load_der_x509_csr(older)))  # frozen in an order
    machine.pull()
    newer = agent.csrs[NAME]
    agent.csrs[NAME] = older
    issued = agent.issue(NAME)
    agent.csrs[NAME] = newer
    report = machine.pull()
    assert machine.active() == issued.generation
    assert report.csrs_left == [], "the newer one still waits"
    agent.issue(NAME)
    assert machine.pull().exit_code == 0
    assert installed_key(machine) == spki_sha256(load_der_x509_csr(newer))


def test_at_most_four_keys(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    for _ in range(MOST_KEYS + 2):
        machine.pull()
        agent.used_keys.add(csr_key(agent))
        agent.csrs.clear()
    assert len(pending(machine).entries()) == MOST_KEYS
    machine.pull()
    assert csr_key(agent) in pending(machine).by_spki()


def test_other_names_make_another_csr(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    machine.pull()
    agent.certificates[NAME] = (NAME, "app.example.org")
    agent.csrs.clear()
    assert machine.pull().csrs_left == [NAME]
    names = load_der_x509_csr(agent.csrs[NAME])
    assert "app.example.org" in str(names.extensions)


def test_a_csr_that_the_agent_does_not_take(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    puller = machine.puller()
    refuse = Problem("csr-refused", "csr-refused", 422, "No, said the agent.")
    agent._take_csr = _refusing(refuse)  # type: ignore[method-assign]
    report = puller.pull()
    assert [type(error) for error in report.errors] == [RequestRefused]
    assert "No, said the agent." in waiting(machine)
    assert pending(machine).entries() == [], "a key that nothing will be made from"
    before = len(agent.requests)
    puller.pull()
    assert agent.requests[before:] == ["GET /v1/certificates"], "not again at once"
    puller.close()


def _refusing(problem: Problem) -> Callable[[str, bytes], bytes]:
    from tests.fake_agent import _Refusal

    def refuse(certificate: str, der: bytes) -> bytes:
        raise _Refusal(problem)

    return refuse


@pytest.mark.parametrize("algorithm", ["ec-p384", "rsa-2048"])
def test_the_kind_of_key(agent: FakeAgent, machine: Machine, algorithm: str) -> None:
    machine.change(key_algorithm="rsa-2048")
    machine.target(agent, key_algorithm=algorithm if algorithm != "rsa-2048" else None)
    machine.pull()
    key = load_der_x509_csr(agent.csrs[NAME]).public_key()
    assert key.key_size == int(algorithm.rpartition("-")[2].lstrip("p"))  # type: ignore[union-attr]
    agent.issue(NAME)
    assert machine.pull().exit_code == 0


def test_targets_that_want_different_keys(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent, key_algorithm="ec-p256")
    machine.target(agent, directory=machine.base / "second", key_algorithm="ec-p384")
    report = machine.pull()
    assert report.exit_code == 3
    assert "different keys: ec-p256 and ec-p384" in report.errors[0].what


def test_no_csr_without_a_target(agent: FakeAgent, machine: Machine) -> None:
    machine.pull()
    assert agent.left == []


# --- killed ----------------------------------------------------------------------------------

_STEPS = {
    "before the key": (next_csr, "_make", "before"),
    "between key and CSR": (next_csr, "_make", "after"),
    "between CSR and answer": (RelayClient, "leave_csr", "after"),
    "certificate noted": (PendingKeys, "came", "after"),
    "before the keys before it go": (PendingKeys, "in_place", "before"),
    "while they go": (PendingKeys, "_remove", "before"),
}


def killed_pull(machine: Machine, owner: object, name: str, side: str) -> bool:
    """Pull in a process that dies at a step; tell whether it got there."""
    child = os.fork()
    if child == 0:
        inner = getattr(owner, name)

        def around(*args: object, **named: object) -> object:
            if side == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = inner(*args, **named)
            os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, around)
        try:
            machine.pull()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("step", _STEPS)
def test_killed_while_it_makes_a_key(agent: FakeAgent, machine: Machine, step: str) -> None:
    machine.target(agent)
    reached = killed_pull(machine, *_STEPS[step])
    for _ in range(3):
        machine.pull()
        issued = agent.issue(NAME)
        reached = killed_pull(machine, *_STEPS[step]) or reached
        report = machine.pull()
        assert report.exit_code == 0
        assert machine.active() == issued.generation
        assert installed_key(machine) == issued.spki_sha256
        machine.pull()
        assert csr_key(agent) in pending(machine).by_spki(), "the next one's key is here"
        assert len(pending(machine).entries()) <= MOST_KEYS
    assert reached
    assert len({one.spki_sha256 for one in agent.issued[NAME]}) == 3, "a fresh key each time"


def test_no_left_overs(agent: FakeAgent, machine: Machine, tmp_path: Path) -> None:
    machine.target(agent)
    for _ in range(2):
        machine.pull()
        agent.issue(NAME)
    machine.pull()
    names = sorted(path.name for path in (machine.state.path / "pending" / NAME).iterdir())
    assert names == [one.name for one in pending(machine).entries()]
