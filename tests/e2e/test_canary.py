"""No private key of a server, and no token, is found where it must not be: memory, disk, wire."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from internal_puller.state.pending import PendingKeys
from shared.contract.enrolment_token import EnrolmentToken
from tests import cores
from tests.canary import Secret, find, find_in_files, private_key, secret, secrets_of
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.line import Agent, Puller, installed, wait_until
from tests.recorder import Recorder, passing_on

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="to look into processes takes root"),
]
WWW = "www.intra.example.com"


# --- the search itself: a process that holds a key is found out -------------------------------

_HOLDER = """
import ctypes, mmap, sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key
how, pem = sys.argv[1], sys.stdin.buffer.read()
key = load_pem_private_key(pem, None)
number = key.private_numbers().private_value
if how == "openssl":
    held = key
elif how == "integer":
    held = number
elif how == "octets":
    held = number.to_bytes(32, "big")
elif how == "not to be dumped":
    held = mmap.mmap(-1, mmap.PAGESIZE)
    held.madvise(mmap.MADV_DONTDUMP)
    held.write(number.to_bytes(32, "big"))
elif how == "freed":
    held = [bytearray(number.to_bytes(32, "big") * 2) for _ in range(50)]
    held.clear()
if how != "openssl":
    del key
del pem, number
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
print("ready", flush=True)
import signal
signal.pause()
"""


@contextlib.contextmanager
def holder(how: str, pem: bytes) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    try:
        process.stdin.write(pem)
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("how", ["openssl", "integer", "octets", "not to be dumped", "freed"])
def test_a_process_that_holds_a_key_is_found_out(how: str, tmp_path: Path) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with holder(how, pem) as pid:
        core = cores.dump(pid, tmp_path)
    assert find_in_files([core], [private_key("held", pem)]) != []
    assert find_in_files([core], [private_key("another", other)]) == []


# --- the agent --------------------------------------------------------------------------------


@dataclass
class Line:
    """An agent, a CA and a puller, and what passes between them."""

    ca: LabCa
    agent: Agent
    puller: Puller
    relay: Recorder
    challenges: Recorder
    said: list[str]

    def keys(self) -> list[bytes]:
        """The private keys installed so far."""
        generations = installed(self.puller.base / "tls" / WWW)
        return [(path / "privkey.pem").read_bytes() for path in generations.values()]

    def pull_until(self, generations: int) -> None:
        def pulled() -> bool:
            done = self.puller.pull()
            self.said += [done.out, done.err]
            return len(self.keys()) == generations

        wait_until(pulled, what=f"{generations} generations are installed")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    challenge_port, relay_port, operator_port = free_port(), free_port(), free_port()
    near = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    far = passing_on(ssl.create_default_context())
    with (
        Recorder(lambda: ("127.0.0.1", challenge_port)) as challenges,
        Recorder(lambda: ("127.0.0.1", relay_port), server=near, client=far) as relay,
        LabCa(http_port=challenges.port, retry_after=None) as ca,
    ):
        agent = Agent(
            tmp_path / "agent", RELAY_AGENT_LOG__LEVEL="debug", RELAY_AGENT_LOG__FORMAT="json"
        )
        agent.init(
            *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay.port}"),
            *("--challenge-listen", f"127.0.0.1:{challenge_port}"),
            *("--relay-listen", f"127.0.0.1:{relay_port}"),
            *("--operator-listen", f"127.0.0.1:{operator_port}"),
        )
        near.load_cert_chain(agent.state / "relay-tls.pem", agent.state / "relay-tls.key")
        puller = Puller(tmp_path / "puller")
        yield Line(ca, agent, puller, relay, challenges, [])


def test_no_key_is_left_outside(line: Line, tmp_path: Path) -> None:
    token = line.agent.add(WWW)
    dumps = tmp_path / "cores"
    dumps.mkdir()
    with line.agent.serving() as serving:
        enrolled = line.puller.enroll(token)
        line.said += [enrolled.out, enrolled.err]
        line.puller.target(WWW, line.ca.root_pem)
        line.pull_until(1)
        with line.puller.running("run", "--verbose") as run:
            line.agent.call("renew", WWW)
            wait_until(lambda: len(line.keys()) == 2, what="the second one is installed")
            wait_until(lambda: line.agent.certificate(WWW)["attempt"] is None)
        line.said += [run.text()]
        agent_family = cores.family(serving.pid)
        assert len(agent_family) > 1, "the process that makes keys is one of them"
        shown = [_arguments_and_environment(pid) for pid in agent_family]
        copied = shutil.copytree(
            line.agent.state,
            tmp_path / "state while it runs",
            ignore=shutil.ignore_patterns("*.sock"),
        )
        dumped = [cores.dump(pid, dumps) for pid in agent_family]
        answers = _answers(line)
    forbidden = [private_key(f"key {n}", pem) for n, pem in enumerate(line.keys(), 1)]
    assert len(forbidden) == 2
    seed = EnrolmentToken.decode(token, now=0).seed
    forbidden += [secret("token seed", seed), secret("token text", base64.b64encode(seed))]
    forbidden += [
        secret(name, (line.puller.state / f"{name}.key").read_bytes())
        for name in ("signing", "sealing")
    ]
    own = _own_secrets(line.agent)

    # The dumps are real: what the agent must hold is in them.
    held = [one for one in own if one.name == "agent-signing.key"]
    assert any(find_in_files([core], held) for core in dumped)

    assert find_in_files(dumped, forbidden) == []
    assert find_in_files([line.agent.state, copied, serving.log], forbidden) == []
    for octets in (*_wire(line), *shown, *answers, *(text.encode() for text in line.said)):
        assert find(octets, [*forbidden, *own]) == []
        assert token.removeprefix("shr1_").encode() not in octets
    own_files = {state / one.name for one in own for state in (line.agent.state, copied)}
    assert (
        find_in_files([line.agent.state, copied, serving.log], own, besides=sorted(own_files)) == []
    )
    assert token not in serving.text()


def test_a_key_born_inside_never_comes_out(line: Line, tmp_path: Path) -> None:
    token = line.agent.add(WWW, "--key-origin", "puller")
    dumps = tmp_path / "cores"
    dumps.mkdir()
    with line.agent.serving() as serving:
        line.puller.enroll(token)
        line.puller.target(WWW, line.ca.root_pem)
        line.pull_until(1)
        with line.puller.running("run", "--verbose") as run:
            line.agent.call("renew", WWW)
            wait_until(lambda: len(line.keys()) == 2, what="the second one is installed")
            wait_until(lambda: line.agent.certificate(WWW)["csr"]["waits"], what="the next CSR")
        line.said += [run.text()]
        agent_family = cores.family(serving.pid)
        shown = [_arguments_and_environment(pid) for pid in agent_family]
        copied = shutil.copytree(
            line.agent.state,
            tmp_path / "state while it runs",
            ignore=shutil.ignore_patterns("*.sock"),
        )
        dumped = [cores.dump(pid, dumps) for pid in agent_family]
        answers = _answers(line)
    pending = PendingKeys(line.puller.state, WWW).by_spki()
    in_place = line.keys()
    born = [load_pem_private_key(pem, None) for pem in in_place]
    born += [load_der_private_key(der, None) for der in pending.values()]
    scalars = {key.private_numbers().private_value: key for key in born}  # type: ignore[union-attr]
    assert len(scalars) == 3, "two that are or were in place, and the next one"
    forbidden = [
        one
        for number, key in enumerate(scalars.values(), 1)
        for one in secrets_of(f"born inside {number}", key)  # type: ignore[arg-type]
    ]

    # The dumps and the recordings are real: the agent's own key and the public halves are there.
    held = [one for one in _own_secrets(line.agent) if one.name == "agent-signing.key"]
    assert any(find_in_files([core], held) for core in dumped)
    wire = _wire(line)
    assert wire[0].count(b"PUT /v1/certificates/") == 3
    points = [
        key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for key in scalars.values()
    ]
    assert all(point in wire[0] for point in points)

    assert find_in_files(dumped, forbidden) == []
    assert find_in_files([line.agent.state, copied, serving.log], forbidden) == []
    for octets in (*wire, *shown, *answers, *(text.encode() for text in line.said)):
        assert find(octets, forbidden) == []


def _own_secrets(agent: Agent) -> list[Secret]:
    """What the agent keeps in files of their own, and nowhere else."""
    return [
        secret("agent-signing.key", (agent.state / "agent-signing.key").read_bytes()),
        *(
            private_key(name, (agent.state / name).read_bytes())
            for name in ("account.key", "relay-tls.key")
        ),
    ]


def _arguments_and_environment(pid: int) -> bytes:
    process = Path(f"/proc/{pid}")
    return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()


def _wire(line: Line) -> list[bytes]:
    """All that passed; each of the three wires was really used."""
    relay, challenges = line.relay.recorded, line.challenges.recorded
    assert b"POST /v1/enrolments" in relay and b"/v1/receipts" in relay
    assert challenges.count(b"GET /.well-known/acme-challenge/") == 2
    ca = [entry.payload for entry in line.ca.log]
    assert len(line.ca.issued) == 2 and any(b"csr" in payload for payload in ca)
    return [relay, challenges, *ca]


def _answers(line: Line) -> list[bytes]:
    """What an operator is shown."""
    commands = (("status", "--json"), ("puller", "list", "--json"), ("events", "--json"))
    shown = [line.agent.call(*command) for command in commands]
    return [(done.out + done.err).encode() for done in shown]
