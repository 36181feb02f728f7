"""The world with everything in it, for the tests that play the main job through."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import LabCa, SplitDns
from tests.lab.peers import require
from tests.line import Agent, Puller

from . import visitor
from .namespaces import Namespace
from .world import RELAY, WWW, World, inside_dns, lab_ca, outside_dns, world


def nginx_conf(base: Path, server: str) -> str:
    """Return the text of an nginx.conf with one server; it writes below `base` alone."""
    return f"""
user root;
worker_processes 2;
pid {base}/nginx.pid;
error_log {base}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {base}/a; proxy_temp_path {base}/b; fastcgi_temp_path {base}/c;
  uwsgi_temp_path {base}/d; scgi_temp_path {base}/e;
  server {{ {server} }}
}}
"""


@dataclass
class Inside:
    """The intranet before the first certificate: nginx serves an old one."""

    world: World
    puller: Puller
    nginx: Path

    def configure_nginx(self, certificates: Path) -> None:
        """Let `/etc/nginx/nginx.conf` of the intranet's host name these files."""
        server = (
            f"listen 443 ssl; server_name {WWW}; ssl_certificate {certificates}/fullchain.pem; "
            f"ssl_certificate_key {certificates}/privkey.pem; "
            'location / { return 200 "the intranet"; }'
        )
        (self.nginx / "nginx.conf").write_text(nginx_conf(self.nginx, server))

    def visit(self, root_pem: str, host: Namespace | None = None) -> dict[str, Any]:
        """Visit the name by HTTPS from the intranet, or from another host."""
        root = self.nginx / "trusted.pem"
        root.write_text(root_pem)
        where = host or self.world.intranet
        answer = where.run(sys.executable, "-I", visitor.__file__, WWW, "443", str(root))
        return dict(json.loads(answer))

    def listening(self) -> set[str]:
        """Return `program:port` of whatever accepts connections on the intranet's host."""
        found = set()
        for line in self.world.intranet.run("ss", "-Hltunp").splitlines():
            port = line.split()[4].rpartition(":")[2]
            program = re.search(r'users:\(\("([^"]+)"', line)
            found.add(f"{program[1] if program else '?'}:{port}")
        return found


@dataclass
class Stage(Inside):
    """The intranet, and an agent that is set up."""

    agent: Agent


@dataclass
class LabStage(Stage):
    """A stage whose CA is the lab's."""

    ca: LabCa


@pytest.fixture
def named_world() -> Iterator[tuple[World, SplitDns]]:
    """The world with its two DNS views; gives the outside one."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    for program in ("ip", "nft", "ss", "nginx"):
        require(program)
    with world() as built, outside_dns(built) as dns, inside_dns(built):
        yield built, dns


@pytest.fixture
def stage(named_world: tuple[World, SplitDns], tmp_path: Path) -> Iterator[LabStage]:
    """The world with the lab's CA, an agent that is set up, and an nginx that serves."""
    with (
        lab_ca(*named_world) as ca,
        play(named_world[0], ca.directory_url, ca.tls_root_pem, tmp_path) as made,
    ):
        yield LabStage(**vars(made), ca=ca)


@contextmanager
def play(built: World, directory_url: str, ca_root_pem: str, base: Path) -> Iterator[Stage]:
    """Set the agent up with its defaults, and nginx with a certificate that nobody trusts."""
    agent = Agent(
        base / "agent",
        built.vm.argv,
        RELAY_AGENT_LOG__LEVEL="debug",
        RELAY_AGENT_LOG__FORMAT="json",
        RELAY_AGENT_DOCTOR__PAUSE="0",  # one puller asks for all faults
    )
    agent.init(directory_url, ca_root_pem, f"https://{RELAY}:8443")
    with inside(built, base) as made:
        yield Stage(**vars(made), agent=agent)


@contextmanager
def inside(built: World, base: Path) -> Iterator[Inside]:
    """Set a puller up, and nginx with a certificate that nobody trusts."""
    puller = Puller(base / "puller", built.intranet.argv)
    nginx = built.intranet.etc("nginx")
    nginx.mkdir()
    made = Inside(built, puller, nginx)
    old = base / "old"
    old.mkdir()
    (old / "fullchain.pem").write_text(self_signed(old))
    made.configure_nginx(old)
    log = (base / "nginx.log").open("wb")
    server = subprocess.Popen(
        built.intranet.argv("nginx", "-g", "daemon off;"), stdout=log, stderr=log
    )
    try:
        deadline = time.monotonic() + 10
        while "nginx:443" not in made.listening():
            assert server.poll() is None, (base / "nginx.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield made
    finally:
        server.terminate()
        server.wait(10)
        log.close()


def self_signed(directory: Path) -> str:
    """Write privkey.pem and return a certificate for it that nobody trusts."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-days",
                "1",
                "-subj",
                f"/CN={WWW}",
                "-addext",
                f"subjectAltName=DNS:{WWW}",
            ),
            *("-keyout", str(directory / "privkey.pem"), "-out", str(directory / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return (directory / "cert.pem").read_text()
