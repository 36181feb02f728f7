"""What some servers want to hear before TLS begins: STARTTLS and its like.

Read octet by octet, so that nothing of the TLS handshake is taken away from it. A server that says
too much, or nothing in time, is an ``OSError`` like any other.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from internal_puller.install.probe.leaf import element

_LONGEST: Final = 8192
_MOST_LINES: Final = 100


class NoTls(OSError):
    """The server speaks, and offers no TLS."""


class AskedToWait(OSError):
    """The server speaks, and wants to be asked later: nothing follows about its TLS."""


class Talk:
    """A conversation in clear, up to a deadline in monotonic seconds. Methods raise ``OSError``."""

    def __init__(self, connection: socket.socket, domain: str, deadline: float) -> None:
        self.domain = domain
        self._connection, self._deadline = connection, deadline

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)

    def say(self, octets: bytes) -> None:
        self._wait()
        self._connection.sendall(octets)

    def octets(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            self._wait()
            more = self._connection.recv(count - len(found))
            if not more:
                raise NoTls("it closed the connection before TLS")
            found += more
        return found

    def up_to(self, end: bytes) -> str:
        found = b""
        while not found.endswith(end):
            found += self.octets(1)
            if len(found) > _LONGEST:
                raise NoTls("it says too much before TLS")
        return found.decode("latin-1")

    def answer(self, is_last: Callable[[str], bool] = lambda line: True) -> str:
        """Return the line that ends an answer."""
        for _ in range(_MOST_LINES):
            line = self.up_to(b"\n").rstrip()
            if is_last(line):
                return line
        raise NoTls("it says too much before TLS")

    def expect(
        self, good: str, wait: tuple[str, ...] = (), is_last: Callable[[str], bool] | None = None
    ) -> None:
        """Read an answer, which begins with ``good``, or with what asks to wait."""
        line = self.answer(is_last) if is_last else self.answer()
        if line.startswith(good):
            return
        raise (AskedToWait if line.startswith(wait) else NoTls)(f"it said {line!r:.120}")


def begin_tls(connection: socket.socket, scheme: str, domain: str, deadline: float) -> None:
    """Say what a scheme wants before TLS; nothing for those where it begins at once.

    Args:
        domain: whom a server that has several is asked for.
        deadline: monotonic seconds.

    Raises:
        OSError: ``NoTls``, ``AskedToWait``, or the connection's own.
    """
    speak = DIALOGUES.get(scheme)
    if speak is not None:
        speak(Talk(connection, domain, deadline))


def _by_codes(hello: bytes, begin: bytes, go: str) -> Callable[[Talk], None]:
    """Of SMTP's family: three digits, and a hyphen after them where more lines follow.

    4xx to the greeting, and 421 at any time: it is too busy now. A 4xx to STARTTLS is none of
    these: a server that could not load its certificate says so.
    """

    def is_last(line: str) -> bool:
        return line[3:4] != "-" and line[:3].isdigit()

    def speak(talk: Talk) -> None:
        talk.expect("220", ("4",), is_last)
        if hello:
            talk.say(hello)
            talk.expect("250", ("421",), is_last)
        talk.say(begin)
        talk.expect(go, ("421",), is_last)

    return speak


def _imap(talk: Talk) -> None:
    """RFC 9051 sections 6.2.1 and 7.1.5."""
    talk.expect("* OK", ("* BYE",))
    talk.say(b"a STARTTLS\r\n")
    talk.expect("a OK", (), lambda line: line.startswith("a "))


def _pop3(talk: Talk) -> None:
    """RFC 2595 section 4; the code of RFC 3206."""
    talk.expect("+OK", ("-ERR [SYS/TEMP]", "-ERR [IN-USE]"))
    talk.say(b"STLS\r\n")
    talk.expect("+OK")


def _sieve(talk: Talk) -> None:
    """RFC 5804 sections 1.7 and 2.2: capabilities are quoted, the answer's last line is not."""

    def is_last(line: str) -> bool:
        return not line.startswith('"')

    talk.expect("OK", ("BYE",), is_last)
    talk.say(b"STARTTLS\r\n")
    talk.expect("OK", ("NO (TRYLATER)",), is_last)


