"""dns-persist-01 against the lab's CA, in both drafts: the commands, then an order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from external_agent.cli import main
from external_agent.settings import keys
from external_agent.settings.config import load_settings
from external_agent.store.open import open_store
from shared.acme.client import AcmeClient
from shared.acme.dns_persist_use import PersistSolver, persist_lookup
from shared.acme.order import drive_order
from shared.contract.errors import DnsFailure
from shared.contract.x509 import dns_names, load_chain
from tests.lab.ca import LabCa
from tests.lab.split_dns import SplitDns, quoted
from tests.unit.shared.acme.doubles import RecordedJournal, csr_for

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"
WILD = f"*.{NAME}"
OWNER = f"_validation-persist.{NAME}"
UNTIL = 4_000_000_000


@dataclass
class Said:
    code: int
    out: str
    err: str


@dataclass
class World:
    """A CA, its DNS, and an agent that is typed at."""

    ca: LabCa
    dns: SplitDns
    config: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Said:
        self.capsys.readouterr()
        try:
            main(["--config", str(self.config), *arguments])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err
        return Said(code, captured.out, captured.err)

    def publish(self, *lines: str) -> None:
        """Do by hand what the commands never do."""
        self.dns.set("outside", OWNER, "TXT", *(line.split(" IN TXT ")[1] for line in lines))

    def issue(self, *names: str) -> None:
        settings = load_settings(self.config)
        agent_keys = keys.load_keys(settings.state_directory)
        with AcmeClient(
            self.ca.directory_url, agent_keys.account, trusted_roots=settings.acme.ca_root
        ) as client:
            client.ensure_account(terms_agreed=True)
            solver = PersistSolver(
                client, persist_lookup(settings.dns01), clock=self.ca.state.clock
            )
            issued = drive_order(
                client,
                names=names,
                csr_pem=csr_for(names),
                order_url=None,
                adopt_unfinished=False,
                solvers={"dns-persist-01": solver},
                journal=RecordedJournal(),
                deadline_seconds=30.0,
            )
        leaf = load_chain(issued.chain_pem.decode())[0]
        assert set(dns_names(leaf)) == set(names)


@pytest.fixture
def make_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., World]]:
    with ExitStack() as stack:

        def make(draft: int = 1, **more: object) -> World:
            dns = stack.enter_context(SplitDns("example.com"))
            ca = stack.enter_context(
                LabCa(resolver=dns.resolver, persist_draft=draft, retry_after=None, **more)  # type: ignore[arg-type]
            )
            root = tmp_path / "root.pem"
            root.write_text(ca.tls_root_pem)
            world = World(ca, dns, tmp_path / "agent.toml", capsys)
            said = world(
                *("init", "--relay-url", "https://relay.example.com:8443", "--agree-terms"),
                *("--ca", ca.directory_url, "--ca-root", str(root)),
                *("--state-directory", str(tmp_path / "state")),
            )
            assert said.code == 0, said.err
            address = ":".join(map(str, dns.outside_address))
            own = f'[dns01]\nresolvers = ["{address}"]\nname_servers = ["{address}"]\n'
            settings = world.config.read_text()
            assert settings.count("[dns01]\n") == 1
            world.config.write_text(settings.replace("[dns01]\n", own))
            return world

        yield make


MakeWorld = Callable[..., World]


@pytest.mark.parametrize("draft", [1, 2])
@pytest.mark.parametrize("options", [(), ("--wildcard", "--until", str(UNTIL))])
def test_printed_set_checked_issued(
    make_world: MakeWorld, draft: int, options: tuple[str, ...]
) -> None:
    world = make_world(draft)
    said = world("dns-persist", "record", NAME, *options)
    assert said.code == 0, said.err
    (line,) = said.out.splitlines()
    assert line.startswith(f"{OWNER}. 3600 IN TXT ")
    assert ("policy=wildcard" in line, str(UNTIL) in line) == (bool(options), bool(options))
    assert ("sha-256/" in line) == (draft == 2)
    assert "CA confirmed the account" in said.err
    assert world.dns.get("outside", OWNER, "TXT") == []
    missing = world("dns-persist", "check", NAME)
    assert missing.code == 6
    assert f"{NAME}: missing: {OWNER}: there is no TXT record" in missing.out
    world.publish(line)
    names = (NAME, WILD) if options else (NAME,)
    said = world("dns-persist", "check", *names)
    assert said.code == 0, said.err
    assert f"{NAME}: good: the record is good" in said.out
    assert ("it ends 2096-10-02" in said.out) == bool(options)
    world.issue(*names)


def test_draft_02_one_text_for_every_domain(make_world: MakeWorld) -> None:
    world = make_world(2)
    said = world("dns-persist", "record", NAME, "app.example.com", "--any-domain", "--json")
    one, other = json.loads(said.out)["records"]
    assert one["text"] == other["text"]
    assert one["draft"] == "draft-ietf-acme-dns-persist-02"
    world.publish(one["zone_line"])
    assert world("dns-persist", "check", NAME).code == 0
    world.issue(NAME)


def test_split_strings_are_one_text(make_world: MakeWorld) -> None:
    world = make_world(2, issuer_domains=("a" * 60 + "." + "b" * 60 + "." + "c" * 60 + ".example",))
    line = world("dns-persist", "record", NAME).out
    assert '" "' in line, "over 255 octets"
    world.publish(line)
    said = world("dns-persist", "check", NAME, "--json")
    assert "in 2 strings" in json.loads(said.out)["names"][0]["words"]
    world.issue(NAME)
    text = world.dns.get("outside", OWNER, "TXT")[0].strip('"').replace('" "', "")
    world.dns.set("outside", OWNER, "TXT", quoted(text[:200]), quoted(text[200:]))
    said = world("dns-persist", "check", NAME)
    assert said.code == 6
    assert "split over several records" in said.out


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda line: line.replace("lab-ca", "other-ca"), "wrong issuer"),
        (lambda line: line.replace("/account/", "/account/x"), "wrong account"),
        (lambda line: line.rstrip('"') + '; persistUntil=1700000000"', "expired"),
        (lambda line: line.replace("accounturi=", "accounturi "), "malformed"),
        (lambda line: line.split(";")[0] + '"', "malformed"),
    ],
)
def test_what_is_wrong_is_said_and_no_authorization_is_lost(
    make_world: MakeWorld, change: Callable[[str], str], verdict: str
) -> None:
    world = make_world()
    line = world("dns-persist", "record", NAME).out.strip()
    assert change(line) != line
    world.publish(change(line))
    said = world("dns-persist", "check", NAME)
    assert said.code == 6
    assert f"{NAME}: {verdict}: " in said.out
    with pytest.raises(DnsFailure) as refused:
        world.issue(NAME)
    assert line.split(" IN TXT ")[1] in refused.value.do
    assert not world.ca.requests("challenge")
    world.publish(line)
    world.issue(NAME)


def test_servers_that_disagree_and_cnames(make_world: MakeWorld) -> None:
    world = make_world()
    line = world("dns-persist", "record", NAME).out
    world.dns.set("outside", OWNER, "CNAME", "records.example.com.")
    world.dns.set("outside", "records.example.com", "TXT", line.split(" IN TXT ")[1])
    assert world("dns-persist", "check", NAME).code == 0
    world.issue(NAME)
    world.dns.set("outside", "records.example.com", "TXT")
    world.dns.set("outside", "records.example.com", "CNAME", f"{OWNER}.")
    said = world("dns-persist", "check", NAME)
    assert "do not end" in said.out
    world.dns.remove("outside", OWNER, "CNAME")
    world.dns.faults.rcode("SERVFAIL", name=OWNER, times=None)
    said = world("dns-persist", "check", NAME)
    assert (said.code, f"{NAME}: unknown: " in said.out) == (6, True)


def test_not_offered(make_world: MakeWorld) -> None:
    world = make_world(challenges=("http-01", "dns-01"))
    said = world("dns-persist", "record", NAME)
    assert (said.code, said.out) == (6, "")
    assert f"does not offer dns-persist-01 for {NAME}; it offers dns-01, http-01." in said.err


def test_account_that_does_not_stand(make_world: MakeWorld) -> None:
    world = make_world()
    assert world("dns-persist", "record", NAME).code == 0
    world.ca.deactivate(world.ca.accounts[0])
    said = world("dns-persist", "record", NAME)
    assert (said.code, said.out) == (6, "")


def test_bad_dates_and_drafts(make_world: MakeWorld) -> None:
    world = make_world()
    for options, words in (
        (("--until", "tomorrow"), "is no date"),
        (("--until", "2020-01-01"), "in the past"),
        (("--any-domain",), "speaks draft -01 only"),
    ):
        said = world("dns-persist", "record", NAME, *options)
        assert (said.code, said.out) == (3, "")
        assert words in said.err
    said = world("dns-persist", "record", NAME, "--until", "2096-10-02")
    assert "persistUntil=4000060799" in said.out


def test_a_check_is_kept_for_the_certificate(make_world: MakeWorld) -> None:
    world = make_world()
    assert world("add", NAME, WILD, "--challenge", "dns-persist-01").code == 0
    world.publish(world("dns-persist", "record", NAME, WILD, "--until", "2096-10-02").out)
    assert world("dns-persist", "check", NAME, WILD).code == 0
    assert f"{NAME}: good; it ends 2096-10-02 23:59:59 UTC" in world("status").out
    store = open_store(load_settings(world.config).database_url)
    (row,) = store.persist_records()
    store.close()
    assert row.wildcard
    assert row.offer.issuers == ("lab-ca.example",)


def test_the_doctor_tells_an_expired_record_from_one_that_stands(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(1)
    monkeypatch.setenv("RELAY_AGENT_DOCTOR__RESOLVERS", "[]")  # those of dns01.resolvers
    assert world("add", NAME, "--challenge", "dns-persist-01").code == 0

    def found() -> tuple[str, str, str]:
        said = world("doctor", NAME, "--json")
        assert said.code == 13  # the agent does not serve here
        rows = json.loads(said.out)["findings"]
        (row,) = [one for one in rows if one["check"] == "persist-record"]
        return row["verdict"], row["what"], row["do"]

    verdict, what, do = found()
    assert verdict == "unknown" and "dns-persist check" in do, what
    (line,) = world("dns-persist", "record", NAME).out.splitlines()
    world.publish(line)
    assert world("dns-persist", "check", NAME).code == 0
    assert found()[0] == "ok"
    world.publish(line.rstrip('"') + '; persistUntil=1700000000"')
    verdict, what, do = found()
    assert verdict == "problem" and "persistUntil is over" in what and "dns-persist record" in do
    world.dns.remove("outside", OWNER, "TXT")
    assert found()[0] == "problem"
