"""Generations to install, and a TLS server that serves what its reload command copied."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from internal_puller.install import notes
from internal_puller.install.engine import Engine, Job
from internal_puller.install.material import Material
from internal_puller.outbox.outcome import Outcome
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError
from shared.contract.key_policy import key_to_pem

NAME = "www.intra.example.com"
NOW = 1_790_000_000


@functools.cache
def root() -> trustme.CA:
    return trustme.CA()


@functools.cache
def intermediate() -> trustme.CA:
    return root().create_child_ca()


def root_pem() -> str:
    return root().cert_pem.bytes().decode()


@functools.cache
def _issued(generation: int, name: str) -> trustme.LeafCert:
    del generation
    return intermediate().issue_cert(name)


def material(generation: int, name: str = NAME, certificate: str = NAME) -> Material:
    """A fresh leaf for each generation; the same one whenever it is asked for again."""
    issued = _issued(generation, name)
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    digest = f"{generation:064x}"
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Material(certificate, generation, digest, chain.decode(), key_to_pem(key))


@dataclass
class CopyServer:
    """Serves the files in ``loaded``; reloading copies them there."""

    port: int
    loaded: Path
    current: Path

    @property
    def reload_command(self) -> tuple[str, ...]:
        files = [str(self.current / name) for name in ("fullchain.pem", "privkey.pem")]
        return ("cp", "-L", *files, str(self.loaded))

    @property
    def point(self) -> ProbePoint:
        return ProbePoint("127.0.0.1", self.port, NAME)


@contextlib.contextmanager
def copy_server(base: Path, current: Path) -> Iterator[CopyServer]:
    loaded = base / "loaded"
    loaded.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = CopyServer(listener.getsockname()[1], loaded, current)
        thread = threading.Thread(target=_serve, args=(listener, loaded), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _serve(listener: socket.socket, loaded: Path) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError, ssl.SSLError):
            connection.settimeout(5)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(loaded / "fullchain.pem", loaded / "privkey.pem")
            context.wrap_socket(connection, server_side=True).close()


@dataclass
class Clock:
    """Monotonic seconds that pass only while somebody sleeps."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def is_noted(state: Path, target: Target) -> bool:
    """Tell whether an installation at a target did not end."""
    return any(str(target.directory) in note.members for note in notes.read_all(state))


def engine_of(target: Target, *, now: int = NOW, patient: bool = False) -> Engine:
    """Return the engine for one target; waiting costs no time, unless its server needs it."""
    clock = Clock()
    state = target.directory.parent / "state"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    waiting = {} if patient else {"monotonic": clock, "sleep": clock.sleep}
    return Engine([target], state, clock=lambda: float(now), **waiting)


def installed(target: Target, made: Material, *, force: bool = False) -> Outcome:
    """Install a generation at a real server, which takes its time."""
    [outcome] = engine_of(target, patient=True).install([Job(target, made, force)])
    return outcome


def rolled_back(target: Target, to: int | None = None) -> Outcome:
    [outcome] = engine_of(target, patient=True).roll_back([target], to)
    return outcome


def put(target: Target, generation: int, *, force: bool = False, now: int = NOW) -> Outcome:
    """Install a generation. Raises ``ConfigurationError`` where the target cannot be used."""
    made = material(generation, certificate=target.certificate)
    [outcome] = engine_of(target, now=now).install([Job(target, made, force)])
    if isinstance(outcome.error, ConfigurationError):
        raise outcome.error
    return outcome


def key_and_leaf_agree(directory: Path) -> bool:
    """Let OpenSSL judge the active files of a target."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(
            directory / "current/fullchain.pem", directory / "current/privkey.pem"
        )
    except (OSError, ssl.SSLError):
        return False
    return True
