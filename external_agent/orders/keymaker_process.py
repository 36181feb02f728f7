"""The process that forks one short-lived child for each key; no plaintext key outlives its child.

Started by ``external_agent.orders.keymaker`` with one end of a socket pair as its standard input.
Each message on it carries a descriptor: the child reads a request there, answers, and is gone. The
parent of the children imports everything once and never makes a key itself.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys

from cryptography.hazmat.primitives.serialization import Encoding

from external_agent.orders.keymaker_messages import KeyAnswer, KeyRequest
from shared.contract.errors import RelayError
from shared.contract.identifiers import DnsName
from shared.contract.key_policy import generate_key, key_to_der
from shared.contract.sealing import Recipient, SealContext
from shared.contract.x509 import make_csr, spki_sha256

LONGEST = 120
"""Seconds for one key; RSA 4096 on a small machine takes some."""

_PR_SET_DUMPABLE = 4
_MAX_REQUEST = 4 * 1024 * 1024


def make_key(request: KeyRequest) -> KeyAnswer:
    """Make a key, sign its CSR, seal it to every recipient; only a child may call this.

    Raises:
        KeysRefused: something cannot be sealed to a recipient.
    """
    key = generate_key(request.algorithm)
    csr = make_csr(key, [DnsName.parse(name) for name in request.names])
    digest = spki_sha256(key)
    der = key_to_der(key)
    sealed: dict[str, bytes] = {}
    for puller, public in request.recipients.items():
        recipient = Recipient(public)
        context = SealContext(
            request.agent, recipient.id, request.generation, digest, request.certificate
        )
        sealed[puller] = recipient.seal(der, context)
    return KeyAnswer(csr=csr.public_bytes(Encoding.PEM), spki_sha256=digest, sealed=sealed)


def forbid_core_dumps() -> None:
    """No core file, and no reading of our memory by other processes of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def serve(control: socket.socket) -> None:
    """Fork a child for each descriptor received, until the other end is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        except InterruptedError:
            continue
        if not message or not descriptors:
            return
        if os.fork() == 0:
            control.close()
            _child(descriptors[0])
        os.close(descriptors[0])


def _child(descriptor: int) -> None:
    """Answer one request and end, without running anything the parent has registered."""
    try:
        signal.alarm(LONGEST)
        with socket.socket(fileno=descriptor) as answer:
            answer.sendall(_answer(_read(answer)).encode())
    finally:
        os._exit(0)


def _read(connection: socket.socket) -> KeyRequest:
    parts: list[bytes] = []
    size = 0
    while piece := connection.recv(65536):
        parts.append(piece)
        size += len(piece)
        if size > _MAX_REQUEST:
            raise ValueError("request too long")
    return KeyRequest.decode(b"".join(parts))


def _answer(request: KeyRequest) -> KeyAnswer:
    try:
        return make_key(request)
    except RelayError as error:
        return KeyAnswer(error=error.what)


def main() -> None:
    # Ctrl-C in a terminal goes to the whole group; this process ends when its agent does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forbid_core_dumps()
    with socket.socket(fileno=os.dup(0)) as control:
        control.sendall(b"r")
        serve(control)


if __name__ == "__main__":
    main()
