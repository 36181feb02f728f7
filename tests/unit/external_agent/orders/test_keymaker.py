"""Keys are made by a child that is gone at once and dumps no core; only sealed ones come back."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cryptography import x509

from external_agent.orders.keymaker import ProcessKeyMaker
from external_agent.orders.keymaker_messages import KeyAnswer, KeyRequest
from shared.contract.errors import ConfigurationError, KeysRefused
from shared.contract.key_policy import KeyAlgorithm, load_key
from shared.contract.sealing import Identity, SealContext
from shared.contract.x509 import dns_names, spki_sha256
from tests.memory_search import found_in_own_memory

pytestmark = pytest.mark.lab

AGENT = "a" * 64


@pytest.fixture(scope="module")
def maker() -> Iterator[ProcessKeyMaker]:
    with ProcessKeyMaker() as one:
        one.warm()
        yield one


def _request(*identities: Identity, **changes: object) -> KeyRequest:
    settings: dict[str, object] = {
        "names": ("www.intra.example.com",),
        "algorithm": KeyAlgorithm.EC_P256,
        "agent": AGENT,
        "certificate": "www",
        "generation": 7,
        "recipients": {f"p{n}": one.recipient.public for n, one in enumerate(identities)},
    }
    return KeyRequest(**{**settings, **changes})  # type: ignore[arg-type]


def _open(identity: Identity, sealed: bytes, spki: str, generation: int = 7) -> bytes:
    return identity.open(sealed, SealContext(AGENT, identity.id, generation, spki, "www"))


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm)[:4])
def test_every_recipient_gets_the_csr_s_key(
    maker: ProcessKeyMaker, algorithm: KeyAlgorithm
) -> None:
    identities = [Identity.generate() for _ in range(3)]
    made = maker.make(_request(*identities, algorithm=algorithm))
    csr = x509.load_pem_x509_csr(made.csr)
    assert csr.is_signature_valid
    assert dns_names(csr) == ("www.intra.example.com",)
    keys = [
        load_key(_open(one, made.sealed[f"p{n}"], made.spki_sha256))
        for n, one in enumerate(identities)
    ]
    assert {spki_sha256(key) for key in keys} == {made.spki_sha256} == {spki_sha256(csr)}


def test_each_key_is_new(maker: ProcessKeyMaker) -> None:
    made = {maker.make(_request(Identity.generate())).spki_sha256 for _ in range(10)}
    assert len(made) == 10


def test_many_threads_at_once(maker: ProcessKeyMaker) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(maker.make(_request(Identity.generate())).spki_sha256)
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 16


def test_a_recipient_nothing_can_be_sealed_to(maker: ProcessKeyMaker) -> None:
    with pytest.raises(KeysRefused):
        maker.make(_request(recipients={"p0": bytes(32)}))


def test_our_own_memory_never_holds_the_key(maker: ProcessKeyMaker, tmp_path: Path) -> None:
    identity = Identity.generate()
    made = maker.make(_request(identity))
    context = SealContext(AGENT, identity.id, 7, made.spki_sha256, "www")
    assert found_in_own_memory(identity, made.sealed["p0"], context, tmp_path) == []


def test_the_search_finds_a_key_that_is_there(maker: ProcessKeyMaker, tmp_path: Path) -> None:
    identity = Identity.generate()
    made = maker.make(_request(identity))
    context = SealContext(AGENT, identity.id, 7, made.spki_sha256, "www")
    opened = identity.open(made.sealed["p0"], context)
    assert found_in_own_memory(identity, made.sealed["p0"], context, tmp_path) != []
    assert opened


def _processes() -> list[psutil.Process]:
    return [
        one
        for one in psutil.Process().children(recursive=True)
        if "external_agent.orders.keymaker_process" in " ".join(one.cmdline())
    ]


def test_no_core_dump_and_nobody_left_over() -> None:
    of_others = {one.pid for one in _processes()}  # numbers begin anew, so the highest is no sign
    with ProcessKeyMaker() as maker:
        maker.warm()
        maker.make(_request(Identity.generate()))
        ours = [one for one in _processes() if one.ppid() == os.getpid()]
        (process,) = [one for one in ours if one.pid not in of_others]
        assert process.rlimit(resource.RLIMIT_CORE) == (0, 0)
        deadline = time.monotonic() + 5
        while process.children() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.children() == []
    psutil.wait_procs([process], timeout=5)
    assert not process.is_running()


# As its own user, because root may read everything; what is executed afterwards is the program.
_AS_A_USER = """
import ctypes, os
from external_agent.orders.keymaker_process import main
if os.geteuid() == 0:
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as after a start as that user
main()
"""


def test_nobody_reads_the_memory_of_what_makes_keys() -> None:
    """What may not be dumped belongs to root in /proc (proc(5)), and so does its memory."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _AS_A_USER],
            stdin=theirs.fileno(),
            env={"PYTHONPATH": str(Path(__file__).resolve().parents[4])},
        )
        try:
            ours.settimeout(60)
            assert ours.recv(1) == b"r"
            assert Path(f"/proc/{process.pid}/mem").stat().st_uid == 0
            assert Path(f"/proc/{process.pid}").stat().st_uid == (os.geteuid() or 65534)
        finally:
            process.kill()
            process.wait()


def test_each_key_has_a_process_of_its_own() -> None:
    identity = Identity.generate()
    with ProcessKeyMaker() as maker:
        maker.warm()
        assert maker._process is not None
        process = psutil.Process(maker._process.pid)
        request = _request(identity, algorithm=KeyAlgorithm.RSA_4096)
        thread = threading.Thread(target=maker.make, args=(request,))
        thread.start()
        seen = False
        while thread.is_alive() and not seen:
            seen = bool(process.children())
        thread.join()
    assert seen


def test_it_is_started_again_when_it_died() -> None:
    with ProcessKeyMaker() as maker:
        maker.warm()
        process = [one for one in _processes() if one.ppid() == os.getpid()][-1]
        process.kill()
        process.wait(5)
        assert maker.make(_request(Identity.generate())).csr


def test_it_ends_with_its_agent(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from external_agent.orders.keymaker import ProcessKeyMaker\n"
        "maker = ProcessKeyMaker(); maker.warm()\n"
        "print(maker._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[4])},
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    pid = int(ended.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_messages_survive_their_encoding() -> None:
    request = _request(Identity.generate(), names=("a.example.com", "*.b.example.com"))
    assert KeyRequest.decode(request.encode()) == request
    answer = KeyAnswer(b"csr", "0" * 64, {"p": b"\0\xff"})
    assert KeyAnswer.decode(answer.encode()) == answer


def test_a_process_that_hangs_is_ended_and_replaced() -> None:
    with ProcessKeyMaker(key_seconds=0.5) as maker:
        maker.warm()
        hung = maker._process
        assert hung is not None
        os.kill(hung.pid, signal.SIGSTOP)
        with pytest.raises(ConfigurationError, match=r"no answer within 0\.5 s"):
            maker.make(_request(Identity.generate()))
        assert hung.poll() == -signal.SIGKILL
        maker._key_seconds = 60.0
        assert maker.make(_request(Identity.generate())).spki_sha256
        assert maker._process is not hung


def test_who_waited_for_a_hung_process_ends_no_other() -> None:
    with ProcessKeyMaker() as maker:
        maker.warm()
        process = maker._process
        with subprocess.Popen(["sleep", "60"]) as earlier:
            maker._replace(earlier)
            assert earlier.poll() is None
            earlier.kill()
        assert maker._process is process
        assert process is not None
        assert process.poll() is None
