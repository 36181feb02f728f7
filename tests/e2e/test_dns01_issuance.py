"""dns-01 from the agent: apex and wildcard through BIND's views and Knot, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from external_agent.records.rows import CertificateRow
from shared.acme.dns01 import Dns01Settings, read_dns01_settings
from shared.contract.chain_rules import check_chain
from shared.contract.x509 import load_chain, load_roots, spki_sha256
from tests.acme_dns import AcmeDns
from tests.agent_world import AgentWorld, Puller
from tests.bind import Bind
from tests.dns_peers import Address, TsigKey, texts
from tests.knot import Knot
from tests.lab.ca import LabCa
from tests.lab.resolver import DnsResolver
from tests.lab.split_dns import SplitDns
from tests.pebble import Pebble, available

APEX = "intra.example.com"
NAMES = (APEX, f"*.{APEX}")
OWNER = f"_acme-challenge.{APEX}"
INSIDE = {"example.com": {"www.intra": ["A 10.1.1.1"]}, APEX: {"www": ["A 10.1.1.1"]}}


def at(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def settings_for(
    server: Address, shown_by: Address, key_file: Path, *, update_to: Address | None = None
) -> Dns01Settings:
    return read_dns01_settings(
        {
            "resolvers": [at(shown_by)],
            "name_servers": [at(server)],
            "wait_seconds": 20,
            "rfc2136": {"server": at(update_to or server), "key_file": key_file},
        }
    )


@pytest.fixture
def lab_ca() -> Iterator[Callable[..., LabCa]]:
    """Start CAs that validate through one DNS server."""
    with ExitStack() as stack:
        yield lambda dns, **more: stack.enter_context(
            LabCa(resolver=DnsResolver(dns), retry_after=None, **more)
        )


class Moving:
    """A clock that a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def agent_for(ca: LabCa, directory: Path, dns01: Dns01Settings, **more: Any) -> AgentWorld:
    roots = directory / "root.pem"
    roots.write_text(ca.tls_root_pem)
    return AgentWorld(directory, directory_url=ca.directory_url, roots=roots, dns01=dns01, **more)


def assert_issued(world: AgentWorld, puller: Puller, certificate: str, root: bytes) -> None:
    pulled = world.pull(puller, certificate)
    assert pulled is not None, _row(world, certificate).last_error
    manifest, key = pulled
    check_chain(load_chain(manifest.chain), load_roots(root), world.now())
    assert set(manifest.names) == set(NAMES)
    assert spki_sha256(key) == manifest.spki_sha256


def _row(world: AgentWorld, certificate: str = APEX) -> CertificateRow:
    row = world.store.certificate(certificate)
    assert row is not None
    return row


def _why(world: AgentWorld, certificate: str = APEX) -> str:
    error = _row(world, certificate).last_error
    assert error is not None
    return f"{error.type}: {error.what}"


@pytest.mark.servers
@pytest.mark.parametrize("update_to", ["inside", "outside"])
def test_apex_and_wildcard_through_bind_from_the_inside(
    tmp_path: Path, lab_ca: Callable[..., LabCa], update_to: str
) -> None:
    """The inside address is waited for; the key takes us to the view the CA sees."""
    with Bind({"example.com": {}}, inside=INSIDE) as bind:
        ca = lab_ca(bind.outside)
        key = bind.key.write(tmp_path / "key")
        primary = getattr(bind, update_to)
        dns01 = settings_for(bind.inside, bind.outside, key, update_to=primary)
        with agent_for(ca, tmp_path, dns01) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            assert world.scheduler.run_until_idle() == 1
            assert_issued(world, puller, certificate, ca.root_pem.encode())
        assert texts(bind.outside, OWNER) == set()
        assert len(ca.orders) == 1


