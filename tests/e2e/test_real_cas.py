"""The ACME client against acme2certifier and Caddy, which validate through real DNS and port 80."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from josepy.b64 import b64encode

from shared.acme.ari import ari_certificate_id
from shared.acme.authoritative import AuthoritativeDns
from shared.acme.client import AcmeClient
from shared.acme.dns_persist import Draft, Verdict
from shared.acme.dns_persist_use import PersistSolver, advise, ask_offer, check
from shared.acme.keys import AccountKey, generate_account_key, load_account_key
from shared.acme.order import drive_order
from shared.acme.ports import ChallengeSolver, ExternalAccountBinding, PendingChallenge
from shared.contract.errors import DnsFailure, IssuanceRejected
from shared.contract.x509 import dns_names, load_chain
from tests.acme2certifier import ISSUER, Acme2Certifier
from tests.caddy import Caddy
from tests.lab.split_dns import SplitDns
from tests.own_address import own_address
from tests.unit.shared.acme.doubles import HttpSolver, RecordedJournal, csr_for

pytestmark = [
    pytest.mark.cas,
    pytest.mark.skipif(os.geteuid() != 0, reason="ports 53 and 80 take root"),
]

NAME = "www.intra.example.com"
WILD = f"*.{NAME}"
NOW = 1_800_000_000
OWNER = f"_validation-persist.{NAME}"


@dataclass
class DnsSolver:
    """dns-01 by the lab's DNS, value by value."""

    dns: SplitDns
    challenge_type: str = "dns-01"
    seen: list[str] = field(default_factory=list)

    def present(self, challenge: PendingChallenge) -> None:
        digest = sha256(challenge.key_authorization.encode()).digest()
        value = b64encode(digest).decode()
        self.dns.add("outside", f"_acme-challenge.{challenge.identifier}", "TXT", f'"{value}"')
        self.seen.append(value)

    def clean_up(self, challenge: PendingChallenge) -> None:
        self.dns.remove("outside", f"_acme-challenge.{challenge.identifier}", "TXT")


@dataclass
class World:
    """One CA, the DNS and the web server that it asks, and an account."""

    ca: Acme2Certifier | Caddy
    dns: SplitDns
    web: HttpSolver
    client: AcmeClient

    @property
    def lookup(self) -> AuthoritativeDns:
        return AuthoritativeDns([self.dns.outside_address])

    def solver(self, kind: str) -> ChallengeSolver:
        if kind == "dns-persist-01":
            return PersistSolver(self.client, self.lookup, clock=lambda: NOW)
        return self.web if kind == "http-01" else DnsSolver(self.dns)

    def issue(self, names: Sequence[str], kind: str, **more: object) -> bytes:
        issued = drive_order(
            self.client,
            names=names,
            csr_pem=csr_for(names),
            order_url=None,
            adopt_unfinished=False,
            solvers={kind: self.solver(kind)},
            journal=RecordedJournal(),
            deadline_seconds=60.0,
            **more,  # type: ignore[arg-type]
        )
        leaf, *above = load_chain(issued.chain_pem.decode())
        assert set(dns_names(leaf)) == set(names)
        issuer = above[0] if above else load_chain(self.ca.issuing_root.decode())[0]
        leaf.verify_directly_issued_by(issuer)
        return issued.chain_pem


MakeWorld = Callable[..., World]


@pytest.fixture
def account_key() -> AccountKey:
    return load_account_key(generate_account_key())


@pytest.fixture
def make_world(account_key: AccountKey) -> Iterator[MakeWorld]:
    with ExitStack() as stack:

        def make(
            kind: type[Acme2Certifier] | type[Caddy],
            eab: ExternalAccountBinding | None = None,
            **settings: object,
        ) -> World:
            address = own_address()
            dns = stack.enter_context(
                SplitDns("example.com", outside_host=address, outside_port=53)
            )
            dns.set("outside", NAME, "A", address)
            web = stack.enter_context(HttpSolver(address, 80))
            ca = stack.enter_context(kind(dns=address, **settings))  # type: ignore[arg-type]
            client = stack.enter_context(
                AcmeClient(ca.directory_url, account_key, trusted_roots=ca.roots)
            )
            client.ensure_account(["mailto:ops@example.com"], terms_agreed=True, eab=eab)
            return World(ca, dns, web, client)

        yield make


@pytest.mark.parametrize("ca", [Acme2Certifier, Caddy])
@pytest.mark.parametrize("kind", ["http-01", "dns-01"])
def test_issued(make_world: MakeWorld, ca: type[Acme2Certifier] | type[Caddy], kind: str) -> None:
    world = make_world(ca)
    world.issue([NAME], kind)
    world.issue([NAME], kind)


