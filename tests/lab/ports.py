"""Ports for listeners that cannot be told to take any."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

_COUNTER: Final = Path(tempfile.gettempdir()) / f"split-horizon-relay-tests-port-{os.getuid()}"
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that is free, and that nobody else is told before thousands of others.

    It is below those that the kernel gives to whoever asks for any, so no connection and no other
    listener of the many processes of tests takes it between now and its use.
    """
    highest = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    descriptor = os.open(_COUNTER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        number = int(os.pread(descriptor, 16, 0) or _LOWEST)
        for _ in range(_LOWEST, highest):
            number = number + 1 if _LOWEST <= number < highest - 1 else _LOWEST
            if _is_free(number, host):
                os.pwrite(descriptor, f"{number:<16}".encode(), 0)
                return number
    finally:
        os.close(descriptor)
    raise AssertionError(f"no port from {_LOWEST} to {highest} is free")


def _is_free(number: int, host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError:
            return False
        return True
