"""The few bytes of HTTP/1.1 (RFC 9112) that http-01 needs: one request head in, one answer out."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from email.utils import formatdate

PREFIX = b"/.well-known/acme-challenge/"
MAX_HEAD = 4096
END_OF_HEAD = b"\r\n\r\n"


def _body(token: str, key_authorization: str) -> tuple[bytes, bytes]:
    answer = key_authorization.encode("ascii")
    fields = b"Content-Type: application/octet-stream\r\nCache-Control: no-store\r\n"
    return (
        PREFIX + token.encode("ascii"),
        b"%sContent-Length: %d\r\n\r\n%s" % (fields, len(answer), answer),
    )


class ChallengeAnswers:
    """Token to answer, held in memory: an unknown token costs one look into a dictionary.

    Anything but a look-up may be called from any thread; a look-up sees the old or the new state,
    whole. It is the board on which the solver of http-01 puts its answers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, str] = {}
        self._bodies: dict[bytes, bytes] = {}
        self._hits: dict[bytes, int] = {}
        self.hits = 0

    def __len__(self) -> int:
        return len(self._bodies)

    def replace(self, pending: Mapping[str, str]) -> None:
        """Take over what the store holds, beside what was :meth:`put` here.

        Args:
            pending: token to key authorization (RFC 8555 section 8.3) of every pending challenge.
        """
        with self._lock:
            self._bodies = dict(_body(*one) for one in {**pending, **self._own}.items())

    def put(self, token: str, key_authorization: str) -> None:
        """Answer this token from now on."""
        with self._lock:
            self._own[token] = key_authorization
            self._bodies = self._bodies | dict([_body(token, key_authorization)])

    def remove(self, token: str) -> None:
        """Answer this token no more."""
        with self._lock:
            self._own.pop(token, None)
            gone = PREFIX + token.encode("ascii")
            self._bodies = {target: body for target, body in self._bodies.items() if target != gone}

    def find(self, target: bytes) -> bytes | None:
        """Return the end of the answer for a request target, from Content-Type on."""
        found = self._bodies.get(target)
        if found is not None:
            self._hits[target] = self._hits.get(target, 0) + 1
            self.hits += 1
        return found

    def take_hits(self) -> dict[str, int]:
        """Return how often each token was asked for since the last call."""
        hits, self._hits = self._hits, {}
        return {
            target[len(PREFIX) :].decode("ascii"): count for target, count in list(hits.items())
        }


class Responder:
    """Turns request heads into answers; knows no sockets."""

    def __init__(self, answers: ChallengeAnswers) -> None:
        self._answers = answers
        self.set_date(0.0)

    def set_date(self, now: float) -> None:
        """Renew the Date field (RFC 9110 section 6.6.1); ``now`` in unix seconds."""
        date = b"\r\nDate: " + formatdate(now, usegmt=True).encode("ascii") + b"\r\n"
        self._found = b"HTTP/1.1 200 OK" + date
        self._not_found = b"HTTP/1.1 404 Not Found" + date + b"Content-Length: 0\r\n\r\n"
        self._not_found_close = (
            b"HTTP/1.1 404 Not Found" + date + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        self.bad_request = (
            b"HTTP/1.1 400 Bad Request" + date + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )

    def respond(self, head: bytes) -> tuple[bytes, bool]:
        """Return (answer, whether the connection ends with it).

        Args:
            head: request line and header fields, without the empty line at the end.
        """
        line, _, fields = head.partition(b"\r\n")
        parts = line.split(b" ")
        if len(parts) != 3 or not parts[0].isupper():
            return self.bad_request, True
        method, target, version = parts
        # A body is never read, so whatever follows one is never taken for a request.
        lowered = fields.lower()
        close = (
            version != b"HTTP/1.1"
            or b"content-length:" in lowered
            or b"transfer-encoding:" in lowered
            or (b"connection:" in lowered and b"close" in lowered)
        )
        if close and not version.startswith(b"HTTP/1."):
            return self.bad_request, True
        body = self._answers.find(target) if method in (b"GET", b"HEAD") else None
        if body is None:
            return (self._not_found_close if close else self._not_found), close
        if method == b"HEAD":
            body = body[: body.index(END_OF_HEAD) + 4]
        ending = b"Connection: close\r\n" + body if close else body
        return self._found + ending, close
