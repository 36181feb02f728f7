"""One CA with everything around it: BIND, an agent, a puller, nginx; for the table of every way.

All certificates of a CA go their ways at once: `World.run` does everything, and tests look at what
came of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import dns.query
import dns.rdatatype
import dns.update

from tests.acme2certifier import Acme2Certifier
from tests.bind import Bind
from tests.caddy import Caddy
from tests.lab import LabCa
from tests.lab.peers import clean_environment, require
from tests.lab.ports import free_port
from tests.lab.resolver import DnsResolver
from tests.line import Agent, Done, Puller, leaf_sha256, wait_until
from tests.own_address import own_address
from tests.pebble import Pebble

ZONE = "example.com"
MODES = ("sealed", "csr", "direct")
CHALLENGES = ("http-01", "dns-01", "dns-persist-01")
CAS = ("lab-01", "lab-02", "pebble", "acme2certifier", "caddy")
"""The lab's CA twice: by draft -01 and by draft -02 of dns-persist-01."""
NOT_OFFERED = "this CA knows no dns-persist-01"
NO_LISTENER = "direct mode has no listener that the CA could reach"


@dataclass(frozen=True)
class Cell:
    ca: str
    mode: str
    challenge: str

    @property
    def name(self) -> str:
        return f"{self.mode}-{self.challenge}.{self.ca}.{ZONE}"

    @property
    def impossible(self) -> str:
        """Why this cell cannot be; empty when it can."""
        if self.challenge == "dns-persist-01" and self.ca in ("pebble", "caddy"):
            return NOT_OFFERED
        if (self.mode, self.challenge) == ("direct", "http-01"):
            return NO_LISTENER
        return ""


CELLS = [
    Cell(ca, mode, challenge)
    for ca in CAS
    for mode in MODES
    for challenge in CHALLENGES
    if ca != "lab-02" or challenge == "dns-persist-01"
]


@dataclass
class Outcome:
    """What a visitor of the server saw (verified by name and root), and what is in place."""

    served: str
    installed: str


