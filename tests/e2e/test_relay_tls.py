"""The relay listener with TLS files of an operator, and without TLS behind a real web server."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from shared.contract.enrolment_token import EnrolmentToken
from tests.authority import Authority, new_key, pem_pair
from tests.e2e.test_challenge_ways import web_server
from tests.lab import LabCa
from tests.lab.peers import clean_environment, require
from tests.lab.ports import free_port
from tests.line import Agent, Puller, Running, leaf_sha256, wait_until

WWW = "www.intra.example.com"
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@dataclass
class Ports:
    challenge: int
    relay: int
    operator: int

    @property
    def options(self) -> tuple[str, ...]:
        return (
            *("--challenge-listen", f"127.0.0.1:{self.challenge}"),
            *("--relay-listen", f"127.0.0.1:{self.relay}"),
            *("--operator-listen", f"127.0.0.1:{self.operator}"),
        )


@pytest.fixture
def ports() -> Ports:
    return Ports(free_port(), free_port(), free_port())


@pytest.fixture
def ca(ports: Ports) -> Iterator[LabCa]:
    with LabCa(http_port=ports.challenge, retry_after=None) as one:
        yield one


class TlsFiles:
    """Certificate and key of ``localhost`` by a CA of the company's own, as files."""

    def __init__(self, base: Path) -> None:
        base.mkdir()
        self.authority = Authority.make()
        self.roots, self.certificate, self.key = base / "root.pem", base / "crt", base / "key"
        self.roots.write_bytes(self.authority.root_pem)
        self.leaf = self.renew()

    def renew(self) -> bytes:
        """Write a new pair; return the new leaf in DER."""
        key = new_key()
        leaf = self.authority.leaf(["localhost"], key, not_before=int(time.time()) - 60)
        self.key.touch(mode=0o600)
        self.key.write_bytes(pem_pair((), key))
        chain = self.authority.chain(leaf)
        self.certificate.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
        return leaf.public_bytes(Encoding.DER)


def whole_way(agent: Agent, ca: LabCa, puller: Puller, files: TlsFiles, token: str) -> None:
    """Enrol, issue, pull, install; nothing but the company's root is trusted for TLS."""
    puller.settings(roots_file=str(files.roots))
    puller.enroll(token)
    directory = puller.target(WWW, ca.root_pem)
    ca.wait_for(lambda one: len(one.issued) == 1, 30)
    wait_until(lambda: puller.pull() and leaf_sha256(directory), what="it is installed")


@pytest.mark.lab
def test_files_are_used_and_read_again_without_a_dropped_connection(
    ca: LabCa, ports: Ports, tmp_path: Path
) -> None:
    files = TlsFiles(tmp_path / "tls")
    agent = Agent(
        tmp_path / "agent",
        RELAY_AGENT_LOG__FORMAT="json",
        RELAY_AGENT_RELAY__TLS="files",
        RELAY_AGENT_RELAY__CERTIFICATE_FILE=str(files.certificate),
        RELAY_AGENT_RELAY__KEY_FILE=str(files.key),
    )
    agent.init(
        ca.directory_url, ca.tls_root_pem, f"https://localhost:{ports.relay}", *ports.options
    )
    token = agent.add(WWW)
    assert EnrolmentToken.decode(token, now=time.time()).tls_pin is None
    with agent.serving() as serving:
        whole_way(agent, ca, Puller(tmp_path / "puller"), files, token)
        with Visit(ports.relay, files) as early:
            assert early.leaf == files.leaf
            renewed = files.renew()
            reload_settings(serving)
            assert early.status() == 400, "a request that had begun is answered"
        with Visit(ports.relay, files) as later:
            assert later.leaf == renewed
            files.key.chmod(0o644)
            os.kill(serving.pid, signal.SIGHUP)
            wait_until(lambda: "settings were not reloaded" in serving.text())
            assert later.status() == 400
        with Visit(ports.relay, files) as last:
            assert last.leaf == renewed, "what cannot be used replaces nothing"


