"""Addresses to listen on, and the sockets behind them: bound here or passed by systemd."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.contract.errors import ConfigurationError, PortUnavailable

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and port."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address in ``127.0.0.1:80``, ``[::1]:80``; port 0 lets the system choose.

    Raises:
        ConfigurationError: anything else.
    """
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ip = ipaddress.ip_address(bare)
        number = int(port) if port.isascii() and port.isdigit() else -1
        if not 0 <= number <= 65535 or (ip.version == 6) != host.startswith("["):
            raise ValueError
    except ValueError:
        raise ConfigurationError(
            f"{text!r:.80} is not an address to listen on: write 0.0.0.0:80 or [::]:80."
        ) from None
    return Address(str(ip), number)


def network_of(peer: object) -> str | None:
    """Return what one visitor has for certain: an IPv4 address, or an IPv6 network of 64 bits.

    Args:
        peer: what ``accept`` says of the other end, or its host alone.

    Returns:
        ``None`` for this machine (loopback, a Unix socket), which is a reverse proxy or a tunnel
        and says nothing about who comes.
    """
    host = peer[0] if isinstance(peer, tuple) and peer else peer
    try:
        ip = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return None
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return None
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def passed_sockets(environ: Mapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """Return the sockets that systemd passed, by name (``FileDescriptorName=``).

    Raises:
        ConfigurationError: a passed descriptor is no listening stream socket.
    """
    if environ.get("LISTEN_PID") != str(pid) or not environ.get("LISTEN_FDS", "").isdigit():
        return {}
    count = int(environ["LISTEN_FDS"])
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    for index in range(count):
        name = names[index] if index < len(names) else "unknown"
        try:
            os.set_inheritable(_FIRST_PASSED + index, False)
            passed = socket.socket(fileno=_FIRST_PASSED + index)
            listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConfigurationError(
                f"Descriptor {_FIRST_PASSED + index} ({name}), passed by systemd, is no socket."
            ) from error
        if not listening or passed.type != socket.SOCK_STREAM:
            raise ConfigurationError(
                f"The socket {name!r:.40} that systemd passed is not a listening TCP socket."
            )
        passed.setblocking(False)
        found.setdefault(name, []).append(passed)
    return found


def bind(addresses: Sequence[Address], what: str) -> list[socket.socket]:
    """Bind and listen on every address.

    Without IPv6 in the kernel, ``[::]`` is left out as long as something else was bound.

    Raises:
        PortUnavailable: in use, or not permitted; nothing stays bound.
    """
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            with contextlib.suppress(_FamilyMissing):
                bound.append(_bind_one(address, what))
        if not bound:
            raise PortUnavailable(f"No address for the {what} listener exists on this machine.")
    except PortUnavailable:
        for one in bound:
            one.close()
        raise
    return bound


class _FamilyMissing(Exception):
    """The kernel has no such address family."""


def _bind_one(address: Address, what: str) -> socket.socket:
    try:
        listener = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:
        raise _FamilyMissing from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise PortUnavailable(
                f"The {what} listener may not bind {address}: ports below 1024 need a privilege.",
                do="Give the service CAP_NET_BIND_SERVICE, or let systemd pass the socket.",
            ) from error
        if address.host == "::" and error.errno == 99:  # EADDRNOTAVAIL: IPv6 is switched off
            raise _FamilyMissing from error
        raise PortUnavailable(
            f"The {what} listener cannot bind {address}: {os.strerror(error.errno or 0)}."
        ) from error
    return listener
