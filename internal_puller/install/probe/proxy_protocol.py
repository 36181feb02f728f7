"""The header by which a proxy says for whom it connects, versions 1 and 2.

https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt, sections 2.1 and 2.2. A listener that
expects one takes no connection without; it is told the truth: this machine, for itself.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY_BY_TCP: Final = {4: b"\x21\x11", 6: b"\x21\x21"}


def header(connection: socket.socket, version: int) -> bytes:
    """Return the header of version 1 or 2 for a connected TCP socket."""
    ours, theirs = connection.getsockname(), connection.getpeername()
    ends = [ipaddress.ip_address(end[0].partition("%")[0]) for end in (ours, theirs)]
    ports = (ours[1], theirs[1])
    family = ends[0].version
    if version == 1:
        said = " ".join(map(str, (*ends, *ports)))
        return f"PROXY TCP{family} {said}\r\n".encode()
    addresses = b"".join(end.packed for end in ends) + struct.pack("!HH", *ports)
    return _SIGNATURE + _PROXY_BY_TCP[family] + struct.pack("!H", len(addresses)) + addresses
