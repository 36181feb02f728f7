"""acme-dns: accounts as its clients keep them, one call for each value, refusals in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.acme.dns01 import dns01_solver, read_dns01_settings
from shared.acme.dns01.solver import Dns01Solver
from shared.contract.errors import ConfigurationError, DnsFailure, LooseFileMode
from tests.acme_dns import AcmeDns
from tests.lab.split_dns import SplitDns
from tests.unit.shared.acme.dns01.test_solver import NAME, OWNER, at, challenge, value
from tests.unit.shared.acme.doubles import MovedClock

pytestmark = pytest.mark.lab


class Bench:
    def __init__(self, dns: SplitDns, server: AcmeDns, directory: Path) -> None:
        self.dns, self.server, self.clock = dns, server, MovedClock()
        self.account = server.register()
        self.file = directory / "accounts.json"
        server.write_accounts(self.file, {NAME: self.account})
        dns.set("outside", OWNER, "CNAME", f"{self.account.fulldomain}.")

    def solver(self, **more: Any) -> Dns01Solver:
        outside = at(self.dns.outside_address)
        own = {"accounts_file": self.file, "url": self.server.url, **more}
        settings = read_dns01_settings(
            {"resolvers": [outside], "name_servers": [outside], "acme_dns": own}
        )
        return dns01_solver(settings, sleep=self.clock.sleep, clock=self.clock)

    def refusal(self, name: str = NAME, **more: Any) -> str:
        with pytest.raises(DnsFailure) as raised:
            self.solver(**more).present(challenge(name))
        return raised.value.explain()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with (
        SplitDns("example.com", "auth.example.org") as dns,
        AcmeDns(dns, "auth.example.org") as own,
    ):
        yield Bench(dns, own, tmp_path)


def test_apex_and_wildcard_share_the_two_values(bench: Bench) -> None:
    solver = bench.solver()
    both = [challenge(NAME), challenge(f"*.{NAME}", "w" * 22)]
    for one in both:
        solver.present(one)
    solver.wait_until_visible()
    assert bench.account.values == [value(one) for one in both]
    for one in both:
        solver.clean_up(one)


def test_the_account_may_say_its_server(bench: Bench) -> None:
    bench.server.write_accounts(bench.file, {NAME: bench.account}, server_url=bench.server.url)
    bench.solver(url="https://other.example.org").present(challenge())
    assert bench.account.values


def test_a_cname_that_is_missing_is_told_in_whole(bench: Bench) -> None:
    bench.dns.remove("outside", OWNER, "CNAME")
    said = bench.refusal()
    assert f"{OWNER} leads to {OWNER}, not to its acme-dns account" in said
    assert f"{OWNER}. CNAME {bench.account.fulldomain}." in said


def test_a_name_without_an_account(bench: Bench) -> None:
    said = bench.refusal("app.example.com")
    assert f"no acme-dns account for app.example.com; it has those of {NAME}" in said


def test_refused_by_the_server_without_telling_the_password(bench: Bench) -> None:
    password, bench.account.password = bench.account.password, "changed there"
    said = bench.refusal()
    assert "HTTP status 401, forbidden" in said
    assert password not in said


def test_a_server_that_is_something_else_or_not_there(bench: Bench) -> None:
    bench.server.broken_answer = b"<html>"
    assert "HTTP status 200, no such answer as acme-dns gives" in bench.refusal()
    bench.server.broken_answer = b"x" * 200_000
    assert "no such answer" in bench.refusal()
    assert "No usable answer from the acme-dns server" in bench.refusal(url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("content", "more", "words"),
    [
        ("{", {}, "is no JSON"),
        ("[]", {}, "no JSON object of domain to account"),
        ('{"a.example.com": {"username": "u"}}', {}, "of a.example.com in .* has no password"),
        (
            json.dumps(
                {"a": dict.fromkeys(("username", "password", "subdomain", "fulldomain"), "x")}
            ),
            {"url": None},
            "does not say its server",
        ),
    ],
)
def test_files_that_cannot_be_used(
    bench: Bench, content: str, more: dict[str, Any], words: str
) -> None:
    bench.file.write_text(content)
    own = {"accounts_file": bench.file} | ({} if "url" in more else {"url": bench.server.url})
    with pytest.raises(ConfigurationError, match=words):
        dns01_solver(read_dns01_settings({"acme_dns": own}))


def test_files_that_others_may_read(bench: Bench) -> None:
    bench.file.chmod(0o604)
    with pytest.raises(LooseFileMode, match=r"file of acme-dns accounts .* mode 0604"):
        bench.solver()


def test_settings_that_cannot_be_used(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no file of roots of dns01"):
        bench.solver(ca_root=tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match="no http or https URL"):
        bench.solver(proxy="socks5://127.0.0.1")
