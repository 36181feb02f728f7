"""CSRs as they come over the relay API: signed answers, reasons in words, parked polls woken."""

from __future__ import annotations

import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from external_agent.settings import keys
from shared.contract.identifiers import parse_names
from shared.contract.key_policy import KeyAlgorithm, PrivateKey, generate_key
from shared.contract.wire import CERTIFICATES_PATH, Listing, Problem, csr_path
from shared.contract.x509 import make_csr
from tests.unit.external_agent.harness import CERTIFICATE, START, Answer, Client, RunningAgent


def csr(*names: str, key: PrivateKey | None = None) -> bytes:
    key = key or generate_key(KeyAlgorithm.EC_P256)
    return make_csr(key, parse_names(names or (CERTIFICATE,))).public_bytes(Encoding.DER)


def leave(client: Client, der: bytes) -> Answer:
    return client.send("PUT", csr_path(CERTIFICATE), der)


@pytest.fixture
def client(running: RunningAgent) -> Client:
    client = running.enrolled(CERTIFICATE)
    running.store.change_certificate(CERTIFICATE, key_origin="puller", now=START)
    return client


def test_taken_and_taken_again(running: RunningAgent, client: Client) -> None:
    der = csr()
    for _ in range(2):
        answer = leave(client, der)
        assert (answer.status, answer.body) == (200, b'{"accepted":true}')
        assert answer.signed
    waiting = running.store.waiting_csr(CERTIFICATE)
    assert waiting is not None
    assert (waiting.csr, waiting.puller) == (der, client.id)


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (b"", "not a PKCS#10 request"),
        (b"\x30\x80garbage", "not a PKCS#10 request"),
        (bytes(60000), "60000 octets"),
        (csr(CERTIFICATE, "app.example.org"), "'app.example.org' is not granted"),
        (csr(key=ec.generate_private_key(ec.SECP521R1())), "EC on secp521r1"),
    ],
    ids=["empty", "garbage", "large", "names", "curve"],
)
def test_refused_with_the_reason(
    running: RunningAgent, client: Client, der: bytes, why: str
) -> None:
    answer = leave(client, der)
    assert answer.status == 422
    assert answer.signed
    problem = Problem.decode(answer.body)
    assert problem.slug == "csr-refused"
    assert why in problem.detail
    assert running.store.waiting_csr(CERTIFICATE) is None


def test_the_account_key_is_no_key_of_a_certificate(running: RunningAgent, client: Client) -> None:
    account = keys.load_keys(running.settings.state_directory).account
    answer = leave(client, csr(key=account))
    assert "used before" in Problem.decode(answer.body).detail


def test_not_while_the_agent_makes_the_key(running: RunningAgent, client: Client) -> None:
    running.store.change_certificate(CERTIFICATE, key_origin="agent", now=START)
    assert "made by the agent" in Problem.decode(leave(client, csr()).body).detail


def test_a_parked_poll_sees_that_a_csr_is_wanted(running: RunningAgent, client: Client) -> None:
    leave(client, csr())
    listing = Listing.decode(client.get(CERTIFICATES_PATH).body)
    assert not listing.offers[0].csr_wanted
    answers: list[Listing] = []

    def wait() -> None:
        answer = client.get(CERTIFICATES_PATH, f"since={listing.version}&wait=20")
        answers.append(Listing.decode(answer.body))

    thread = threading.Thread(target=wait)
    thread.start()
    names = [CERTIFICATE, "app.example.org"]
    running.store.change_certificate(CERTIFICATE, names=names, now=START)
    thread.join(20)
    assert answers[0].offers[0].csr_wanted
