"""What some servers want to hear before TLS begins: STARTTLS and its like.

Read octet by octet, so that nothing of the TLS handshake is taken away from it; a server that says
too much, or nothing in time, is an ``OSError`` like any other.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Final

_LONGEST_LINE: Final = 2048
_MOST_LINES: Final = 100
_POSTGRESQL_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)


class NoTls(OSError):
    """The server speaks, and offers no TLS."""


class _Talk:
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the server was too slow")
        self._connection.settimeout(left)

    def say(self, octets: bytes) -> None:
        self._wait()
        self._connection.sendall(octets)

    def octet(self) -> bytes:
        self._wait()
        found = self._connection.recv(1)
        if not found:
            raise NoTls("the server closed the connection before TLS")
        return found

    def line(self) -> str:
        found = b""
        while not found.endswith(b"\n"):
            found += self.octet()
            if len(found) > _LONGEST_LINE:
                raise NoTls("the server's line is too long")
        return found.decode("latin-1").strip()

    def until(self, over: Callable[[str], bool], good: str) -> None:
        """Read lines up to the one that ends the answer, which has to begin well."""
        for _ in range(_MOST_LINES):
            line = self.line()
            if over(line):
                if not line.startswith(good):
                    raise NoTls(f"the server said {line!r:.120}")
                return
        raise NoTls("the server says too much")


def begin_tls(connection: socket.socket, protocol: str, deadline: float) -> None:
    """Say what ``protocol`` wants before TLS; for ``tls`` nothing.

    Args:
        deadline: monotonic seconds.

    Raises:
        OSError: the server does not offer it, or not in time.
    """
    talk = _Talk(connection, deadline)
    if protocol == "smtp":  # RFC 3207
        talk.until(_is_last_of_smtp, "220")
        talk.say(b"EHLO probe.invalid\r\n")
        talk.until(_is_last_of_smtp, "250")
        talk.say(b"STARTTLS\r\n")
        talk.until(_is_last_of_smtp, "220")
    elif protocol == "imap":  # RFC 9051 section 6.2.1
        talk.until(lambda line: True, "* OK")
        talk.say(b"a STARTTLS\r\n")
        talk.until(lambda line: line.startswith("a "), "a OK")
    elif protocol == "pop3":  # RFC 2595 section 4
        talk.until(lambda line: True, "+OK")
        talk.say(b"STLS\r\n")
        talk.until(lambda line: True, "+OK")
    elif protocol == "postgresql":  # SSLRequest of its frontend/backend protocol
        talk.say(_POSTGRESQL_SSL_REQUEST)
        if talk.octet() != b"S":
            raise NoTls("the server does TLS for nobody: ssl = on is missing")


def _is_last_of_smtp(line: str) -> bool:
    return line[3:4] != "-"
