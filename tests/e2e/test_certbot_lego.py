"""Clients that others wrote get certificates from the lab: so the lab speaks ACME, not our ACME."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from tests.lab import LabCa, SplitDns, free_port
from tests.lab.peers import clean_environment, require

pytestmark = pytest.mark.clients
NAME = "www.intra.example.com"


@pytest.fixture
def dns() -> Iterator[SplitDns]:
    with SplitDns("example.com") as running:
        running.set("outside", NAME, "A", "127.0.0.1")
        running.set("inside", NAME, "A", "127.0.0.2")
        yield running


@pytest.fixture
def ca(dns: SplitDns, tmp_path: Path) -> Iterator[LabCa]:
    with LabCa(resolver=dns.resolver, http_port=free_port()) as running:
        (tmp_path / "tls-root.pem").write_text(running.tls_root_pem)
        yield running


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command,
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def assert_good(ca: LabCa, chain_file: Path, *names: str) -> None:
    chain = x509.load_pem_x509_certificates(chain_file.read_bytes())
    assert [issued.leaf for issued in ca.issued] == [chain[0]]
    roots = Store(x509.load_pem_x509_certificates(ca.root_pem.encode()))
    for name in names:
        verifier = PolicyBuilder().store(roots).time(datetime.now(UTC))
        subject = x509.DNSName(name.replace("*", "any"))
        assert len(verifier.build_server_verifier(subject).verify(chain[0], chain[1:])) == 3
    assert not [entry for entry in ca.log if "bug" in entry.outcome]


def certbot(ca: LabCa, tmp_path: Path, *arguments: str) -> str:
    folders = [
        part
        for kind in ("config", "work", "logs")
        for part in (f"--{kind}-dir", str(tmp_path / kind))
    ]
    return run(
        [
            require("certbot"),
            *arguments,
            "--non-interactive",
            "--server",
            ca.directory_url,
            *folders,
        ],
        REQUESTS_CA_BUNDLE=str(tmp_path / "tls-root.pem"),
    )


def test_certbot_standalone_gets_a_certificate_by_http_01(ca: LabCa, tmp_path: Path) -> None:
    certbot(
        ca, tmp_path, "certonly", "--standalone", "--preferred-challenges", "http",
        "--http-01-address", "127.0.0.1", "--http-01-port", str(ca.http_port),
        "--agree-tos", "--email", "ops@example.com", "--no-eff-email", "-d", NAME,
    )  # fmt: skip
    assert_good(ca, tmp_path / "config/live" / NAME / "fullchain.pem", NAME)
    assert ca.accounts[0].contact == ["mailto:ops@example.com"]

    certbot(ca, tmp_path, "revoke", "--cert-name", NAME, "--reason", "superseded")
    assert list(ca.revoked.values()) == [4]


def lego(ca: LabCa, tmp_path: Path, *arguments: str, **environment: str) -> str:
    return run(
        [
            require("lego"),
            "--server",
            ca.directory_url,
            "--path",
            str(tmp_path / "lego"),
            "--email",
            "ops@example.com",
            "--accept-tos",
            *arguments,
            "run",
        ],
        LEGO_CA_CERTIFICATES=str(tmp_path / "tls-root.pem"),
        **environment,
    )


def test_lego_gets_a_certificate_by_http_01(ca: LabCa, tmp_path: Path) -> None:
    lego(ca, tmp_path, "-d", NAME, "--http", "--http.port", f"127.0.0.1:{ca.http_port}")
    assert_good(ca, tmp_path / "lego/certificates" / f"{NAME}.crt", NAME)


def test_lego_gets_a_wildcard_by_dns_01_over_rfc_2136(
    ca: LabCa, dns: SplitDns, tmp_path: Path
) -> None:
    server = "{}:{}".format(*dns.outside_address)
    key = dns.add_key("lego", "hmac-sha512", names=["_acme-challenge.intra.example.com"])
    lego(
        ca, tmp_path, "-d", "*.intra.example.com", "-d", "intra.example.com",
        "--dns", "rfc2136", "--dns.resolvers", server, "--dns.disable-cp",
        RFC2136_NAMESERVER=server,
        RFC2136_TSIG_ALGORITHM="hmac-sha512.",
        RFC2136_TSIG_KEY="lego.",
        RFC2136_TSIG_SECRET=key.secret_base64,
        RFC2136_SEQUENCE_INTERVAL="1",
        RFC2136_POLLING_INTERVAL="1",
    )  # fmt: skip
    chain = tmp_path / "lego/certificates/_.intra.example.com.crt"
    assert_good(ca, chain, "*.intra.example.com", "intra.example.com")
    updates = [query for query in dns.queries if query.opcode == "UPDATE"]
    assert {query.rcode for query in updates} == {"NOERROR"}
    assert len(updates) == 4
    assert dns.get("outside", "_acme-challenge.intra.example.com", "TXT") == []
