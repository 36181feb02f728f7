"""How a CA's request may reach the challenge listener: web servers in front, inherited sockets."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import LabCa
from tests.lab.peers import clean_environment, require
from tests.lab.ports import free_port
from tests.lab.resolver import TableResolver
from tests.line import Agent, Puller, leaf_sha256, wait_until

WWW = "www.intra.example.com"
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
APACHE_MODULES = Path("/usr/lib/apache2/modules")


def made_agent(base: Path, ca: LabCa, challenge: int, host: type[Agent] = Agent) -> Agent:
    agent = host(base, RELAY_AGENT_LOG__FORMAT="json")
    relay, operator = free_port(), free_port()
    agent.init(
        *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
        *("--challenge-listen", f"127.0.0.1:{challenge}"),
        *("--relay-listen", f"127.0.0.1:{relay}"),
        *("--operator-listen", f"127.0.0.1:{operator}"),
    )
    return agent


# --- behind a web server that holds port 80, with the snippets of deploy/ ----------------------


def nginx(base: Path, port: int, agent: int) -> list[str]:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (base / "own.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {base}/pid;\n"
        f"error_log {base}/log; events {{}}\nhttp {{ access_log off;\n"
        + "".join(f"{kind}_temp_path {base}/{kind};\n" for kind in kinds)
        + f"server {{ listen 127.0.0.1:{port}; root {base};\n"
        + snippet("nginx/challenge.conf", agent)
        + "} }\n"
    )
    return [require("nginx"), "-p", str(base), "-e", f"{base}/log", "-c", f"{base}/own.conf"]


def apache(base: Path, port: int, agent: int) -> list[str]:
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http")
    (base / "own.conf").write_text(
        "".join(f"LoadModule {one}_module {APACHE_MODULES}/mod_{one}.so\n" for one in modules)
        + f"ServerName localhost\nServerRoot {base}\nPidFile {base}/pid\nErrorLog {base}/log\n"
        + f"Mutex file:{base}\nListen 127.0.0.1:{port}\n<VirtualHost *:{port}>\n"
        + snippet("apache/challenge.conf", agent)
        + "</VirtualHost>\n"
    )
    return [require("apache2"), "-D", "FOREGROUND", "-f", f"{base}/own.conf"]


def caddy(base: Path, port: int, agent: int) -> list[str]:
    text = snippet("caddy/challenge.Caddyfile", agent)
    text = text.replace(f"http://{WWW} {{", f"http://{WWW}:{port} {{\n\tbind 127.0.0.1")
    (base / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text)
    return [require("caddy"), "run", "--adapter", "caddyfile", "--config", f"{base}/Caddyfile"]


def haproxy(base: Path, port: int, agent: int) -> list[str]:
    text = snippet("haproxy/challenge.cfg", agent)
    text = re.sub(r"bind :80\n.*v6only\n", f"bind 127.0.0.1:{port}\n", text)
    (base / "own.cfg").write_text("global\n  maxconn 100\n" + text)
    return [require("haproxy"), "-db", "-f", f"{base}/own.cfg"]


def snippet(name: str, agent: int) -> str:
    text = (DEPLOY / name).read_text()
    assert "127.0.0.1:8402" in text
    return text.replace("127.0.0.1:8402", f"127.0.0.1:{agent}")


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def web_server(command: list[str], base: Path, port: int) -> Iterator[None]:
    environment = clean_environment(XDG_DATA_HOME=str(base), XDG_CONFIG_HOME=str(base))
    with (base / "out").open("ab") as out:
        process = subprocess.Popen(
            command, cwd=base, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        wait_until(lambda: answers(port), what=f"{command[0]} listens, see {base}")
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.servers
@pytest.mark.timeout(180)
@pytest.mark.parametrize("server", [nginx, apache, caddy, haproxy])
def test_on_loopback_behind_a_web_server(server: object, tmp_path: Path) -> None:
    assert callable(server)
    port, challenge = free_port(), free_port()
    base = tmp_path / "server"
    base.mkdir()
    with LabCa(http_port=port, retry_after=None) as ca:
        agent, puller = made_agent(tmp_path / "agent", ca, challenge), Puller(tmp_path / "puller")
        token = agent.add(WWW)
        with web_server(server(base, port, challenge), base, port), agent.serving():
            assert asked(port, "/.well-known/acme-challenge/" + "x" * 43) == 404
            puller.enroll(token)
            directory = puller.target(WWW, ca.root_pem)
            ca.wait_for(lambda one: len(one.issued) == 1, 30)
            wait_until(lambda: puller.pull() and leaf_sha256(directory))
            assert len(ca.orders) == 1


def asked(port: int, path: str, address: str = "127.0.0.1") -> int:
    with contextlib.closing(http.client.HTTPConnection(address, port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Host": WWW})
        with connection.getresponse() as answer:
            return answer.status


# --- a socket that outlives the agent ----------------------------------------------------------

_AS_SYSTEMD = """
import fcntl, os, sys
held = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 50) for one in sys.argv[1].split(",")]
for number, one in enumerate(held, start=3):
    os.dup2(one, number)
    os.close(one)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(held))
