"""The lab CA validates like a public CA: http-01, dns-01, dns-persist-01, CAA."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab import LabCa, SplitDns, TableResolver, free_port
from tests.lab.ca_validation import account_hash_uri, parse_issue_value
from tests.lab.challenge_site import PREFIX, ChallengeSite
from tests.lab.http_server import Answer

from .raw_client import RawClient, b64, make_csr, new_key, thumbprint

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"
OTHER = "app.example.org"
MakeClient = Callable[..., RawClient]


class Attempt:
    """One pending http-01 challenge."""

    def __init__(self, client: RawClient, name: str = NAME) -> None:
        self.client = client
        self.order = client.new_order(name)
        self.url = self.order.json["authorizations"][0]
        self.token = client.challenge(self.url)["token"]
        self.path = PREFIX + self.token
        self.good = f"{self.token}.{thumbprint(client.key)}".encode()

    def outcome(self) -> str:
        shown = self.client.answer(self.url)
        if shown["status"] == "valid":
            return "valid"
        assert shown["status"] == "invalid"
        assert self.client.post(self.order.headers["Location"]).json["status"] == "invalid"
        return str(shown["challenges"][0]["error"]["type"]).rsplit(":", 1)[1]


def redirect(target: str, status: int = 302) -> Answer:
    return Answer(status, b"", [("Location", target)])


def test_http_01_asks_the_name_for_the_token(client: RawClient, site: ChallengeSite) -> None:
    attempt = Attempt(client)
    site.answers[attempt.path] = attempt.good
    assert attempt.outcome() == "valid"
    assert [(r.method, r.path, r.headers["host"]) for r in site.requests] == [
        ("GET", attempt.path, NAME)
    ]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda a: Answer(404), "unauthorized"),
        (lambda a: Answer(204), "unauthorized"),
        (lambda a: b"", "unauthorized"),
        (lambda a: a.token.encode(), "unauthorized"),
        (lambda a: f"{a.token}.{thumbprint(new_key())}".encode(), "unauthorized"),
        (lambda a: a.good + b"\n", "unauthorized"),
        (lambda a: a.good + b" " * 128, "unauthorized"),
        (lambda a: Answer(200, a.good, cut=True), "connection"),
        (lambda a: Answer(200, lost=True), "connection"),
        (lambda a: redirect("ftp://www.example.com/"), "connection"),
        (lambda a: redirect("http://www.example.com:22/"), "connection"),
        (lambda a: redirect("http://127.0.0.1/"), "connection"),
        (lambda a: redirect("http://[::1/"), "connection"),
        (lambda a: redirect(a.path), "connection"),
        (lambda a: Answer(302), "connection"),
    ],
    ids=[
        "404", "204", "nothing", "token only", "another account", "newline", "too long", "cut",
        "no answer", "ftp", "port 22", "address", "nonsense", "loop", "no Location",
    ],
)  # fmt: skip
def test_http_01_refuses_everything_else(
    client: RawClient, site: ChallengeSite, answer: Callable[[Attempt], Any], problem: str
) -> None:
    attempt = Attempt(client)
    site.answers[attempt.path] = answer(attempt)
    assert attempt.outcome() == problem


def test_http_01_follows_redirects(client: RawClient, site: ChallengeSite) -> None:
    attempt = Attempt(client)
    site.answers[attempt.path] = redirect("http://twin.example.com/elsewhere", 301)
    site.answers["/elsewhere"] = redirect("there", 307)
    site.answers["/there"] = attempt.good
    assert attempt.outcome() == "valid"
    hosts = [request.headers["host"] for request in site.requests]
    assert hosts == [NAME, "twin.example.com", "twin.example.com"]


def test_http_01_without_listener_or_address(make_ca: Any, make_client: MakeClient) -> None:
    client = make_client(make_ca(http_port=free_port()))
    assert Attempt(client).outcome() == "connection"
    client = make_client(make_ca(resolver={}))
    assert Attempt(client).outcome() == "dns"


def test_http_01_prefers_ipv6_and_falls_back(
    make_ca: Any, make_client: MakeClient, site: ChallengeSite
) -> None:
    resolver = TableResolver({key: ["127.0.0.1", "::1"] for key in (NAME, OTHER)})
    client = make_client(make_ca(resolver=resolver))
    attempt = Attempt(client)
    site.answers[attempt.path] = attempt.good
    assert attempt.outcome() == "valid"

    if not socket.has_ipv6:
        return
    try:
        with ChallengeSite("::1", site.port) as six:
            attempt = Attempt(client, OTHER)
            six.answers[attempt.path] = b"from IPv6"
            site.answers[attempt.path] = attempt.good
            assert attempt.outcome() == "unauthorized"
    except OSError:
        return  # this machine has no IPv6 loopback


def test_http_01_is_fetched_from_several_networks(
    make_ca: Any, make_client: MakeClient, site: ChallengeSite
) -> None:
    attempt = Attempt(make_client(make_ca(perspectives=5)))
    site.answers[attempt.path] = attempt.good
    assert attempt.outcome() == "valid"
    assert len(site.requests) == 5


def test_one_challenge_is_tried_once(client: RawClient, site: ChallengeSite) -> None:
    attempt = Attempt(client)
    assert attempt.outcome() == "unauthorized"
    site.answers[attempt.path] = attempt.good
    assert attempt.client.answer(attempt.url)["status"] == "invalid"
    assert len(site.requests) == 1


# --- by DNS ---


@pytest.fixture
def dns() -> Iterator[SplitDns]:
    with SplitDns("example.com") as running:
        yield running


@pytest.fixture
def dns_ca(make_ca: Any, dns: SplitDns) -> LabCa:
    found: LabCa = make_ca(resolver=dns.resolver)
    return found


def proof(client: RawClient, token: str) -> str:
    return b64(hashlib.sha256(f"{token}.{thumbprint(client.key)}".encode()).digest())


@pytest.mark.parametrize("name", [NAME, "*.intra.example.com"])
def test_dns_01(dns: SplitDns, dns_ca: LabCa, make_client: MakeClient, name: str) -> None:
    client = make_client(dns_ca)
    where = "_acme-challenge." + name.removeprefix("*.")
    dns.set_text("outside", where, "another value")
    order = client.new_order(name)
    url = order.json["authorizations"][0]
    shown = client.post(url).json
    assert shown["identifier"]["value"] == name.removeprefix("*.")
    assert shown.get("wildcard", False) == name.startswith("*.")
    dns.add("outside", where, "TXT", proof(client, client.challenge(url, "dns-01")["token"]))
    assert client.answer(url, "dns-01")["status"] == "valid"


def test_a_wildcard_gets_no_http_01(client: RawClient) -> None:
    url = client.new_order("*.intra.example.com").json["authorizations"][0]
    kinds = {challenge["type"] for challenge in client.post(url).json["challenges"]}
    assert kinds == {"dns-01", "dns-persist-01"}


@pytest.mark.parametrize("fault", ["wrong", "inside", "servfail", "nothing"])
def test_dns_01_refuses(dns: SplitDns, dns_ca: LabCa, make_client: MakeClient, fault: str) -> None:
    client = make_client(dns_ca)
    url = client.new_order(NAME).json["authorizations"][0]
    value = proof(client, client.challenge(url, "dns-01")["token"])
    where = f"_acme-challenge.{NAME}"
    if fault == "wrong":
        dns.set_text("outside", where, value[:-1])
    elif fault == "inside":
        dns.set_text("inside", where, value)
    elif fault == "servfail":
        dns.set_text("outside", where, value)
        dns.faults.rcode("SERVFAIL", name=where)
    shown = client.answer(url, "dns-01")
    assert shown["status"] == "invalid"
    kind = "dns" if fault == "servfail" else "unauthorized"
    assert shown["challenges"][0]["error"]["type"].endswith(kind)


def test_the_published_vectors_of_the_account_hash() -> None:
    thumb = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    prefix, account = "https://ca.example/account-hash/", "https://ca.example/acct/123"
    for domain, expected in (
        ("example.com", "5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw"),
        ("*", "NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug"),
    ):
        uri = account_hash_uri(prefix, domain, thumb, account)
        assert uri == f"{prefix}sha-256/{expected}"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (b"lab-ca.example", ("lab-ca.example", {})),
        (b" lab-ca.example ; a=b;C = d ", ("lab-ca.example", {"a": "b", "c": "d"})),
        (b"lab-ca.example;", ("lab-ca.example", {})),
        (b"lab-ca.example; a", None),
        (b"lab-ca.example; a=b c", None),
        (b"lab-ca.example; a=b; A=c", None),
        (b"\xff; a=b", None),
    ],
)
def test_issue_values(text: bytes, parsed: object) -> None:
    assert parse_issue_value(text) == parsed


@pytest.mark.parametrize("draft", [1, 2])
@pytest.mark.parametrize(
    ("name", "record", "good"),
    [
        (NAME, "lab-ca.example; accounturi={}", True),
        (NAME, "LAB-CA.example.; accounturi={}; persistUntil=1900000000; future=1", True),
        (NAME, "lab-ca.example; accounturi={}; policy=wildcard", True),
        (NAME, "other-ca.example; accounturi={}", False),
        (NAME, "lab-ca.example; accounturi={}x", False),
        (NAME, "lab-ca.example", False),
        (NAME, "lab-ca.example; accounturi={}; persistUntil=1700000000", False),
        (NAME, "lab-ca.example; accounturi={}; persistUntil=soon", False),
        ("*.intra.example.com", "lab-ca.example; accounturi={}", False),
        ("*.intra.example.com", "lab-ca.example; accounturi={}; policy=wildcard", True),
    ],
)
def test_dns_persist_01(
    make_ca: Any,
    make_client: MakeClient,
    dns: SplitDns,
    draft: int,
    name: str,
    record: str,
    good: bool,
) -> None:
    ca = make_ca(resolver=dns.resolver, persist_draft=draft, clock=lambda: 1_800_000_000.0)
    client = make_client(ca)
    url = client.new_order(name).json["authorizations"][0]
    challenge = client.challenge(url, "dns-persist-01")
    base = name.removeprefix("*.")
    if draft == 1:
        assert challenge["issuer-domain-names"] == ["lab-ca.example"]
        uri = challenge["accounturi"]
        assert uri == client.kid
    else:
        assert challenge["issuerDomainNames"] == ["lab-ca.example"]
        prefix = client.directory["meta"]["accountHashPrefix"]
        uri = account_hash_uri(prefix, base, thumbprint(client.key), str(client.kid))
    padded = "x" * 300  # longer than one TXT string, so the parts must be joined
    texts = (f"noise.example; a={padded}", record.format(uri))
    dns.set_text("outside", f"_validation-persist.{base}", *texts)
    assert client.answer(url, "dns-persist-01")["status"] == ("valid" if good else "invalid")


@pytest.mark.parametrize(
    ("where", "records", "good"),
    [
        (NAME, ['0 issue "lab-ca.example"'], True),
        ("example.com", ['0 issue "lab-ca.example"'], True),
        ("example.com", ['0 issue "other-ca.example"'], False),
        (NAME, ['0 issue ";"'], False),
        (NAME, ['0 issue "lab-ca.example; validationmethods=http-01"'], True),
        (NAME, ['0 issue "lab-ca.example; validationmethods=dns-01"'], False),
        (NAME, ['0 issue "lab-ca.example; accounturi=https://ca.example.net/1"'], False),
        (NAME, ['0 issue "lab-ca.example"', '128 future "x"'], False),
        (NAME, ['0 issuewild "other-ca.example"'], True),
        (NAME, ['0 iodef "mailto:ops@example.com"'], True),
    ],
)
def test_caa(
    dns: SplitDns,
    dns_ca: LabCa,
    make_client: MakeClient,
    site: ChallengeSite,
    where: str,
    records: list[str],
    good: bool,
) -> None:
    dns.set("outside", NAME, "A", "127.0.0.1")
    dns.set("outside", where, "CAA", *records)
    client = make_client(dns_ca)
    done = client.finalize(client.make_ready(site, NAME), make_csr(new_key(), NAME))
    if good:
        assert done.json["status"] == "valid"
    else:
        assert done.json["status"] == "invalid"
        assert done.json["error"]["type"].endswith(":caa")
        assert dns_ca.issued == []
