"""Honest doubles for the ACME driver: solvers, journals, CSRs, and a clock that only tests move."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from cryptography.hazmat.primitives.serialization import Encoding

from shared.acme.ports import PendingChallenge
from shared.contract.identifiers import DnsName
from shared.contract.key_policy import KeyAlgorithm, PrivateKey, generate_key
from shared.contract.x509 import make_csr
from tests.pebble import ChallTestSrv


@dataclass
class MovedClock:
    """A clock that moves only when somebody sleeps."""

    now: float = 1_800_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class RecordedJournal:
    """Keeps what the driver wants to be durable."""

    lines: list[str] = field(default_factory=list)
    order_url: str | None = None

    def order_created(self, order_url: str, expires: float | None) -> None:
        self.order_url = order_url
        self.lines.append("order_created")

    def finalizing(self) -> None:
        self.lines.append("finalizing")

    def certificate_url(self, url: str) -> None:
        self.lines.append("certificate_url")


@dataclass
class RecordedSolver:
    """Presents nothing, and remembers what it was asked to."""

    challenge_type: str = "http-01"
    present_now: dict[str, PendingChallenge] = field(default_factory=dict)
    ever: list[PendingChallenge] = field(default_factory=list)
    killed: bool = False

    def present(self, challenge: PendingChallenge) -> None:
        self.present_now[challenge.url] = challenge
        self.ever.append(challenge)

    def clean_up(self, challenge: PendingChallenge) -> None:
        if not self.killed:
            self.present_now.pop(challenge.url, None)


@dataclass
class ChallTestSrvSolver(RecordedSolver):
    """Answers http-01 through Pebble's own challenge server; `honest` off: with a wrong text."""

    server: ChallTestSrv | None = None
    honest: bool = True

    def present(self, challenge: PendingChallenge) -> None:
        super().present(challenge)
        assert self.server is not None
        content = challenge.key_authorization if self.honest else "something else"
        self.server.add_http01(challenge.token, content)

    def clean_up(self, challenge: PendingChallenge) -> None:
        super().clean_up(challenge)
        assert self.server is not None
        self.server.remove_http01(challenge.token)


class HttpSolver(RecordedSolver):
    """Serves http-01 while it is entered: on a free port of loopback unless told otherwise."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self._where = (address, port)

    def __enter__(self) -> Self:
        answers = self.present_now

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = [one for one in answers.values() if self.path.endswith("/" + one.token)]
                body = found[0].key_authorization.encode() if found else b""
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(self._where, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])


def csr_for(names: Sequence[str], key: PrivateKey | None = None) -> bytes:
    """Return a PEM CSR for these names, with a fresh key unless one is given."""
    key = key or generate_key(KeyAlgorithm.EC_P256)
    return make_csr(key, [DnsName.parse(name) for name in names]).public_bytes(Encoding.PEM)