@pytest.mark.servers
@pytest.mark.parametrize("algorithm", ["hmac-sha384", "hmac-sha512"])
def test_apex_and_wildcard_through_knot(
    tmp_path: Path, lab_ca: Callable[..., LabCa], algorithm: str
) -> None:
    with Knot({"example.com": {}}, key=TsigKey(algorithm=algorithm)) as knot:
        ca = lab_ca(knot.address)
        dns01 = settings_for(knot.address, knot.address, knot.key.write(tmp_path / "key"))
        with agent_for(ca, tmp_path, dns01) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            assert world.scheduler.run_until_idle() == 1
            assert_issued(world, puller, certificate, ca.root_pem.encode())
        assert texts(knot.address, OWNER) == set()


@pytest.mark.servers
def test_a_cname_from_bind_to_knot(tmp_path: Path, lab_ca: Callable[..., LabCa]) -> None:
    """The main zone stays as it is; only the challenge zone, elsewhere, can be changed."""
    away = "intra.challenges.example.org"
    with Bind(
        {"example.com": {f"{OWNER}.": [f"CNAME {away}."]}, "example.org": {"x": ["A 192.0.2.1"]}}
    ) as bind:
        ca = lab_ca(bind.outside)
        dns01 = settings_for(bind.outside, bind.outside, bind.key.write(tmp_path / "key"))
        with agent_for(ca, tmp_path, dns01) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            assert world.scheduler.run_until_idle() == 1
            assert_issued(world, puller, certificate, ca.root_pem.encode())
        assert f"updating zone 'example.org/IN': adding an RR at '{away}' TXT" in bind.log
        assert "updating zone 'example.com/IN'" not in bind.log


@pytest.mark.pebble
@pytest.mark.skipif(not available(), reason="Debian's pebble is not installed")
def test_pebble_validates_through_bind_with_zone_and_servers_found(tmp_path: Path) -> None:
    """As in production: port 53, the zone and its servers found, nothing named but the primary."""
    with (
        Bind({"example.com": {}}, inside=INSIDE, port=53) as bind,
        Pebble(dns=at(bind.outside), http_port=1, nonce_reject=10) as ca,
    ):
        dns01 = read_dns01_settings(
            {
                "resolvers": [bind.outside[0]],
                "rfc2136": {
                    "server": bind.inside[0],
                    "key_file": bind.key.write(tmp_path / "key"),
                },
            }
        )
        with AgentWorld(
            tmp_path, directory_url=ca.directory_url, roots=ca.minica, dns01=dns01
        ) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            assert world.scheduler.run_until_idle() == 1
            assert_issued(world, puller, certificate, ca.issuing_root())
        assert texts(bind.outside, OWNER) == set()


@pytest.mark.servers
def test_a_wrong_key_costs_no_order_and_the_right_one_goes_on_with_it(
    tmp_path: Path, lab_ca: Callable[..., LabCa]
) -> None:
    clock = Moving()
    with Bind({"example.com": {}}) as bind:
        ca = lab_ca(bind.outside, clock=clock)
        wrong = settings_for(
            bind.outside, bind.outside, TsigKey(bind.key.name).write(tmp_path / "wrong")
        )
        with agent_for(ca, tmp_path, wrong, clock=clock) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            world.scheduler.run_until_idle()
            assert "issuance/dns: The DNS server" in _why(world)
            assert "BADSIG" in _why(world)
            world.dns01 = settings_for(
                bind.outside, bind.outside, bind.key.write(tmp_path / "right")
            )
            clock.ahead = 300
            assert world.scheduler.run_until_idle() == 1
            assert_issued(world, puller, certificate, ca.root_pem.encode())
        assert len(ca.orders) == 1


@pytest.mark.lab
def test_caa_that_forbids_is_named_with_its_record(tmp_path: Path) -> None:
    with (
        SplitDns("example.com") as dns,
        LabCa(resolver=dns.resolver, retry_after=None) as ca,
    ):
        dns.set("outside", "example.com", "CAA", '0 issue "other.example.net"')
        key = dns.add_key()
        file = TsigKey(key.name, key.algorithm, key.secret_base64).write(tmp_path / "key")
        dns01 = settings_for(dns.outside_address, dns.outside_address, file)
        with agent_for(ca, tmp_path, dns01) as world:
            world.add(*NAMES, challenge="dns-01")
            world.scheduler.run_until_idle()
            why = _why(world)
        assert why.startswith("issuance/rejected: ")
        assert f'For {APEX} this decides: example.com. CAA 0 issue "other.example.net"' in why
        assert dns.get("outside", OWNER, "TXT") == []


