"""``internal-puller direct`` as an operator types it, against the lab's CA and DNS."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.direct_world import dns_server
from tests.lab import LabCa, SplitDns
from tests.lab.ports import free_port
from tests.line import Agent, Puller, active, leaf_sha256, wait_until

NAME = "www.intra.example.com"
pytestmark = pytest.mark.lab


@dataclass
class Line:
    puller: Puller
    ca: LabCa
    dns: SplitDns
    ca_root: Path
    key_file: Path

    @property
    def direct_file(self) -> Path:
        return self.puller.base / "direct.toml"

    def init(self, *options: str) -> None:
        self.puller.call(
            *("direct", "init", "--ca", self.ca.directory_url, "--ca-root", str(self.ca_root)),
            *("--contact", "mailto:ops@example.com", "--agree-terms", *options),
        )

    def dns01(self) -> None:
        """What an operator writes into the file for DNS UPDATE."""
        server = dns_server(self.dns)
        with self.direct_file.open("a") as file:
            file.write(
                f'[dns01]\nresolvers = ["{server}"]\nname_servers = ["{server}"]\n'
                f'[dns01.rfc2136]\nserver = "{server}"\nkey_file = "{self.key_file}"\n'
            )

    def target(self, certificate: str = NAME) -> Path:
        return self.puller.target(certificate, self.ca.root_pem)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with (
        SplitDns("example.com") as dns,
        LabCa(resolver=dns.resolver, retry_after=None) as ca,
    ):
        key = dns.add_key("puller")
        secret = base64.b64encode(key.secret).decode()
        key_file, root = tmp_path / "tsig.key", tmp_path / "ca.pem"
        key_file.write_text(f'key "puller" {{ algorithm hmac-sha256; secret "{secret}"; }};\n')
        key_file.chmod(0o600)
        root.write_text(ca.tls_root_pem)
        yield Line(Puller(tmp_path / "puller"), ca, dns, root, key_file)


def test_from_nothing_to_an_installed_certificate(line: Line) -> None:
    line.init()
    assert line.direct_file.stat().st_mode & 0o777 == 0o600
    account_key = line.puller.state / "direct" / "account.key"
    assert account_key.stat().st_mode & 0o777 == 0o600
    line.dns01()
    said = line.puller.call("direct", "add", NAME, "--challenge", "dns-01").out
    assert f"target add {NAME}" in said
    assert "nothing is ordered" in line.puller.pull().err
    directory = line.target()
    assert "installed" in line.puller.pull().out
    generation = active(directory)
    assert generation is not None
    [listed] = json.loads(line.puller.call("direct", "list", "--json").out)
    assert (listed["certificate"], listed["issued"]) == (NAME, generation)
    assert listed["next_renewal"] > generation
    status = json.loads(line.puller.call("status", "--json").out)
    [certificate] = status["certificates"]
    assert (certificate["origin"], certificate["offered"]) == ("direct", generation)
    assert "next order" in line.puller.call("status").out
    line.puller.call("verify")
    line.puller.call("direct", "renew", NAME)
    line.puller.pull()
    newer = active(directory)
    assert newer is not None
    assert newer > generation
    line.puller.call("rollback", NAME)
    assert active(directory) == generation
    line.puller.pull()
    assert active(directory) == generation
    line.puller.call("direct", "revoke", NAME, "--reason", "superseded")
    assert len(line.ca.revoked) == 1
    line.puller.pull()
    assert len(line.ca.issued) == 3
    line.puller.call("direct", "remove", NAME)
    assert json.loads(line.puller.call("direct", "list", "--json").out) == []
    assert active(directory) is not None
    assert "BEGIN PRIVATE KEY" not in "".join(
        path.read_text() for path in (line.puller.state / "direct").rglob("*.json")
    )


def test_record_check_and_certificate_by_a_standing_record(line: Line) -> None:
    line.init()
    server = dns_server(line.dns)
    with line.direct_file.open("a") as file:
        file.write(f'[dns01]\nresolvers = ["{server}"]\nname_servers = ["{server}"]\n')
    line.puller.call("direct", "add", NAME, f"*.{NAME}", "--challenge", "dns-persist-01")
    line.target()
    missing = line.puller.call("direct", "dns-persist", "check", NAME, expect=6)
    assert "does not stand" in missing.err
    assert "does not stand" in line.puller.pull(expect=6).err
    record = line.puller.call("direct", "dns-persist", "record", NAME, f"*.{NAME}").out
    (
        owner,
        *_,
    ) = record.split()
    assert owner == f"_validation-persist.{NAME}."
    text = json.loads(
        line.puller.call("direct", "dns-persist", "record", f"*.{NAME}", "--json").out
    )["records"][0]["text"]
    line.dns.set_text("outside", f"_validation-persist.{NAME}", text)
    line.puller.call("direct", "dns-persist", "check", NAME, f"*.{NAME}")
    line.puller.call("direct", "renew", NAME)
    assert "installed" in line.puller.pull().out
    assert len(line.ca.issued) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("direct", "add", NAME, "--challenge", "http-01"), 4, "no challenge of direct mode"),
        (("direct", "add", NAME, "--challenge", "dns-01"), 3, "no way to write DNS records"),
        (("direct", "add", "printer.local", "--challenge", "dns-persist-01"), 4, "no public CA"),
        (
            ("direct", "add", NAME, "--challenge", "dns-persist-01", "--key-algorithm", "dsa"),
            3,
            "no key algorithm",
        ),
        (("direct", "renew", NAME), 3, "no direct certificate"),
        (("direct", "init", "--ca", "http://ca.example.com/dir", "--agree-terms"), 3, "https URL"),
        (("direct", "init", "--ca", "letsencrypt", "--agree-terms"), 3, "exists already"),
        (("direct", "init", "--contact", "ops@example.com", "--agree-terms"), 3, "no contact"),
    ],
)
def test_bad_input(line: Line, arguments: tuple[str, ...], code: int, words: str) -> None:
    line.init()
    assert words in line.puller.call(*arguments, expect=code).err


def test_before_init_and_without_agreeing(line: Line) -> None:
    line.puller.state.mkdir(mode=0o700)
    assert "not set up" in line.puller.call("direct", "add", NAME, expect=3).err
    asked = line.puller.call("direct", "init", "--ca", line.ca.directory_url, expect=3)
    assert "--agree-terms" in asked.err
    assert not line.direct_file.exists()
    assert "not enrolled" in line.puller.pull(expect=3).err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('directori = "https://ca.example.com/dir"', "nearest is 'directory'"),
        ('directory = "http://ca.example.com/dir"', "no https URL"),
        ('directory = "https://ca.example.com"\n[dns01]\nresolver = []', "dns01.resolvers"),
        ('directory = "https://ca.example.com"\n[[certificate]]\nname = "x"', "nearest is 'names'"),
        ("directory = ", "no TOML"),
    ],
)
def test_bad_file(line: Line, text: str, words: str) -> None:
    line.init()
    line.direct_file.write_text(text)
    done = line.puller.call("direct", "add", NAME, "--challenge", "dns-persist-01", expect=3)
    assert words in done.err


def test_run_stays_and_asks_the_ca_by_itself(line: Line) -> None:
    """Without any agent; SIGTERM in the middle of an order, which the next run goes on with."""
    line.init()
    line.dns01()
    line.puller.call("direct", "add", NAME, "--challenge", "dns-01")
    directory = line.target()
    line.ca.faults.stay_processing(polls=4)
    with line.puller.running("run") as running:
        line.ca.wait_for(lambda ca: bool(ca.requests("finalize")))
        assert running.stop() == 0
    assert active(directory) is None
    line.ca.faults.clear()
    with line.puller.running("run"):
        wait_until(lambda: active(directory), what="it is installed")
    assert len(line.ca.orders) == 1


def test_the_operator_of_an_agent_sees_it(line: Line, tmp_path: Path) -> None:
    agent, port = Agent(tmp_path / "agent"), free_port()
    agent.init(
        line.ca.directory_url,
        line.ca.tls_root_pem,
        f"https://127.0.0.1:{port}",
        *("--challenge-listen", "127.0.0.1:0", "--relay-listen", f"127.0.0.1:{port}"),
        *("--operator-listen", "127.0.0.1:0"),
    )
    token = agent.add("app.example.com")
    with agent.serving():
        line.puller.enroll(token)
        line.init()
        line.dns01()
        refused = line.puller.call("direct", "add", "app.example.com", expect=4)
        assert "granted to this machine by its agent" in refused.err
        line.puller.call("direct", "add", NAME)
        directory = line.target()
        line.puller.pull(expect=None)  # app.example.com fails at the agent: nobody answers there
        [seen] = agent.status()["direct"]
        assert seen["certificate"] == NAME
        assert seen["leaf_sha256"] == leaf_sha256(directory)
        assert (seen["state"], seen["outcome"]) == ("installed", "installed")
        assert "its puller asks the CA itself" in agent.call("status", NAME).out
        line.puller.call("direct", "remove", NAME)
        line.puller.pull(expect=None)
        assert agent.status()["direct"] == []