class Visit:
    """A connection with half a request on it, unsigned."""

    def __init__(self, port: int, files: TlsFiles) -> None:
        context = ssl.create_default_context(cafile=str(files.roots))
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._tls = context.wrap_socket(plain, server_hostname="localhost")
        self.leaf = self._tls.getpeercert(binary_form=True)
        self._tls.sendall(b"GET /v1/certificates HTTP/1.1\r\nHost: local")

    def status(self) -> int:
        self._tls.sendall(b"host\r\n\r\n")
        return int(self._tls.recv(100).split()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tls.close()


def reload_settings(serving: Running) -> None:
    before = serving.text().count('"settings reloaded"')
    os.kill(serving.pid, signal.SIGHUP)
    wait_until(lambda: serving.text().count('"settings reloaded"') > before)


@contextmanager
def nginx_in_front(base: Path, port: int, upstream: int, files: TlsFiles) -> Iterator[None]:
    """A reverse proxy as companies set it up: TLS ends there and Host is rewritten."""
    base.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (base / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\nworker_processes 1; daemon off;\n"
        f"pid {base}/pid; error_log {base}/log;\nevents {{}}\nhttp {{\naccess_log off;\n"
        + "".join(f"{kind}_temp_path {base}/{kind};\n" for kind in kinds)
        + f"server {{ listen 127.0.0.1:{port} ssl;\n"
        f"ssl_certificate {files.certificate}; ssl_certificate_key {files.key};\n"
        f"location / {{ proxy_pass http://127.0.0.1:{upstream};\n"
        "proxy_set_header Host inside.invalid; proxy_set_header X-Forwarded-For 192.0.2.1;\n"
        "proxy_read_timeout 70s; } } }\n"
    )
    command = [require("nginx"), "-p", str(base), "-e", f"{base}/log", "-c", f"{base}/nginx.conf"]
    process = subprocess.Popen(command, env=clean_environment(), stdin=subprocess.DEVNULL)
    try:
        wait_until((base / "pid").exists, what=f"nginx is there: {base / 'log'}")
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.servers
def test_behind_a_web_server_that_does_tls_and_rewrites_host(
    ca: LabCa, ports: Ports, tmp_path: Path
) -> None:
    files, public = TlsFiles(tmp_path / "tls"), free_port()
    agent = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json", RELAY_AGENT_RELAY__TLS="none")
    agent.init(ca.directory_url, ca.tls_root_pem, f"https://localhost:{public}", *ports.options)
    token = agent.add(WWW)
    puller = Puller(tmp_path / "puller")
    with nginx_in_front(tmp_path / "nginx", public, ports.relay, files), agent.serving():
        whole_way(agent, ca, puller, files, token)
        directory = puller.base / "tls" / WWW
        with puller.running("run"):  # its long polls pass through the proxy, too
            agent.call("renew", WWW)
            ca.wait_for(lambda one: len(one.issued) == 2, 30)
            newest = hashlib.sha256(ca.issued[-1].der).hexdigest()
            wait_until(lambda: leaf_sha256(directory) == newest, what="the renewal is in place")


@pytest.mark.servers
def test_a_web_server_that_is_alone_is_no_agent(ports: Ports, ca: LabCa, tmp_path: Path) -> None:
    """502 from the proxy is an agent that is away: exit code 7, nothing written."""
    files, public = TlsFiles(tmp_path / "tls"), free_port()
    agent = Agent(tmp_path / "agent", RELAY_AGENT_RELAY__TLS="none")
    agent.init(ca.directory_url, ca.tls_root_pem, f"https://localhost:{public}", *ports.options)
    token = agent.add(WWW)
    puller = Puller(tmp_path / "puller")
    puller.settings(roots_file=str(files.roots))
    with nginx_in_front(tmp_path / "nginx", public, ports.relay, files):
        done = puller.enroll(token, expect=7)
    assert "502" in done.err
    assert "Traceback" not in done.err
    assert not (puller.state / "enrolment.json").exists()


# --- the examples of deploy/ --------------------------------------------------------------------


def example(name: str, files: TlsFiles, upstream: int) -> str:
    text = (DEPLOY / name).read_text()
    for place, value in (
        ("/etc/ssl/relay/fullchain.pem", files.certificate),
        ("/etc/ssl/relay/privkey.pem", files.key),
        ("127.0.0.1:8444", f"127.0.0.1:{upstream}"),
    ):
        assert place in text
        text = text.replace(place, str(value))
    return text


def nginx_example(base: Path, port: int, upstream: int, files: TlsFiles) -> list[str]:
    text = example("nginx/relay.conf", files, upstream)
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
    text = text.replace("    listen [::]:443 ssl;\n", "").replace("relay.example.com", "localhost")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (base / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\nworker_processes 1; daemon off;\n"
        f"pid {base}/pid; error_log {base}/log;\nevents {{}}\nhttp {{\naccess_log off;\n"
        + "".join(f"{kind}_temp_path {base}/{kind};\n" for kind in kinds)
        + text
        + "}\n"
    )
    return [require("nginx"), "-p", str(base), "-e", f"{base}/log", "-c", f"{base}/nginx.conf"]


def caddy_example(base: Path, port: int, upstream: int, files: TlsFiles) -> list[str]:
    text = example("caddy/relay.Caddyfile", files, upstream)
    text = text.replace("relay.example.com {", f"localhost:{port} {{\n\tbind 127.0.0.1")
    options = "admin off\n\tauto_https disable_redirects\n\tskip_install_trust"
    (base / "Caddyfile").write_text(f"{{\n\t{options}\n}}\n{text}")
    return [require("caddy"), "run", "--adapter", "caddyfile", "--config", f"{base}/Caddyfile"]


def status_of(port: int, path: str, files: TlsFiles) -> int:
    context = ssl.create_default_context(cafile=str(files.roots))
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    with contextlib.closing(connection):
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return answer.status


@pytest.mark.servers
@pytest.mark.parametrize("server", [nginx_example, caddy_example])
def test_the_examples_carry_signatures_and_long_polls(
    server: Callable[[Path, int, int, TlsFiles], list[str]],
    ca: LabCa,
    ports: Ports,
    tmp_path: Path,
) -> None:
    files, public, base = TlsFiles(tmp_path / "tls"), free_port(), tmp_path / "server"
    base.mkdir()
    agent = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json", RELAY_AGENT_RELAY__TLS="none")
    agent.init(ca.directory_url, ca.tls_root_pem, f"https://localhost:{public}", *ports.options)
    token = agent.add(WWW)
    puller = Puller(tmp_path / "puller")
    command = server(base, public, ports.relay, files)
    with web_server(command, base, public), agent.serving():
        whole_way(agent, ca, puller, files, token)
        directory = puller.base / "tls" / WWW
        with puller.running("run") as run:
            agent.call("renew", WWW)
            ca.wait_for(lambda one: len(one.issued) == 2, 30)
            newest = hashlib.sha256(ca.issued[-1].der).hexdigest()
            wait_until(lambda: leaf_sha256(directory) == newest, what="the renewal is in place")
            assert "ERROR" not in run.text()
        # Unsigned questions reach the agent, whose answer this is; nothing else is passed on.
        assert status_of(public, "/v1/certificates", files) == 400
        assert status_of(public, "/", files) == 404
        assert status_of(public, "/metrics", files) == 404
