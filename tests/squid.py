"""Debian's squid as companies run it: one port that passes TLS on, and one that opens it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.peers import clean_environment, require
from tests.lab.ports import free_port
from tests.line import Host, this_machine, wait_until

_CERTGEN = Path("/usr/lib/squid/security_file_certgen")
_SETTINGS = """
http_port {address}:{passing}
http_port {address}:{opening} ssl-bump tls-cert={base}/root.pem tls-key={base}/root.key \
generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program {certgen} -s {base}/certificates -M 4MB
sslcrtd_children 1 startup=1
tls_outgoing_options flags=DONT_VERIFY_PEER
sslproxy_cert_error allow all
sslproxy_cert_sign signTrusted all
ssl_bump bump all
pid_filename {base}/squid.pid
cache_log {base}/cache.log
access_log stdio:{base}/access.log
logfile_rotate 0
buffered_logs off
coredump_dir {base}
cache deny all
http_access allow all
strip_query_terms off
shutdown_lifetime 0 seconds
pinger_enable off
visible_hostname proxy.example.com
"""


@dataclass
class Squid:
    """A running proxy.

    Attributes:
        url: of the port that passes TLS on.
        opening_url: of the port that opens TLS, with certificates of its own root.
        root: PEM file of that root.
    """

    url: str
    opening_url: str
    base: Path
    root: Path

    def seen(self) -> str:
        """Its access log."""
        return _text(self.base / "access.log")


@contextlib.contextmanager
def squid(host: Host = this_machine, address: str = "127.0.0.1") -> Iterator[Squid]:
    """Run squid on a host; its files are its own, as it changes its user."""
    program = require("squid")
    if not _CERTGEN.exists():
        require("squid-openssl")
    base = Path(tempfile.mkdtemp(prefix="squid-"))
    passing, opening = free_port(), free_port()
    root = [
        *(require("openssl"), "req", "-x509", "-nodes", "-days", "365", "-subj", "/CN=A proxy"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-keyout", str(base / "root.key"), "-out", str(base / "root.pem")),
    ]
    subprocess.run(root, check=True, capture_output=True)
    made = [str(_CERTGEN), "-c", "-s", str(base / "certificates"), "-M", "4MB"]
    subprocess.run(made, check=True, capture_output=True)
    (base / "squid.conf").write_text(
        _SETTINGS.format(
            base=base, address=address, passing=passing, opening=opening, certgen=_CERTGEN
        )
    )
    if os.geteuid() == 0:
        for path in (base, *base.rglob("*")):
            shutil.chown(path, "proxy", "proxy")
    with (base / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            host(program, "-N", "-f", str(base / "squid.conf")),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=clean_environment(),
        )

    def listens() -> bool:
        if process.poll() is not None:
            pytest.fail(f"squid ended: {_text(base / 'stderr')}")
        log = _text(base / "cache.log")
        return "Accepting HTTP Socket" in log and "Accepting SSL bumped" in log

    try:
        wait_until(listens, what="squid listens on both ports")
        yield Squid(
            f"http://{address}:{passing}",
            f"http://{address}:{opening}",
            base,
            base / "root.pem",
        )
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(base)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
