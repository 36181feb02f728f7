"""One TLS handshake, for the leaf that it shows: what any client sees, before any is convinced.

Nothing but the standard library, and nothing of ours: OpenSSL takes the signature algorithms of
TLS 1.3 from its configuration only, once for a process, so this file is also run by itself in one
of its own (``kinds.py``).

The chain is read after an error, too. Which messages there were follows from what was sent: after
the server's Certificate and ServerKeyExchange a client of TLS 1.2 (RFC 5246 section 7.3) answers
with ClientKeyExchange, and with a Certificate before it exactly if one was demanded.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

EVERYTHING: Final = "ALL:COMPLEMENTOFALL:-aNULL:-PSK:-SRP:@SECLEVEL=0"
OF_KIND: Final = {
    "rsa": "aRSA:kRSA:-PSK:-SRP:@SECLEVEL=0",
    "ecdsa": "aECDSA:-PSK:-SRP:@SECLEVEL=0",
}
"""Suites of TLS 1.2 and before with one kind of key; those of TLS 1.3 name none."""
_LEGACY_SERVER_CONNECT: Final = 0x4  # ssl.OP_LEGACY_SERVER_CONNECT, since Python 3.12
_HANDSHAKE, _CERTIFICATE, _CLIENT_KEY_EXCHANGE = 22, 11, 16
_NOT_BY_ITS_KEY: Final = (
    "BAD_SIGNATURE",
    "WRONG_SIGNATURE_TYPE",
    "WRONG_SIGNATURE_SIZE",
    "WRONG_CERTIFICATE_TYPE",
)
_NOT_DECRYPTED: Final = ("BAD_RECORD_MAC", "DECRYPT_ERROR", "DECRYPTION_FAILED")
_NONE_AGREED: Final = (
    "HANDSHAKE_FAILURE",
    "INSUFFICIENT_SECURITY",
    "INTERNAL_ERROR",
    "PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "WRONG_SSL_VERSION",
)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST")


@dataclass(frozen=True)
class Seen:
    """What came of one connection.

    Attributes:
        leaf: DER; ``None`` if none was shown.
        known: false where nothing follows from there being no leaf.
        proven: the handshake proved that the server has the leaf's key.
        why: in words, why there is no more.
        trouble: value of ``outbox.look.Trouble``; empty for none.
        newest: it was TLS 1.3.
    """

    leaf: bytes | None = None
    known: bool = True
    proven: bool = False
    why: str = ""
    trouble: str = ""
    newest: bool = False


def shake(connection: socket.socket, sni: str, deadline: float, suites: str = EVERYTHING) -> Seen:
    """Begin TLS on a connection and return what was seen; what the server does raises nothing.

    Args:
        deadline: monotonic seconds.
        suites: OpenSSL's list; any but ``EVERYTHING`` ends at TLS 1.2.
    """
    handshake = _Handshake(connection, sni, suites)
    try:
        return handshake.complete(deadline)
    except OSError as error:
        return handshake.ended_by(error)


def _context(suites: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whom the server convinces is not asked here, only what it shows: expired, foreign, anything.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    if suites != EVERYTHING:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suites)
    context.options |= _LEGACY_SERVER_CONNECT
    return context


class _Handshake:
    def __init__(self, connection: socket.socket, sni: str, suites: str) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context(suites).wrap_bio(self._incoming, self._outgoing, server_hostname=sni)
        self._sent: list[bytes] = []

    def complete(self, deadline: float) -> Seen:
        """Carry the octets to and fro until it is over. Raises ``OSError``: it ended otherwise."""
        while not self._step():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            received = self._connection.recv(16384)
            if not received:
                raise ConnectionResetError("it closed the connection")
            self._incoming.write(received)
        leaf = self._tls.getpeercert(binary_form=True)
        why = "" if leaf else "the handshake was completed without a certificate"
        newest = self._tls.version() == "TLSv1.3"
        return Seen(leaf, proven=leaf is not None, why=why, newest=newest)

    def _step(self) -> bool:
        """Go as far as what was received allows; whether it is complete."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            if self._outgoing.pending:
                self._sent.append(self._outgoing.read())
                # What the server said before it closed is read all the same.
                with contextlib.suppress(ConnectionError):
                    self._connection.sendall(self._sent[-1])
        return True

    def ended_by(self, error: OSError) -> Seen:
        """Say what was seen before it ended."""
        read = _reader(self._tls)
        if read is None:
            why = f"this Python does not say what was shown before the end ({_words(error)})"
            return Seen(known=False, why=why)
        leaf = read()
        return _without_leaf(error) if leaf is None else self._with_leaf(leaf, error)

    def _with_leaf(self, leaf: bytes, error: OSError) -> Seen:
        suite = (self._tls.cipher() or ("",))[0]
        newest = suite.startswith("TLS_")
        ephemeral = suite.startswith(("ECDHE-", "DHE-"))  # the leaf's key has signed its keys
        answer = self._answer
        if answer == _CERTIFICATE:  # it was demanded of us: an end here is no illness
            why = "" if ephemeral else "it demands a client certificate"
            return Seen(leaf, proven=ephemeral, why=why)
        if isinstance(error, TimeoutError):
            return Seen(leaf, why="no answer in time after the certificate", newest=newest)
        reason = getattr(error, "reason", None) or ""
        undecrypted = answer == _CLIENT_KEY_EXCHANGE and not ephemeral
        mixed = reason in _NOT_BY_ITS_KEY or (undecrypted and reason.endswith(_NOT_DECRYPTED))
        why = "it does not have the key of its certificate" if mixed else "no handshake completes"
        trouble = "mixed-pair" if mixed else "no-handshake"
        return Seen(leaf, why=f"{why} ({_words(error)})", trouble=trouble, newest=newest)

    @property
    def _answer(self) -> int | None:
        """The type of the first message that followed the ClientHello in clear, until TLS 1.2."""
        if len(self._sent) > 1 and self._sent[1][0] == _HANDSHAKE:
            return self._sent[1][5]
        return None


def _without_leaf(error: OSError) -> Seen:
    if isinstance(error, TimeoutError):
        return Seen(known=False, why="no answer in time")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if reason in _NO_TLS:
            return Seen(why="it does not speak TLS there")
        trouble = "no-handshake" if reason.endswith(_NONE_AGREED) else ""
        return Seen(why=f"it shows no certificate ({_words(error)})", trouble=trouble)
    if isinstance(error, ConnectionError):
        return Seen(why="it closed the connection before it showed a certificate")
    return Seen(known=False, why=_words(error))


def _reader(tls: ssl.SSLObject) -> Callable[[], bytes | None] | None:
    """Return how the leaf is read of a handshake that did not end well; ``None``: not at all.

    ``get_unverified_chain`` is public from Python 3.13, and there before under another name.
    """
    inner: Any = getattr(tls, "_sslobj", None)
    read = getattr(tls, "get_unverified_chain", None) or getattr(
        inner, "get_unverified_chain", None
    )
    if read is None:
        return None

    def leaf() -> bytes | None:
        chain = read()
        if not chain:
            return None
        return chain[0] if isinstance(chain[0], bytes) else _der(chain[0])

    return leaf


def _der(certificate: Any) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.public_bytes())  # PEM is its default


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError) and reason:
        return str(reason).lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__


def main() -> None:
    """Shake hands on an inherited connection: DESCRIPTOR SNI SECONDS; print what was seen."""
    descriptor, sni, seconds = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as connection:
        seen = shake(connection, sni, time.monotonic() + float(seconds))
    found = asdict(seen) | {"leaf": seen.leaf.hex() if seen.leaf else None}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