@dataclass
class World:
    """What stands around one CA, and what came of its cells.

    Attributes:
        refusals: of cells that cannot be, what the program said.
    """

    ca: str
    directory_url: str
    tls_root: str
    issuing_root: str
    bind: Bind
    web: str
    base: Path
    outcomes: dict[Cell, Outcome] = field(default_factory=dict)
    refusals: dict[Cell, Done] = field(default_factory=dict)
    orders_by: dict[Cell, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base.mkdir()
        server = f"{self.bind.outside[0]}:{self.bind.outside[1]}"
        self.key_file = self.bind.key.write(self.base / "tsig.key")
        self.relay, self.operator, self.tls_port = free_port(), free_port(), free_port()
        self._server = server
        self.agent = Agent(
            self.base / "agent",
            RELAY_AGENT_LOG__FORMAT="json",
            RELAY_AGENT_DNS01__RESOLVERS=json.dumps([server]),
            RELAY_AGENT_DNS01__NAME_SERVERS=json.dumps([server]),
            RELAY_AGENT_DNS01__RFC2136__SERVER=server,
            RELAY_AGENT_DNS01__RFC2136__KEY_FILE=str(self.key_file),
        )
        self.puller = Puller(self.base / "puller")

    @property
    def cells(self) -> list[Cell]:
        return [cell for cell in CELLS if cell.ca == self.ca]

    def run(self) -> None:
        """Have every certificate that can be ordered, installed and served."""
        self._set_up()
        with self._nginx(), self.agent.serving():
            for cell in self.cells:
                if cell.impossible:
                    self.refusals[cell] = self._refused(cell)
                else:
                    self._want(cell)
            wanted = [cell for cell in self.cells if not cell.impossible]
            wait_until(lambda: self._pull_until(wanted), 90, what=f"all is served by {self.ca}")
            for cell in wanted:
                self.outcomes[cell] = Outcome(self._served(cell), self._installed(cell) or "")

    # --- setting up ----------------------------------------------------------------------------

    def _set_up(self) -> None:
        self.agent.init(
            *(self.directory_url, self.tls_root, f"https://localhost:{self.relay}"),
            *("--challenge-listen", f"{self.web}:80"),
            *("--relay-listen", f"127.0.0.1:{self.relay}"),
            *("--operator-listen", f"127.0.0.1:{self.operator}"),
        )
        root = self.base / "agent" / "ca-tls-root.pem"
        self.puller.call(
            *("direct", "init", "--ca", self.directory_url, "--ca-root", str(root)),
            *("--contact", "mailto:ops@example.com", "--agree-terms"),
        )
        with (self.puller.base / "direct.toml").open("a") as file:
            file.write(
                f'[dns01]\nresolvers = ["{self._server}"]\nname_servers = ["{self._server}"]\n'
                f'[dns01.rfc2136]\nserver = "{self._server}"\nkey_file = "{self.key_file}"\n'
            )

    def _want(self, cell: Cell) -> None:
        if cell.challenge == "dns-persist-01":
            self._set_record(self._record(cell))
        options = ("--challenge", cell.challenge)
        if cell.mode == "direct":
            self.puller.call("direct", "add", cell.name, *options)
        else:
            origin = "puller" if cell.mode == "csr" else "agent"
            self.puller.enroll(self.agent.add(cell.name, *options, "--key-origin", origin))
        self.puller.target(
            cell.name,
            self.issuing_root,
            *("--probe", f"127.0.0.1:{self.tls_port}/{cell.name}"),
            *("--test-command", " ".join((*self._command, "-t"))),
            *("--reload-command", " ".join((*self._command, "-s", "reload"))),
        )

    def _record(self, cell: Cell) -> str:
        """What the program tells a person to put into the zone."""
        words = ("dns-persist", "record", cell.name)
        if cell.mode == "direct":
            return self.puller.call("direct", *words).out
        return self.agent.call(*words).out

    def _set_record(self, printed: str) -> None:
        """Do what a person does with it; for the lab's CA in several strings (RFC 1035 3.3.14)."""
        (line,) = [line for line in printed.splitlines() if " TXT " in line]
        owner, _, text = line.partition(" ")
        value = text.partition(" TXT ")[2].replace('" "', "").strip().strip('"')
        cut = 30 if self.ca.startswith("lab") else 255
        strings = [value[at : at + cut] for at in range(0, len(value), cut)]
        quoted = " ".join(f'"{one}"' for one in strings)
        update = dns.update.UpdateMessage(ZONE, keyring=self.bind.key.for_dnspython)
        update.add(owner, 1, dns.rdatatype.TXT, quoted)
        answer = dns.query.tcp(update, self.bind.outside[0], 5, self.bind.outside[1])
        assert answer.rcode() == 0, answer

    def _refused(self, cell: Cell) -> Done:
        """Let the program itself say that this cannot be."""
        if cell.impossible == NO_LISTENER:
            return self.puller.call(
                "direct", "add", cell.name, "--challenge", "http-01", expect=None
            )
        words = ("dns-persist", "record", cell.name)
        if cell.mode == "direct":
            return self.puller.call("direct", *words, expect=None)
        return self.agent.call(*words, expect=None)

    # --- the intranet server -------------------------------------------------------------------

    @property
    def _command(self) -> tuple[str, ...]:
        place = self.base / "nginx"
        return ("nginx", "-p", str(place), "-e", f"{place}/log", "-c", f"{place}/nginx.conf")

    @contextlib.contextmanager
    def _nginx(self) -> Iterator[None]:
        """One server for all names, which takes the files of whichever name is asked for."""
        require("nginx")
        place = self.base / "nginx"
        place.mkdir()
        current = f"{self.puller.base}/tls/$ssl_server_name/current"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        (place / "nginx.conf").write_text(
            f"user root;\nworker_processes 1; daemon off;\npid {place}/pid;\n"
            f"error_log {place}/log;\n"
            "events {}\nhttp {\naccess_log off;\n"
            + "".join(f"{kind}_temp_path {place}/{kind};\n" for kind in kinds)
            + f"server {{ listen 127.0.0.1:{self.tls_port} ssl;\n"
            f"ssl_certificate {current}/fullchain.pem; ssl_certificate_key {current}/privkey.pem;\n"
            'location / { return 200 "ok"; } } }\n'
        )
        process = subprocess.Popen(self._command, env=clean_environment(), stdin=subprocess.DEVNULL)
        try:
            wait_until((place / "pid").exists, what="nginx is there")
            yield
        finally:
            process.terminate()
            process.wait(20)

    def _pull_until(self, wanted: Sequence[Cell]) -> bool:
        self.puller.pull(expect=None)
        return all(self._installed(cell) for cell in wanted)

    def _installed(self, cell: Cell) -> str | None:
        return leaf_sha256(self.puller.base / "tls" / cell.name)

    def _served(self, cell: Cell) -> str:
        context = ssl.create_default_context(cadata=self.issuing_root)
        with (
            socket.create_connection(("127.0.0.1", self.tls_port), 10) as plain,
            context.wrap_socket(plain, server_hostname=cell.name) as tls,
        ):
            leaf = tls.getpeercert(binary_form=True)
        assert leaf is not None
        return hashlib.sha256(leaf).hexdigest()


@contextlib.contextmanager
def world_of(ca: str, base: Path) -> Iterator[World]:
    """Start what one CA needs; it validates through BIND at port 53 and at port 80."""
    web = own_address()
    hosts = {cell.name.removesuffix(f".{ZONE}"): [f"A {web}"] for cell in CELLS if cell.ca == ca}
    with ExitStack() as stack:
        bind = stack.enter_context(Bind({ZONE: hosts}, inside={ZONE: {}}, port=53))
        made = stack.enter_context(_authority(ca, bind))
        match made:
            case LabCa():
                roots = made.tls_root_pem, made.root_pem
            case Pebble():
                roots = made.minica.read_text(), made.issuing_root().decode()
            case _:
                roots = Path(made.roots).read_text(), made.issuing_root.decode()
        yield World(ca, made.directory_url, *roots, bind, web, base)


Authority = LabCa | Pebble | Acme2Certifier | Caddy


def _authority(ca: str, bind: Bind) -> AbstractContextManager[Authority]:
    address, port = bind.outside
    match ca:
        case "pebble":
            return Pebble(dns=f"{address}:{port}", http_port=80)
        case "acme2certifier":
            return Acme2Certifier(dns=address)
        case "caddy":
            return Caddy(dns=address)
    draft = 2 if ca == "lab-02" else 1
    resolver = DnsResolver(bind.outside)
    return LabCa(resolver=resolver, http_port=80, retry_after=None, persist_draft=draft)