@pytest.mark.lab
def test_acme_dns_with_apex_and_wildcard(tmp_path: Path) -> None:
    with (
        SplitDns("example.com", "auth.example.org") as dns,
        AcmeDns(dns, "auth.example.org") as acme_dns,
        LabCa(resolver=dns.resolver, retry_after=None) as ca,
    ):
        account = acme_dns.register()
        dns.set("outside", OWNER, "CNAME", f"{account.fulldomain}.")
        outside = at(dns.outside_address)
        dns01 = read_dns01_settings(
            {
                "resolvers": [outside],
                "name_servers": [outside],
                "acme_dns": {
                    "accounts_file": acme_dns.write_accounts(tmp_path / "a.json", {APEX: account}),
                    "url": acme_dns.url,
                },
            }
        )
        with agent_for(ca, tmp_path, dns01) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            assert world.scheduler.run_until_idle() == 1
            assert_issued(world, puller, certificate, ca.root_pem.encode())


HOOK = """#!/bin/sh
set -eu
verb=$([ "$ACTION" = present ] && echo add || echo delete)
printf 'server 127.0.0.1 %s\\n%s\\nupdate %s %s 1 TXT "%s"\\nsend\\n' \\
    "{port}" "zone example.com" "$verb" "$RECORD" "$VALUE" | nsupdate -k "{key}" -v
"""


@pytest.mark.servers
def test_a_command_writes_the_records(tmp_path: Path) -> None:
    """With BIND's own nsupdate, as many people have it already."""
    from tests.lab.peers import require

    require("nsupdate")
    with (
        SplitDns("example.com") as dns,
        LabCa(resolver=dns.resolver, retry_after=None) as ca,
    ):
        key = dns.add_key()
        file = TsigKey(key.name, key.algorithm, key.secret_base64).write(tmp_path / "key")
        hook = tmp_path / "hook"
        hook.write_text(HOOK.format(port=dns.outside_address[1], key=file))
        hook.chmod(0o755)
        outside = at(dns.outside_address)
        dns01 = read_dns01_settings(
            {
                "resolvers": [outside],
                "name_servers": [outside],
                "hook": {"command": [str(hook)], "timeout": 20},
            }
        )
        with agent_for(ca, tmp_path, dns01) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            assert world.scheduler.run_until_idle() == 1, _why(world)
            assert_issued(world, puller, certificate, ca.root_pem.encode())
        assert dns.get("outside", OWNER, "TXT") == []


@pytest.mark.servers
def test_a_provider_of_dns_lexicon(tmp_path: Path, lab_ca: Callable[..., LabCa]) -> None:
    """Its own DNS UPDATE provider, which knows port 53 only."""
    pytest.importorskip("lexicon")
    with Bind({"example.com": {}}, port=53) as bind:
        ca = lab_ca(bind.outside)
        credentials = tmp_path / "credentials.toml"
        credentials.touch(0o600)
        token = f"{bind.key.algorithm}:{bind.key.name}:{bind.key.secret}"
        credentials.write_text(f'auth_token = "{token}"\nddns_server = "{bind.outside[0]}"\n')
        dns01 = read_dns01_settings(
            {
                "resolvers": [bind.outside[0]],
                "lexicon": {"provider": "ddns", "credentials_file": credentials, "ttl": 1},
            }
        )
        with agent_for(ca, tmp_path, dns01) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-01")
            assert world.scheduler.run_until_idle() == 1, _why(world)
            assert_issued(world, puller, certificate, ca.root_pem.encode())
        assert texts(bind.outside, OWNER) == set()
