"""Has keys made, used and sealed by a child process, so that this one never holds a plaintext key.

A key stays in the memory of a long-lived process however carefully it is dropped: so a process
of its own, warm because it has imported everything, forks one child for each key.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import Protocol, Self

from external_agent.orders.keymaker_messages import KeyAnswer, KeyRequest
from external_agent.records.rows import PreparedKey
from shared.contract.errors import ConfigurationError, KeysRefused

_START_SECONDS = 60.0
_KEY_SECONDS = 130.0  # more than a child may take
_MODULE = "external_agent.orders.keymaker_process"


class KeyMaker(Protocol):
    """Makes one key, and hands back what is not secret of it."""

    def make(self, request: KeyRequest) -> PreparedKey: ...


class ProcessKeyMaker:
    """A :class:`KeyMaker` over one warm process, shared by all threads.

    Args:
        key_seconds: for one key; a process that takes longer is ended and replaced.

    Close it, or use it as a context manager: the process ends with it, or with ours.
    """

    def __init__(self, key_seconds: float = _KEY_SECONDS) -> None:
        self._key_seconds = key_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make(self, request: KeyRequest) -> PreparedKey:
        """Return CSR and sealed keys; about 20 ms for EC P-256 once the process is warm.

        Raises:
            KeysRefused: a recipient's key is unusable.
            ConfigurationError: the process does not start or answer.
        """
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(self._key_seconds)
            with theirs:
                process = self._hand_over(theirs)
            try:
                answer = _exchange(ours, request)
            except TimeoutError as error:
                self._replace(process)
                raise ConfigurationError(
                    f"The process that makes keys gave no answer within {self._key_seconds:g} s; "
                    "it was ended, and the next attempt begins with a new one.",
                    do="See whether this machine is overloaded or has too little memory.",
                ) from error
        if answer.error:
            raise KeysRefused(answer.error)
        return PreparedKey(answer.csr, answer.spki_sha256, dict(answer.sealed or {}))

    def warm(self) -> None:
        """Start the process now rather than with the first key."""
        with self._lock:
            self._ready()

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _hand_over(self, theirs: socket.socket) -> subprocess.Popen[bytes] | None:
        """Give the other end to the process; once more if it has died since."""
        with self._lock:
            try:
                socket.send_fds(self._ready(), [b"k"], [theirs.fileno()])
            except OSError:
                self._stop()
                socket.send_fds(self._ready(), [b"k"], [theirs.fileno()])
            return self._process

    def _replace(self, process: subprocess.Popen[bytes] | None) -> None:
        """End a process that hangs; its children, which work for other threads, go on."""
        with self._lock:
            if process is not None and process is self._process:
                process.kill()
                self._stop()

    def _ready(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                close_fds=True,
            )
        self._control = ours
        ours.settimeout(_START_SECONDS)
        try:
            greeting = ours.recv(1)
        except OSError:
            greeting = b""
        if greeting != b"r":
            self._stop()
            raise ConfigurationError(
                "The process that makes keys did not start.", do="Read its message above."
            )
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _exchange(connection: socket.socket, request: KeyRequest) -> KeyAnswer:
    parts: list[bytes] = []
    try:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            parts.append(piece)
        return KeyAnswer.decode(b"".join(parts))
    except TimeoutError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            "The process that makes keys gave no answer.",
            do="See whether this machine has enough memory.",
        ) from error
