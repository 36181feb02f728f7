"""An acme-dns of the tests: its HTTP API over a zone of the lab's DNS, with its two-value memory.

Honest where it matters to a client: it checks user, key and subdomain as the original does,
refuses values that are not 43 characters, and answers with the same JSON and status codes.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.lab.split_dns import SplitDns

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}\Z")


@dataclass
class Account:
    """What a registration gives out, and what was written with it."""

    fulldomain: str
    subdomain: str
    username: str = field(default_factory=lambda: str(uuid.uuid4()))
    password: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    values: list[str] = field(default_factory=list)

    def in_a_clients_file(self, **more: str) -> dict[str, str]:
        return {
            "fulldomain": self.fulldomain,
            "subdomain": self.subdomain,
            "username": self.username,
            "password": self.password,
            **more,
        }


class AcmeDns:
    """Serves `/update` on loopback; the records stand in `zone` of a :class:`SplitDns`."""

    def __init__(self, dns: SplitDns, zone: str) -> None:
        self._dns, self._zone = dns, zone
        self._lock = threading.Lock()
        self.accounts: dict[str, Account] = {}
        self.broken_answer: bytes | None = None
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                status, answer = own._update(self.path, self.headers, self.rfile.read(length))
                body = json.dumps(answer).encode()
                if own.broken_answer is not None:
                    body = own.broken_answer
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def register(self) -> Account:
        subdomain = str(uuid.uuid4())
        account = Account(f"{subdomain}.{self._zone}", subdomain)
        self.accounts[account.username] = account
        return account

    def write_accounts(self, path: Path, accounts: Mapping[str, Account], **more: str) -> Path:
        """Write a client's storage file: domain to account."""
        path.touch(0o600)
        path.write_text(
            json.dumps({name: one.in_a_clients_file(**more) for name, one in accounts.items()})
        )
        return path

    def _update(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str]]:
        if path != "/update":
            return 404, {"error": "not_found"}
        account = self.accounts.get(headers.get("X-Api-User", ""))
        wanted = json.loads(body)
        if account is None or headers.get("X-Api-Key") != account.password:
            return 401, {"error": "forbidden"}
        if wanted.get("subdomain") != account.subdomain:
            return 401, {"error": "forbidden"}
        if _VALUE.match(str(wanted.get("txt"))) is None:
            return 400, {"error": "bad_txt"}
        with self._lock:
            account.values = [*account.values, wanted["txt"]][-2:]
            self._dns.set_text("outside", account.fulldomain, *account.values)
        return 200, {"txt": wanted["txt"]}
