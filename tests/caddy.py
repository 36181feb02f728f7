"""Caddy's `acme_server` as a CA, for one test: http-01 and dns-01, certificates of 12 hours.

It validates through the system's resolver and port 80: here it sees a resolv.conf of its own, by
a mount namespace, and shares the network, so that DNS and web servers stand on loopback addresses
of their own (`tests.own_address`). That takes root.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from pathlib import Path
from typing import Self

from tests.lab.peers import require
from tests.lab.ports import free_port
from tests.pebble import START_SECONDS, Program

_SETTINGS = """\
{{
    admin off
    skip_install_trust
    auto_https disable_redirects
    storage file_system {storage}
}}
https://localhost:{port} {{
    bind 127.0.0.1
    tls internal
    acme_server
}}
"""
_WITH_RESOLVER = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


class Caddy:
    """Debian's Caddy with an ACME server.

    Args:
        dns: address of the DNS server that it asks, at port 53.

    Attributes:
        directory_url: `https://localhost:PORT/acme/local/directory`.
        roots: PEM file with the root of its HTTPS server and of what it issues.
    """

    def __init__(self, *, dns: str) -> None:
        self._caddy = require("caddy")
        self._program = Program("caddy")
        self._port = free_port()
        self._resolver = dns
        self.directory_url = f"https://localhost:{self._port}/acme/local/directory"
        self.roots = self._storage / "pki" / "authorities" / "local" / "root.crt"

    @property
    def _storage(self) -> Path:
        return self._program.directory / "storage"

    def __enter__(self) -> Self:
        directory = self._program.directory
        settings, resolver = directory / "Caddyfile", directory / "resolv.conf"
        settings.write_text(_SETTINGS.format(storage=self._storage, port=self._port))
        resolver.write_text(f"nameserver {self._resolver}\noptions timeout:2 attempts:2\n")
        argv = ["unshare", "--mount", "sh", "-c", _WITH_RESOLVER, str(resolver)]
        argv += [self._caddy, "run", "--adapter", "caddyfile", "--config", str(settings)]
        homes = {name: str(directory) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        self._program.start(argv, [self._port], homes, until=self._wait_for_certificate)
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    def _wait_for_certificate(self) -> None:
        """It listens before it has a certificate of its own CA."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                context = ssl.create_default_context(cafile=str(self.roots))
                with (
                    socket.create_connection(("127.0.0.1", self._port), 2) as plain,
                    context.wrap_socket(plain, server_hostname="localhost"),
                ):
                    return
            time.sleep(0.02)
        raise RuntimeError(f"Caddy has no certificate of its own:\n{self.log[-3000:]}")

    @property
    def issuing_root(self) -> bytes:
        """The root of what it issues; of its own HTTPS too."""
        return self.roots.read_bytes()

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._program.log.read_text()
