"""Run in the place of a unit's own program: what the kernel lets that unit open, as JSON.

Argument: a file of JSON with `sockets` (paths of sockets and FIFOs), `secrets` (files of others).
Nothing is sent anywhere: to connect, or to open for writing, is what a mode forbids or not.
"""

import contextlib
import ctypes
import errno
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
_NAME_TO_HANDLE_AT, _OPEN_BY_HANDLE_AT = (
    (303, 304) if os.uname().machine == "x86_64" else (264, 265)
)


def opens(path: str) -> bool:
    """Tell whether a socket or a FIFO would have taken what we write."""
    try:
        if stat.S_ISFIFO(Path(path).stat().st_mode):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            return True
        for kind in KINDS:
            with contextlib.suppress(ProtocolError), socket.socket(socket.AF_UNIX, kind) as one:
                _connect(one, path)
                return True
    except OSError as error:
        return error.errno in (errno.ENXIO, errno.ECONNREFUSED, errno.EAGAIN)
    return False


class ProtocolError(Exception):
    """It is there, and of another kind."""


def _connect(one: socket.socket, path: str) -> None:
    one.setblocking(False)
    try:
        one.connect(path)
    except OSError as error:
        if error.errno == errno.EPROTOTYPE:
            raise ProtocolError from error
        raise


def reads(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def walk(top: str) -> dict[str, list[str]]:
    """Return what of others is to be written, and what is to be taken by a change of owner."""
    found: dict[str, list[str]] = {"writable": [], "takeable": []}
    own = os.geteuid()
    for folder, directories, files in os.walk(top):
        if folder == "/":
            directories.remove("proc")
        for name in (*directories, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - a path object costs a minute here
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if status.st_uid == own or stat.S_ISLNK(status.st_mode):
                continue
            if os.access(path, os.W_OK):
                found["writable"].append(path)
            with contextlib.suppress(OSError):
                os.chown(path, -1, -1, follow_symlinks=False)  # changes nothing; EROFS or not
                if capabilities()["CapEff"] & 1:
                    found["takeable"].append(path)
    return found


def capabilities() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        name: int(value, 16)
        for name, _, value in (line.partition(":\t") for line in lines)
        if name.startswith("Cap")
    }


def by_handle() -> list[str]:
    """Name the two calls that are not refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = (ctypes.c_uint32 * 64)(128)
    mount = ctypes.c_int()
    tried = {
        "name_to_handle_at": (
            *(_NAME_TO_HANDLE_AT, -100, b"/etc/shadow"),
            *(ctypes.byref(buffer), ctypes.byref(mount), 0),
        ),
        "open_by_handle_at": (_OPEN_BY_HANDLE_AT, -100, ctypes.byref(buffer), 0),
    }
    let = []
    for name, arguments in tried.items():
        ended, why = libc.syscall(*arguments), ctypes.get_errno()
        if (ended, why) != (-1, errno.EPERM):
            let.append(name)
    return let


def tricks(place: Path) -> dict[str, str]:
    """Try what CAP_CHOWN is good for, in a directory of ours; say how each one ended."""
    told = {}

    def attempt(name: str, *step: Any) -> None:
        try:
            step[0](*step[1:])
            told[name] = "done"
        except OSError as error:
            told[name] = errno.errorcode[error.errno or 0]

    file = place / "walk"
    file.write_text("#!/bin/sh\n")
    attempt("set-user-id of our own", os.chmod, file, 0o4755)
    attempt("a link to a file of root's", os.link, "/etc/shadow", place / "shadow")
    attempt("take a file of root's", os.chown, "/etc/shadow", os.geteuid(), -1)
    attempt("give it to root", os.chown, file, 0, 0)
    attempt("set-user-id of root's", os.chmod, file, 0o4755)
    attempt("set-group-id of root's", os.chmod, file, 0o2755)
    attempt("remove what was given away", os.unlink, file)
    attempt("a device", os.mknod, place / "device", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
    attempt("another user", os.setuid, 0)
    attempt("a namespace", _unshare)
    return told


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    reload = subprocess.run(["systemctl", "reload", "nginx"], capture_output=True, check=False)
    told = {
        "sockets": [path for path in asked["sockets"] if opens(path)],
        "secrets": [path for path in asked["secrets"] if reads(path)],
        "capabilities": capabilities(),
        "by_handle": by_handle(),
        "tricks": tricks(Path(asked["place"])),
        "systemctl": reload.returncode,
        **walk("/"),
    }
    json.dump(told, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
