"""Debian's Pebble and its challenge server, started on ephemeral ports for one test."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Self

import trustme

from tests.lab.ports import free_port

START_SECONDS = 20.0
_ENVIRONMENT_OF_OTHER_ROOTS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def available() -> bool:
    """Tell whether both of Debian's programs are installed."""
    return bool(shutil.which("pebble") and shutil.which("pebble-challtestsrv"))


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when something listens; raise with the program's log when it ended or is late."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}:\n{log.read_text()[-3000:]}")


class Program:
    """A child process with its log in a directory of its own."""

    def __init__(self, name: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(
        self,
        argv: list[str],
        ports: list[int],
        environment: Mapping[str, str],
        *,
        until: Callable[[], object] = lambda: None,
    ) -> None:
        """Return when it listens and `until` has returned; of a failure nothing stays."""
        try:
            self._start(argv, environment)
            assert self._process is not None
            for port in ports:
                wait_for_port(port, self._process, self.log)
            until()
        except BaseException:
            self.stop()
            raise

    def _start(self, argv: list[str], environment: Mapping[str, str]) -> None:
        clean = {k: v for k, v in os.environ.items() if k not in _ENVIRONMENT_OF_OTHER_ROOTS}
        self._log_file = self.log.open("wb")
        self._process = subprocess.Popen(
            argv,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
            env={**clean, **environment},
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._log_file is not None:
            self._log_file.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class ChallTestSrv:
    """Debian's `pebble-challtestsrv`: a DNS server that answers every name, and http-01.

    Attributes:
        dns: HOST:PORT of the DNS server; every A is `ipv4`, AAAA is `ipv6` (empty: none).
        http_port: where it answers http-01 itself; None when `serve_http` is off.
        management: URL of its management interface.
    """

    def __init__(self, *, ipv4: str = "127.0.0.1", ipv6: str = "", serve_http: bool = True) -> None:
        self._ipv4, self._ipv6 = ipv4, ipv6
        self._dns_port, self._management_port = free_port(), free_port()
        self.http_port = free_port() if serve_http else None
        self.dns = f"127.0.0.1:{self._dns_port}"
        self.management = f"http://127.0.0.1:{self._management_port}"
        self._program = Program("challtestsrv")

    def __enter__(self) -> Self:
        argv = ["pebble-challtestsrv", "-defaultIPv4", self._ipv4, "-defaultIPv6", self._ipv6]
        argv += ["-dns01", self.dns, "-https01", "", "-tlsalpn01", ""]
        argv += ["-http01", f"127.0.0.1:{self.http_port}" if self.http_port else ""]
        argv += ["-management", f"127.0.0.1:{self._management_port}"]
        ports = [self._dns_port, self._management_port]
        self._program.start(argv, ports + ([self.http_port] if self.http_port else []), {})
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    def add_http01(self, token: str, content: str) -> None:
        self._manage("add-http01", {"token": token, "content": content})

    def remove_http01(self, token: str) -> None:
        self._manage("del-http01", {"token": token})

    def add_txt(self, host: str, value: str) -> None:
        """Add one TXT value; `host` ends with a dot."""
        self._manage("set-txt", {"host": host, "value": value})

    def clear_txt(self, host: str) -> None:
        self._manage("clear-txt", {"host": host})

    def set_a(self, host: str, *addresses: str) -> None:
        """Answer these IPv4 addresses for one name; `host` ends with a dot."""
        self._manage("add-a", {"host": host, "addresses": list(addresses)})

    def servfail(self, host: str) -> None:
        """Answer SERVFAIL for one name; `host` ends with a dot."""
        self._manage("set-servfail", {"host": host})

    def _manage(self, call: str, body: dict[str, object]) -> None:
        request = urllib.request.Request(
            f"{self.management}/{call}", data=json.dumps(body).encode(), method="POST"
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5):
            pass


class Pebble:
    """Debian's `pebble` with its own HTTPS certificate, on ephemeral ports.

    Args:
        dns: HOST:PORT of the DNS server that its validation asks.
        http_port: the port that http-01 validation connects to.
        nonce_reject: percent of good nonces that are refused.
        authz_reuse: percent of new orders that reuse valid authorizations.
        always_valid: skip validation altogether.
        no_sleep: validate at once.
        eab_keys: key identifier to base64url HMAC key; account binding is wanted if given.
        alternate_roots: number of alternate chains.
        environment: more of Pebble's `PEBBLE_…` variables.

    Attributes:
        directory_url: `https://localhost:PORT/dir`.
        minica: PEM file with the root of its HTTPS server, for `trusted_roots`.
    """

    def __init__(
        self,
        *,
        dns: str,
        http_port: int,
        nonce_reject: int = 0,
        authz_reuse: int = 0,
        always_valid: bool = False,
        no_sleep: bool = True,
        eab_keys: Mapping[str, str] | None = None,
        alternate_roots: int = 0,
        strict: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._program = Program("pebble")
        self._port, self._management_port = free_port(), free_port()
        self._dns, self._http_port, self._strict = dns, http_port, strict
        self._eab_keys = dict(eab_keys or {})
        self._environment = {
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
            "PEBBLE_AUTHZREUSE": str(authz_reuse),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
            **({"PEBBLE_VA_NOSLEEP": "1"} if no_sleep else {}),
            **({"PEBBLE_VA_ALWAYS_VALID": "1"} if always_valid else {}),
            **(environment or {}),
        }
        self.directory_url = f"https://localhost:{self._port}/dir"
        self.management = f"https://localhost:{self._management_port}"
        self.minica = self._program.directory / "minica.pem"

    def __enter__(self) -> Self:
        argv = ["pebble", "-config", str(self._write_config()), "-dnsserver", self._dns]
        argv += ["-strict"] if self._strict else []
        self._program.start(argv, [self._port, self._management_port], self._environment)
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    @property
    def pid(self) -> int:
        return self._program.pid

    @property
    def log(self) -> str:
        """What Pebble has logged so far; one line for each request."""
        return self._program.log.read_text()

    def calls(self, path: str) -> int:
        """Return how many requests there were for a path, such as ``/order-plz``."""
        return self.log.count(f" {path} ->")

    def issuing_root(self, index: int = 0) -> bytes:
        """Return the PEM root of what it issues; a new one at every start."""
        return self._get(f"/roots/{index}")

    def issuing_intermediate(self, index: int = 0) -> bytes:
        return self._get(f"/intermediates/{index}")

    def certificate_status(self, serial: int) -> str:
        """Return Pebble's own word on a certificate: ``Valid`` or ``Revoked``."""
        answer = json.loads(self._get(f"/cert-status-by-serial/{serial:x}"))
        return str(answer["Status"])

    def _get(self, path: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.minica))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(self.management + path, timeout=5) as answer:
            body: bytes = answer.read()
        return body

    def _write_config(self) -> Path:
        directory = self._program.directory
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.minica))
        server = authority.issue_cert("localhost", "127.0.0.1")
        certificate, key = directory / "cert.pem", directory / "key.pem"
        for blob in server.cert_chain_pems:
            blob.write_to_path(str(certificate), append=True)
        server.private_key_pem.write_to_path(str(key))
        settings: dict[str, object] = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management_port}",
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": self._http_port,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": bool(self._eab_keys),
            "externalAccountMACKeys": self._eab_keys,
        }
        config = directory / "config.json"
        config.write_text(json.dumps({"pebble": settings}))
        return config


@contextlib.contextmanager
def pebble_with_challenges(**settings: object) -> Iterator[tuple[Pebble, ChallTestSrv]]:
    """Run both, wired together: challenges are answered by `ChallTestSrv`."""
    with ChallTestSrv() as challenges:
        assert challenges.http_port is not None
        with Pebble(
            dns=challenges.dns,
            http_port=challenges.http_port,
            **settings,  # type: ignore[arg-type]
        ) as pebble:
            yield pebble, challenges
