"""Asking a unit of root's over its socket: one connection, what is asked, what is answered."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Final

from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

MAX_REQUEST: Final = 9 << 20
"""Octets: of as many members as a step may have, each with the longest path that Linux takes."""
_CHUNK: Final = 1 << 16
READ_SECONDS: Final = 5.0
"""In which a whole request is there: it is small, and its sender is on this machine."""
START_SECONDS: Final = 20.0
"""In which a unit takes up its work, on a busy machine, too."""
_PAUSE_SECONDS: Final = 0.2


def exchange(place: Path, request: bytes, seconds: float, most: int) -> bytes:
    """Return the answer to a request; empty if the unit says nothing.

    Who is closed unanswered asks again: more asked at once than systemd lets in, nothing was done.

    Args:
        place: the socket.
        seconds: that the unit may take, beside its start.
        most: octets; of a longer answer that many and a few more.

    Raises:
        OSError: it could not be reached, or did not answer in time.
    """
    patience = time.monotonic() + START_SECONDS
    while not (answer := _answer_to(place, request, seconds, most)):
        if time.monotonic() > patience:
            break
        time.sleep(_PAUSE_SECONDS)
    return answer


def _answer_to(place: Path, request: bytes, seconds: float, most: int) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds + START_SECONDS)
        connection.connect(str(place))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        found = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while len(found) <= most and (some := connection.recv(_CHUNK)):
                found += some
        return bytes(found)


def read_request(descriptor: int) -> bytes:
    """Return a request, or the beginning of what is too large to be one.

    Raises:
        ConfigurationError: its end did not come within ``READ_SECONDS``.
    """
    found = bytearray()
    deadline = time.monotonic() + READ_SECONDS
    while len(found) <= MAX_REQUEST:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise ConfigurationError(f"The request did not end within {READ_SECONDS:g} s.")
        some = os.read(descriptor, _CHUNK)
        if not some:
            break
        found += some
    return bytes(found)