def _ldap(talk: Talk) -> None:
    """RFC 4511 section 4.14: the extended operation StartTLS, whose result code has to be 0."""
    talk.say(b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037")
    try:
        _, _, operation = element(_ber(talk))
        _, result, _ = element(operation)
        _, code, _ = element(result)
    except (ValueError, IndexError):
        raise NoTls("its answer is not LDAP's") from None
    if code != b"\0":
        later = code in (b"\x33", b"\x34")  # busy, unavailable
        raise (AskedToWait if later else NoTls)(f"it answered with the result code {code.hex()}")


def _ber(talk: Talk) -> bytes:
    """Return the content of one element (X.690 section 8.1)."""
    tag, length = talk.octets(2)
    if length & 0x80:
        length = int.from_bytes(talk.octets(length & 0x7F))
    if tag != 0x30 or length > _LONGEST:
        raise NoTls("its answer is not LDAP's")
    return talk.octets(length)


_MYSQL_TLS: Final = 0x0800
_MYSQL_OURS: Final = 0x8A00  # TLS, protocol 4.1, secure connection
_MYSQL_BUSY: Final = (1040, 1203, 1226)  # too many connections
_MYSQL_ERROR: Final = 0xFF


def _mysql(talk: Talk) -> None:
    """Protocol::HandshakeV10, then Protocol::SSLRequest."""
    length = int.from_bytes(talk.octets(4)[:3], "little")
    if length > _LONGEST:
        raise NoTls("its greeting is not MySQL's")
    greeting = talk.octets(length)
    if greeting[:1] == bytes([_MYSQL_ERROR]):
        code = int.from_bytes(greeting[1:3], "little")
        said = f"it said {greeting[3:].decode('latin-1')!r:.120}"
        raise (AskedToWait if code in _MYSQL_BUSY else NoTls)(said)
    flags = greeting.find(b"\0", 1) + 1 + 4 + 8 + 1
    if not int.from_bytes(greeting[flags : flags + 2], "little") & _MYSQL_TLS:
        raise NoTls("it offers no TLS")
    request = struct.pack("<IIB23x", _MYSQL_OURS, 1 << 24, 45)
    talk.say(len(request).to_bytes(3, "little") + b"\x01" + request)


def _postgresql(talk: Talk) -> None:
    """SSLRequest of its frontend/backend protocol."""
    talk.say(struct.pack("!II", 8, 80877103))
    answer = talk.octets(1)
    if answer == b"E":  # it could not even begin a process for us
        raise AskedToWait("it answered with an error")
    if answer != b"S":
        raise NoTls("it offers no TLS: ssl = on is missing")


def _xmpp(namespace: str) -> Callable[[Talk], None]:
    """RFC 6120 section 5; the server wants to know which of its domains is meant."""

    def speak(talk: Talk) -> None:
        talk.say(
            f"<?xml version='1.0'?><stream:stream xmlns='{namespace}' version='1.0' "
            f"xmlns:stream='http://etherx.jabber.org/streams' to='{talk.domain}'>".encode()
        )
        features = _element(talk, "features", "error")
        if not re.search(r"<starttls\b", features):
            raise NoTls(f"it offers no STARTTLS for {talk.domain}")
        talk.say(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        said = talk.up_to(b">").lstrip()
        if not said.startswith("<proceed"):
            raise NoTls(f"it said {said!r:.120}")
        if not said.endswith("/>"):
            talk.up_to(b"</proceed>")

    return speak


def _element(talk: Talk, *names: str) -> str:
    """Return what is said up to the end of the first of these elements of a stream."""
    said = part = ""
    last = re.compile(rf"</(?:\w+:)?(?:{'|'.join(names)})\s*>$|<(?:\w+:)?(?:{'|'.join(names)})/>$")
    while not last.search(part):
        part = talk.up_to(b">")
        said += part
        if len(said) > _LONGEST:
            raise NoTls("it says too much before TLS")
    return said


DIALOGUES: Final[dict[str, Callable[[Talk], None]]] = {
    "smtp": _by_codes(b"EHLO probe.invalid\r\n", b"STARTTLS\r\n", "220"),  # RFC 3207
    "lmtp": _by_codes(b"LHLO probe.invalid\r\n", b"STARTTLS\r\n", "220"),  # RFC 2033
    "ftp": _by_codes(b"", b"AUTH TLS\r\n", "234"),  # RFC 4217
    "imap": _imap,
    "pop3": _pop3,
    "sieve": _sieve,
    "ldap": _ldap,
    "mysql": _mysql,
    "postgresql": _postgresql,
    "xmpp": _xmpp("jabber:client"),
    "xmpp-server": _xmpp("jabber:server"),
}
"""What is said before TLS, by scheme (``settings.protocols``)."""
