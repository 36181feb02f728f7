"""The main story: an intranet server gets, serves and renews a certificate that a CA issued."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.message
import dns.query
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.demo_story.processes import Processes, StoryFailed, free_ports, python
from deploy.demo_story.screen import Screen
from deploy.demo_story.visitors import Visitors, digest, served_leaf
from shared.host.watching import NEEDS_ATTENTION

NAME = "www.intra.example.com"
OUTSIDE, INSIDE = "127.0.0.1", "127.0.0.2"
SERVER = Path(__file__).with_name("intranet_server.py")


@dataclass
class Story:
    """Everything that one telling needs; each method is a chapter."""

    directory: Path
    processes: Processes
    screen: Screen

    def __post_init__(self) -> None:
        ports = free_ports(4)
        self.challenge_port, self.relay_port, self.operator_port, self.server_port = ports
        self.puller_config = self.directory / "puller" / "puller.toml"
        self.live = self.directory / "live" / NAME
        self.server_config = self.directory / "server.json"
        self.lab: dict[str, Any] = {}
        self.leaves: list[tuple[str, str, str]] = []

    # --- the parts ---------------------------------------------------------------------------

    def agent(self, *words: str) -> str:
        accept = (0, NEEDS_ATTENTION) if words[:1] == ("status",) else (0,)
        return self.processes.run(*python("-m", "external_agent", *words), accept=accept).stdout

    def puller(self, *words: str, **options: Any) -> str:
        return self.processes.run(*python("-m", "internal_puller", *words), **options).stdout

    @property
    def server(self) -> tuple[str, int]:
        return INSIDE, self.server_port

    def served(self) -> str:
        return digest(served_leaf(self.server, NAME))

    def issued(self) -> str:
        """The leaf that the CA issued last, from the CA's own books."""
        import httpx

        state = httpx.get(self.lab["control_url"] + "/state", trust_env=False).json()
        return str(state["issued"][-1]["sha256"])

    # --- the chapters ------------------------------------------------------------------------

    def world(self) -> None:
        self.screen.chapter("An Internet: a CA and a DNS zone with two views")
        with self.screen.step("The lab CA and the DNS servers start"):
            state = self.directory / "lab.json"
            self.processes.start(
                "lab",
                *python("-m", "tests.lab", "--dns-zone", "example.com"),
                *("--http-port", str(self.challenge_port), "--state", str(state)),
                *("--record-outside", f"{NAME}={OUTSIDE}", "--record-inside", f"{NAME}={INSIDE}"),
                *("--ca-dir", str(self.directory / "ca"), "--tsig-key", "demo"),
            )
            self.processes.wait("The lab", lambda: state.exists() or None)
            self.lab = json.loads(state.read_text())
        self._dns01()
        self.screen.note(f"ACME directory {self.lab['directory_url']}")
        rows = [
            (view, NAME, self._ask_dns(self.lab[f"dns_{view}"]), whose)
            for view, whose in (
                ("outside", "the external agent's machine"),
                ("inside", "the intranet server"),
            )
        ]
        self.screen.table("asked from", "name", "address", "which is", rows=rows)

    def _dns01(self) -> None:
        """Let the agent change TXT records of the zone, with a TSIG key."""
        (key,) = self.lab["tsig_keys"]
        file = self.directory / "tsig.key"
        file.touch(0o600)
        file.write_text(
            f'key "{key["name"]}" {{ algorithm {key["algorithm"]}; secret "{key["secret"]}"; }};\n'
        )
        server = "{}:{}".format(*self.lab["dns_outside"])
        self.processes.set(
            RELAY_AGENT_DNS01__RESOLVERS=json.dumps([server]),
            RELAY_AGENT_DNS01__NAME_SERVERS=json.dumps([server]),
            RELAY_AGENT_DNS01__RFC2136__SERVER=server,
            RELAY_AGENT_DNS01__RFC2136__KEY_FILE=str(file),
        )

    def dns01_sections(self) -> str:
        """Return the same for direct mode's file."""
        server = "{}:{}".format(*self.lab["dns_outside"])
        return (
            f'[dns01]\nresolvers = ["{server}"]\nname_servers = ["{server}"]\n'
            f'[dns01.rfc2136]\nserver = "{server}"\nkey_file = "{self.directory / "tsig.key"}"\n'
        )

    def _ask_dns(self, server: list[Any]) -> str:
        query = dns.message.make_query(NAME, "A")
        answer = dns.query.udp(query, server[0], port=int(server[1]), timeout=5)
        return str(answer.answer[0][0])

    def outside(self) -> None:
        self.screen.chapter("Outside: the external agent")
        with self.screen.step("external-agent init"):
            self.agent(
                "init",
                *("--contact", "mailto:ops@example.com", "--agree-terms"),
                *("--ca", self.lab["directory_url"], "--ca-root", self.lab["tls_root"]),
                *("--relay-url", f"https://{OUTSIDE}:{self.relay_port}"),
                *("--relay-listen", f"{OUTSIDE}:{self.relay_port}"),
                *("--challenge-listen", f"{OUTSIDE}:{self.challenge_port}"),
                *("--operator-listen", f"{OUTSIDE}:{self.operator_port}"),
                *("--state-directory", str(self.directory / "agent" / "state")),
            )
        with self.screen.step(f"external-agent add {NAME}"):
            said = self.agent("add", NAME)
            self.token = next(word for word in said.split() if word.startswith("shr1_"))
        self.screen.note("prints a one-time enrolment token; nothing is ordered before it is used")
        with self.screen.step("external-agent serve"):
            self.processes.start("agent", *python("-m", "external_agent", "serve"))
            self.processes.wait("The agent's listeners", self._agent_ready)

    def _agent_ready(self) -> bool | None:
        import httpx

        try:
            answer = httpx.get(
                f"http://{OUTSIDE}:{self.operator_port}/readyz", trust_env=False, timeout=2
            )
        except httpx.HTTPError:
            return None
        return True if answer.status_code == 200 else None

    def inside(self) -> None:
        self.screen.chapter("Inside: the intranet server and its puller")
        fallback = self.directory / "self-signed.pem"
        fallback.write_bytes(_self_signed())
        self.server_config.write_text(
            json.dumps(
                {
                    "address": INSIDE,
                    "port": self.server_port,
                    "certificate": str(self.live / "current" / "fullchain.pem"),
                    "key": str(self.live / "current" / "privkey.pem"),
                    "fallback_certificate": str(fallback),
                    "fallback_key": str(fallback),
                    "pid_file": str(self.directory / "server.pid"),
                }
            )
        )
        with self.screen.step("The intranet server starts, with a self-signed certificate"):
            self.processes.start("server", *self._server("serve"))
            pid_file = self.directory / "server.pid"
            self.processes.wait("The intranet server", lambda: pid_file.exists() or None)
        self.puller_config.parent.mkdir()
        self.puller_config.write_text(
            f'state_directory = "{self.directory / "puller" / "state"}"\n'
            f'lock_file = "{self.directory / "install.lock"}"\nproxy = "none"\n'
        )
        with self.screen.step("internal-puller enroll"):
            self.puller("enroll", given=self.token + "\n")
        with self.screen.step(f"internal-puller target add {NAME}"):
            self.puller(
                *("target", "add", NAME, "--directory", str(self.live), "--preset", "none"),
                *("--format", "fullchain", "--format", "privkey"),
                *("--test-command", _quoted(self._server("test"))),
                *("--reload-command", _quoted(self._server("reload"))),
                *("--probe", f"{INSIDE}:{self.server_port}/{NAME}", "--probe-timeout", "3"),
                *("--root", self.lab["root"]),
            )

    def _server(self, action: str) -> tuple[str, ...]:
        return python(str(SERVER), action, str(self.server_config))

    def first_certificate(self) -> None:
        self.screen.chapter("The first certificate")
        with self.screen.step("internal-puller run: fetches, verifies, installs, reloads, probes"):
            self.processes.start("puller", *python("-m", "internal_puller", "run"))
            before = self.served()
            self.processes.wait(
                "A certificate from the CA", lambda: self.served() != before or None
            )
        listening = self.processes.listening_sockets("puller")
        self.screen.note(f"sockets on which the puller listens: {listening}")
        self._compare("first issuance")

    def renewal(self) -> None:
        self.screen.chapter("A renewal that nobody notices")
        with Visitors(self.server, NAME) as visitors:
            before = self.served()
            with self.screen.step(f"external-agent renew {NAME}"):
                self.agent("renew", NAME)
                self.processes.wait(
                    "The renewed certificate", lambda: self.served() != before or None
                )
                asked = visitors.kept
                self.processes.wait("More visitors", lambda: visitors.kept > asked + 5 or None)
        if visitors.failed or len(visitors.seen) != 2:
            raise StoryFailed(f"Visitors noticed: {visitors.failed or visitors.seen}")
        self.screen.note(
            f"{visitors.kept} answers on one connection kept open throughout, {visitors.new} on "
            f"new ones, {len(visitors.failed)} failures, {len(visitors.seen)} certificates seen"
        )
        self._compare("renewal")

    def not_taken_up(self) -> None:
        self.screen.chapter("A server that goes on with the old certificate, on purpose")
        good = self.server_config.read_text()
        stale = self.directory / "stale.pem"
        stale.write_bytes(
            b"".join(
                (self.live / "current" / f).read_bytes() for f in ("fullchain.pem", "privkey.pem")
            )
        )
        before = self.served()
        broken = json.loads(good) | {"certificate": str(stale), "key": str(stale)}
        with self.screen.step("The server is told to read another file; a renewal comes"):
            self.server_config.write_text(json.dumps(broken))
            self.agent("renew", NAME)
            self.processes.wait("The receipt of what was not taken up", self._is_told)
        if self.served() != before or self.issued() == before:
            raise StoryFailed("The server does not show the certificate before.")
        self.screen.note("the new one is in place, the probe sees the old one: told on both sides")
        self.server_config.write_text(good)
        with self.screen.step("It is mended; internal-puller pull --retry: reloads, looks again"):
            self.puller("pull", "--retry")
        self._compare("once it was mended")

    def _is_told(self) -> bool | None:
        return True if "install/not-taken-up" in self.agent("status", "--json") else None

    def _compare(self, when: str) -> None:
        issued, served = self.issued(), self.served()
        self.leaves.append((when, issued, served))
        if issued != served:
            raise StoryFailed(f"{when}: the CA issued {issued}, but the server serves {served}.")

    def end(self) -> None:
        self.screen.chapter("What the two sides say")
        self.screen.console.print(self.agent("status").rstrip(), markup=False)
        self.screen.console.print()
        said = self.puller("status", accept=tuple(range(20)))
        self.screen.console.print(said.rstrip(), markup=False)
        self.screen.chapter("SHA-256 of the leaf")
        for when, issued, served in self.leaves:
            self.screen.console.print(f"{when}\n  issued {issued}\n  served {served}  equal")

    def addresses(self) -> None:
        self.screen.chapter("Left running; Ctrl-C ends it")
        rows = [
            ("intranet server", f"https://{INSIDE}:{self.server_port} (name {NAME})"),
            ("agent's status", f"http://{OUTSIDE}:{self.operator_port}/v1/status"),
            ("agent's metrics", f"http://{OUTSIDE}:{self.operator_port}/metrics"),
            ("relay", f"https://{OUTSIDE}:{self.relay_port}"),
            ("ACME directory", str(self.lab["directory_url"])),
            ("everything written", str(self.directory)),
            ("for the commands", f"export RELAY_AGENT_CONFIG={self.directory}/agent/agent.toml"),
            ("try", f"{sys.executable} -m external_agent renew {NAME}"),
        ]
        self.screen.table("what", "where", rows=rows)


def _quoted(command: tuple[str, ...]) -> str:
    import shlex

    return shlex.join(command)


def _self_signed() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self-signed")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