@pytest.mark.parametrize("ca", [Acme2Certifier, Caddy])
def test_wildcard_by_dns_01(make_world: MakeWorld, ca: type[Acme2Certifier] | type[Caddy]) -> None:
    make_world(ca).issue([WILD], "dns-01")


# --- dns-persist-01 of draft -01 ---


def test_persist(make_world: MakeWorld) -> None:
    world = make_world(Acme2Certifier)
    offer = ask_offer(world.client, [NAME])
    assert offer.issuers == (ISSUER,)
    (record,) = advise(offer, [NAME, WILD], now=NOW, until=NOW + 86_400)
    assert record.draft is Draft.WITH_URL
    world.dns.set("outside", record.owner, "TXT", record.line.split(" TXT ")[1])
    (report,) = check(offer, [NAME, WILD], world.lookup, NOW)
    assert report.good, report.words
    assert report.until == NOW + 86_400
    world.issue([NAME, WILD], "dns-persist-01")


def test_persist_refused_before_the_challenge_is_answered(make_world: MakeWorld) -> None:
    world = make_world(Acme2Certifier)
    url = world.client.account_url
    world.dns.set("outside", OWNER, "TXT", f'"{ISSUER}; accounturi={url}x"')
    with pytest.raises(DnsFailure, match="is not this account"):
        world.issue([NAME], "dns-persist-01")
    world.dns.set("outside", OWNER, "TXT", f'"{ISSUER}; accounturi={url}"')
    with pytest.raises(DnsFailure, match="no policy=wildcard"):
        world.issue([WILD], "dns-persist-01")
    assert "chall/" not in "".join(line for line in world.ca.log.splitlines() if '"POST' in line)
    world.issue([NAME], "dns-persist-01")


def test_a_split_record_is_told_of(make_world: MakeWorld) -> None:
    world = make_world(Acme2Certifier)
    uri = world.client.account_url
    world.dns.set("outside", OWNER, "TXT", f'"{ISSUER}; " "accounturi={uri}"')
    (report,) = check(ask_offer(world.client, [NAME]), [NAME], world.lookup, NOW)
    assert report.verdict is Verdict.GOOD
    assert "some CAs read the first only" in report.words
    with pytest.raises(IssuanceRejected, match=r"dns-persist-01|no reason given"):
        world.issue([NAME], "dns-persist-01")  # this CA is one of them


@pytest.mark.parametrize(("ca", "settings"), [(Acme2Certifier, {"persist": False}), (Caddy, {})])
def test_persist_not_offered(
    make_world: MakeWorld,
    ca: type[Acme2Certifier] | type[Caddy],
    settings: Mapping[str, object],
) -> None:
    world = make_world(ca, **settings)
    with pytest.raises(IssuanceRejected, match=r"does not offer dns-persist-01 .* offers dns-01"):
        ask_offer(world.client, [NAME])
    with pytest.raises(IssuanceRejected, match=r"The CA offers dns-01, http-01.* dns-persist-01"):
        world.issue([NAME], "dns-persist-01")


def test_an_account_that_is_gone(make_world: MakeWorld, account_key: AccountKey) -> None:
    world = make_world(Acme2Certifier)
    mistyped = AcmeClient(
        world.client.directory().url,
        account_key,
        trusted_roots=Path(world.ca.roots),
        account_url=f"{world.client.account_url}x",
    )
    with contextlib.closing(mistyped), pytest.raises(IssuanceRejected):
        ask_offer(mistyped, [NAME])


# --- what else acme2certifier can ---


def test_profile_binding_and_renewal_information(make_world: MakeWorld) -> None:
    key = b64encode(b"k" * 32).decode()
    world = make_world(
        Acme2Certifier,
        eab=ExternalAccountBinding("kid-1", key),
        eab_keys={"kid-1": key},
        profiles={"short": "https://ca.example.net/profiles/short"},
    )
    assert world.client.directory().external_account_required
    chain = world.issue([NAME], "http-01", profile="short")
    window = world.client.renewal_info(chain)
    assert window is not None
    replaced = world.issue([NAME], "http-01", replaces=ari_certificate_id(chain))
    assert replaced != chain


def test_renewal_forced(make_world: MakeWorld) -> None:
    world = make_world(Acme2Certifier, renewal_force=True)
    window = world.client.renewal_info(world.issue([NAME], "http-01"))
    assert window is not None
    assert window.start < time.time() - 300 * 86_400
