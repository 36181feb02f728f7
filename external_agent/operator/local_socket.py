"""The Unix socket of the operator API: for root and the service's user, who need no token."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from external_agent.operator.callers import LOCAL_USER, STRANGER, THROUGH_SOCKET, user_name
from shared.contract.errors import PortUnavailable

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a short name of the same socket: the kernel takes 107 octets only (unix(7)).

    Raises:
        OSError: there is no such directory.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen(path: Path) -> socket.socket:
    """Return the listening socket, with mode 0600; one that was left behind is replaced.

    Only one agent runs with a state directory, so nobody listens on what is there.

    Raises:
        PortUnavailable: the directory is not there, or something else has that name.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove(path)
        with reachable(path) as short:
            os.fchmod(listener.fileno(), 0o600)  # bind takes the mode over: no moment is open
            listener.bind(short)
        path.chmod(0o600)
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise PortUnavailable(
            f"The operator socket {path} cannot be made: {os.strerror(error.errno or 0)}.",
            do="Name another one with operator.socket in the settings.",
        ) from error
    return listener


def take_away(path: Path) -> None:
    """Remove the socket's file, when nobody listens any more."""
    with contextlib.suppress(OSError):
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(17, "File exists")
        path.unlink()


def state_of(descriptor: int) -> dict[str, object]:
    """Return what the gate is told about who is at the other end of a connection."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family != socket.AF_UNIX:
            return {}
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    if uid not in (0, os.geteuid()):
        return {STRANGER: True}
    return {LOCAL_USER: user_name(uid), THROUGH_SOCKET: True}


def answers(path: Path) -> bool:
    """Tell whether somebody listens there for this user; a file may have been left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            with reachable(path) as short:
                connection.connect(short)
        except OSError:
            return False
        return True
