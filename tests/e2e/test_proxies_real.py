"""The puller through Debian's squid: passing TLS on, and opening it with a root of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.lab import LabCa
from tests.lab.peers import clean_environment, require
from tests.line import Agent, Puller, active, wait_until
from tests.servers import free_port

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
WWW = "www.intra.example.com"
_CERTGEN = Path("/usr/lib/squid/security_file_certgen")
_COMMON = """
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
_PASSING = "http_port 127.0.0.1:{port}\n"
_OPENING = """
http_port 127.0.0.1:{port} ssl-bump tls-cert={base}/root.pem tls-key={base}/root.key \
generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program {certgen} -s {base}/certificates -M 4MB
sslcrtd_children 1 startup=1
tls_outgoing_options flags=DONT_VERIFY_PEER
sslproxy_cert_error allow all
sslproxy_cert_sign signTrusted all
ssl_bump bump all
"""


@dataclass
class Squid:
    """A running proxy."""

    port: int
    base: Path
    root: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def seen(self) -> str:
        """Its access log."""
        log = self.base / "access.log"
        return log.read_text() if log.exists() else ""


@contextlib.contextmanager
def squid(*, opening: bool) -> Iterator[Squid]:
    """Run squid on loopback; its files are its own, as it changes its user."""
    program = require("squid")
    if opening and not _CERTGEN.exists():
        require("squid-openssl")
    base = Path(tempfile.mkdtemp(prefix="squid-"))
    port = free_port()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(base / "root.pem"))
    authority.private_key_pem.write_to_path(str(base / "root.key"))
    if opening:
        made = [str(_CERTGEN), "-c", "-s", str(base / "certificates"), "-M", "4MB"]
        subprocess.run(made, check=True, capture_output=True)
    text = (_OPENING if opening else _PASSING) + _COMMON
    (base / "squid.conf").write_text(text.format(base=base, port=port, certgen=_CERTGEN))
    if os.geteuid() == 0:
        for path in (base, *base.rglob("*")):
            shutil.chown(path, "proxy", "proxy")
    process = subprocess.Popen(
        [program, "-N", "-f", str(base / "squid.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )

    def listens() -> bool:
        if process.poll() is not None:
            assert process.stderr
            pytest.fail(f"squid ended: {process.stderr.read().decode()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_until(listens)
        yield Squid(port, base, base / "root.pem")
    finally:
        process.terminate()
        process.wait(10)
        assert process.stderr
        process.stderr.close()
        shutil.rmtree(base)


@dataclass
class Line:
    ca: LabCa
    agent: Agent
    token: str
    relay_port: int


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    challenge, relay, operator = free_port(), free_port(), free_port()
    with LabCa(http_port=challenge, retry_after=None) as ca:
        agent = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json")
        agent.init(
            *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
            *("--challenge-listen", f"127.0.0.1:{challenge}"),
            *("--relay-listen", f"127.0.0.1:{relay}"),
            *("--operator-listen", f"127.0.0.1:{operator}"),
        )
        token = agent.add(WWW)
        with agent.serving():
            yield Line(ca, agent, token, relay)


def tls_check(puller: Puller) -> str:
    return str(json.loads((puller.state / "progress.json").read_text())["tls_check"])


def through(line: Line, puller: Puller) -> None:
    """Enrol, install, and be woken by a renewal."""
    puller.enroll(line.token)
    directory = puller.target(WWW, line.ca.root_pem)
    wait_until(lambda: puller.pull() and active(directory), what="the first generation")
    first = active(directory)
    with puller.running("run") as run:
        line.agent.call("renew", WWW)
        wait_until(lambda: active(directory) != first, what="the second generation")
        assert run.ended is None


def test_a_proxy_that_passes_tls_on(line: Line, tmp_path: Path) -> None:
    with squid(opening=False) as proxy:
        puller = Puller(tmp_path / "puller")
        puller.settings(proxy=proxy.url)
        through(line, puller)
        assert f"CONNECT localhost:{line.relay_port}" in proxy.seen()
        assert "/v1/" not in proxy.seen()
        assert tls_check(puller) == "pin"


def test_a_proxy_from_the_environment(line: Line, tmp_path: Path) -> None:
    with squid(opening=False) as proxy:
        puller = Puller(tmp_path / "puller", HTTPS_PROXY=proxy.url, NO_PROXY="")
        puller.enroll(line.token)
        assert f"CONNECT localhost:{line.relay_port}" in proxy.seen()


def test_a_proxy_that_opens_tls(line: Line, tmp_path: Path) -> None:
    with squid(opening=True) as proxy:
        puller = Puller(tmp_path / "puller")
        puller.settings(proxy=proxy.url)
        refused = puller.enroll(line.token, expect=7)  # its root is not trusted yet
        assert "roots_file" in refused.err
        assert f"https://localhost:{line.relay_port}/v1/" not in proxy.seen()
        puller.settings(proxy=proxy.url, roots_file=str(proxy.root))
        through(line, puller)
        assert f"https://localhost:{line.relay_port}/v1/certificates" in proxy.seen()
        assert tls_check(puller) == "roots"