os.environ["LISTEN_FDNAMES"] = ":".join(["challenge"] * len(held))
os.execv(sys.argv[2], sys.argv[2:])
"""


class InheritingAgent(Agent):
    """One whose challenge sockets are held by somebody else, as systemd holds them."""

    def argv(self, *arguments: str) -> list[str]:
        command = super().argv(*arguments)
        if arguments[0] != "serve":
            return command
        held = ",".join(str(one) for one in self.inherits)
        return [sys.executable, "-c", _AS_SYSTEMD, held, *command]


@pytest.fixture
def held() -> Iterator[list[socket.socket]]:
    """Listening sockets on one port of 127.0.0.1 and ::1."""
    with contextlib.ExitStack() as stack:
        four = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        port = four.getsockname()[1]
        six = socket.create_server(("::1", port), family=socket.AF_INET6, backlog=64)
        yield [four, stack.enter_context(six)]


class Gate(TableResolver):
    """Where the CA looks names up; it gets no answer before the gate opens."""

    def __init__(self, address: str) -> None:
        super().__init__({WWW: address})
        self.reached, self.open = threading.Event(), threading.Event()

    def addresses(self, name: str) -> list[str]:
        self.reached.set()
        assert self.open.wait(60)
        return super().addresses(name)


@pytest.mark.lab
@pytest.mark.timeout(180)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_killed_while_the_ca_knocks(
    held: list[socket.socket], address: str, tmp_path: Path
) -> None:
    """The connection waits in the inherited socket; who comes back answers it from the database."""
    port = held[0].getsockname()[1]
    gate = Gate(address)
    with LabCa(gate, http_port=port, retry_after=None) as ca:
        agent = made_agent(tmp_path / "agent", ca, 1, InheritingAgent)  # port 1 is never bound
        agent.inherits = tuple(one.fileno() for one in held)
        puller = Puller(tmp_path / "puller")
        token = agent.add(WWW)
        with agent.serving() as serving:
            puller.enroll(token)
            directory = puller.target(WWW, ca.root_pem)
            assert gate.reached.wait(30)
            serving.kill()
            gate.open.set()  # the CA connects while nobody is there to accept
            serving.start()
            agent.await_listening(serving)
            ca.wait_for(lambda one: len(one.issued) == 1, 60)
            wait_until(lambda: puller.pull() and leaf_sha256(directory), 60)
        assert len(ca.orders) == 1
        assert agent.certificate(WWW)["failures"] == 0


@pytest.mark.lab
def test_started_by_systemd_socket_activate(tmp_path: Path) -> None:
    """The real protocol: descriptors, names and process id as systemd passes them."""
    port = free_port()
    with LabCa(http_port=port, retry_after=None) as ca:
        agent = made_agent(tmp_path / "agent", ca, 1)
        activate = [require("systemd-socket-activate"), "--fdname=challenge:challenge"]
        activate += [f"--listen=127.0.0.1:{port}", f"--listen=[::1]:{port}"]
        process = subprocess.Popen(
            [*activate, *(f"-E{name}" for name in agent.variables()), "--", *agent.argv("serve")],
            env=agent.variables(),
            cwd=agent.base,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: answers(port), what="systemd-socket-activate listens")
            for address in ("127.0.0.1", "::1"):
                assert asked(port, "/", address) == 404
        finally:
            process.terminate()
            assert process.wait(30) == 0
