"""The lab's DNS: two views, honest negative answers, UPDATE only for who may, faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.tsig
import dns.update
import pytest

from tests.lab import LookupFailed, SplitDns
from tests.lab.dns_update import UpdateKey
from tests.lab.split_dns import quoted

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"
CHALLENGE = f"_acme-challenge.{NAME}"


@pytest.fixture
def split() -> Iterator[SplitDns]:
    with SplitDns("example.com", "sub.example.com") as running:
        running.set("outside", NAME, "A", "127.0.0.1")
        running.set("inside", NAME, "A", "127.0.0.2")
        yield running


def ask(split: SplitDns, name: str, kind: str, how: Any = dns.query.udp) -> Any:
    address, port = split.outside_address
    return how(dns.message.make_query(name, kind), address, port=port, timeout=5)


def test_one_name_has_two_answers(split: SplitDns) -> None:
    assert split.resolver.addresses(NAME) == ["127.0.0.1"]
    assert split.inside_resolver.addresses(NAME) == ["127.0.0.2"]
    assert [(query.view, query.type) for query in split.queries] == [
        ("outside", "AAAA"),
        ("outside", "A"),
        ("inside", "AAAA"),
        ("inside", "A"),
    ]


@pytest.mark.parametrize("how", [dns.query.udp, dns.query.tcp], ids=["udp", "tcp"])
def test_answers_are_authoritative(split: SplitDns, how: Any) -> None:
    response = ask(split, NAME, "A", how)
    assert response.flags & dns.flags.AA
    assert response.answer[0].to_text() == f"{NAME}. 1 IN A 127.0.0.1"


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "zone"),
    [
        ("none.example.com", "A", "NXDOMAIN", "example.com."),
        (NAME, "AAAA", "NOERROR", "example.com."),
        ("intra.example.com", "A", "NOERROR", "example.com."),
        ("none.sub.example.com", "A", "NXDOMAIN", "sub.example.com."),
    ],
)
def test_negative_answers_carry_the_soa(
    split: SplitDns, name: str, kind: str, rcode: str, zone: str
) -> None:
    response = ask(split, name, kind)
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert response.answer == []
    soa = response.authority[0]
    assert (soa.name.to_text(), soa.rdtype) == (zone, dns.rdatatype.SOA)


def test_other_zones_are_refused(split: SplitDns) -> None:
    assert ask(split, "www.example.org", "A").rcode() == dns.rcode.REFUSED


def test_aliases_and_wildcards(split: SplitDns) -> None:
    split.set("outside", "alias.example.com", "CNAME", f"{NAME}.")
    split.set("outside", "loop.example.com", "CNAME", "loop.example.com.")
    split.set("outside", "away.example.com", "CNAME", "www.example.org.")
    split.set("outside", "*.many.example.com", "A", "127.0.0.3")
    assert split.resolver.addresses("alias.example.com") == ["127.0.0.1"]
    assert split.resolver.addresses("a.b.many.example.com") == ["127.0.0.3"]
    assert ask(split, "alias.example.com", "CNAME").answer[0].rdtype == dns.rdatatype.CNAME
    for name in ("loop.example.com", "away.example.com"):
        with pytest.raises(LookupFailed):
            split.resolver.addresses(name)


def test_every_zone_has_soa_and_ns(split: SplitDns) -> None:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [split.outside_address[0]]
    resolver.port = split.outside_address[1]
    zone = dns.resolver.zone_for_name(CHALLENGE, resolver=resolver)
    assert zone.to_text() == "example.com."
    server = resolver.resolve(zone, "NS")[0].target
    assert server.to_text() == "ns1.example.com."
    assert resolver.resolve(server, "A")[0].address == "127.0.0.1"


def test_records_can_be_changed(split: SplitDns) -> None:
    split.add("outside", NAME, "A", "127.0.0.9")
    assert split.get("outside", NAME, "A") == ["127.0.0.1", "127.0.0.9"]
    split.remove("outside", NAME, "A")
    assert ask(split, NAME, "A").rcode() == dns.rcode.NXDOMAIN
    split.set_text("outside", NAME, 'a "b"; c\\d', "é" * 200)
    assert sorted(split.resolver.texts(NAME)) == [b'a "b"; c\\d', ("é" * 200).encode()]
    assert quoted("") == '""'


def test_long_answers_go_over_tcp(split: SplitDns) -> None:
    split.set_text("outside", NAME, "x" * 3000)
    assert ask(split, NAME, "TXT").flags & dns.flags.TC
    assert split.resolver.texts(NAME) == [b"x" * 3000]
    assert split.queries[-1].transport == "tcp"


@pytest.mark.parametrize("wire", [b"", b"x", b"\x00" * 12, b"\xff" * 60])
def test_garbage_does_not_stop_it(split: SplitDns, wire: bytes) -> None:
    split._servers["outside"].respond(wire, "udp")
    assert split.resolver.addresses(NAME) == ["127.0.0.1"]


# --- UPDATE ---


def update(split: SplitDns, key: UpdateKey | None, **more: Any) -> dns.update.UpdateMessage:
    zone = more.pop("zone", "example.com")
    return dns.update.UpdateMessage(zone, keyring=key.key if key else None)


def send(split: SplitDns, message: Any, view: str = "outside", how: Any = dns.query.tcp) -> str:
    address, port = split.inside_address if view == "inside" else split.outside_address
    return dns.rcode.to_text(how(message, address, port=port, timeout=5).rcode())


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha384", "hmac-sha512"])
@pytest.mark.parametrize("how", [dns.query.udp, dns.query.tcp], ids=["udp", "tcp"])
def test_values_stand_side_by_side(split: SplitDns, algorithm: str, how: Any) -> None:
    key = split.add_key(algorithm=algorithm, names=[CHALLENGE])
    before = ask(split, "example.com", "SOA").answer[0][0].serial
    for value in ("one", "two", "two"):
        change = update(split, key)
        change.add(f"{CHALLENGE}.", 60, "TXT", f'"{value}"')
        assert send(split, change, how=how) == "NOERROR"
    assert split.get("outside", CHALLENGE, "TXT") == ['"one"', '"two"']
    assert split.get("inside", CHALLENGE, "TXT") == []
    change = update(split, key)
    change.delete(f"{CHALLENGE}.", "TXT", '"one"')
    assert send(split, change, how=how) == "NOERROR"
    assert split.get("outside", CHALLENGE, "TXT") == ['"two"']
    change = update(split, key)
    change.delete(f"{CHALLENGE}.", "TXT")
    assert send(split, change, how=how) == "NOERROR"
    assert ask(split, CHALLENGE, "TXT").rcode() == dns.rcode.NXDOMAIN
    assert ask(split, "example.com", "SOA").answer[0][0].serial == before + 4


@pytest.mark.parametrize(
    ("limits", "rcode"),
    [
        ({}, "NOERROR"),
        ({"names": [CHALLENGE]}, "NOERROR"),
        ({"names": [".intra.example.com"]}, "NOERROR"),
        ({"names": ["intra.example.com"]}, "REFUSED"),
        ({"names": [".example.org"]}, "REFUSED"),
        ({"types": ["A"]}, "REFUSED"),
        ({"types": []}, "NOERROR"),
        ({"views": ["inside"]}, "REFUSED"),
    ],
    ids=str,
)
def test_a_key_permits_what_it_says(split: SplitDns, limits: Any, rcode: str) -> None:
    change = update(split, split.add_key(**limits))
    change.add(f"{CHALLENGE}.", 60, "TXT", '"x"')
    assert send(split, change) == rcode
    assert split.get("outside", CHALLENGE, "TXT") == (['"x"'] if rcode == "NOERROR" else [])


def test_one_forbidden_change_forbids_all(split: SplitDns) -> None:
    change = update(split, split.add_key(names=[CHALLENGE]))
    change.add(f"{CHALLENGE}.", 60, "TXT", '"x"')
    change.add("example.com.", 60, "TXT", '"x"')
    assert send(split, change) == "REFUSED"
    assert split.get("outside", CHALLENGE, "TXT") == []


def test_nobody_unknown_changes_anything(split: SplitDns) -> None:
    key = split.add_key()
    unsigned = update(split, None)
    unsigned.add(f"{CHALLENGE}.", 60, "TXT", '"x"')
    assert send(split, unsigned) == "REFUSED"
    for wrong, error in (
        (dataclasses.replace(key, secret=b"other" * 8), dns.tsig.PeerBadSignature),
        (dataclasses.replace(key, name="stranger"), dns.tsig.PeerBadKey),
        (dataclasses.replace(key, algorithm="hmac-sha512"), dns.tsig.PeerBadKey),
    ):
        change = update(split, wrong)
        change.add(f"{CHALLENGE}.", 60, "TXT", '"x"')
        with pytest.raises(error):
            send(split, change)
    split.remove_key("lab-key")
    with pytest.raises(dns.tsig.PeerBadKey):
        send(split, update(split, key))
    assert split.get("outside", CHALLENGE, "TXT") == []


def test_zones_are_checked(split: SplitDns) -> None:
    key = split.add_key()
    assert send(split, update(split, key, zone="example.org")) == "NOTAUTH"
    assert send(split, update(split, key, zone="intra.example.com")) == "NOTAUTH"
    change = update(split, key)
    change.add("www.sub.example.com.", 60, "TXT", '"x"')
    assert send(split, change) == "NOTZONE"


@pytest.mark.parametrize(
    ("demand", "rcode"),
    [
        (lambda u: u.present("www.intra"), "NOERROR"),
        (lambda u: u.present("none"), "NXDOMAIN"),
        (lambda u: u.absent("www.intra"), "YXDOMAIN"),
        (lambda u: u.absent("none"), "NOERROR"),
        (lambda u: u.present("www.intra", "TXT"), "NXRRSET"),
        (lambda u: u.absent("www.intra", "A"), "YXRRSET"),
        (lambda u: u.present("www.intra", "A", "127.0.0.1"), "NOERROR"),
        (lambda u: u.present("www.intra", "A", "127.0.0.5"), "NXRRSET"),
    ],
)
def test_prerequisites(split: SplitDns, demand: Any, rcode: str) -> None:
    change = update(split, split.add_key(types=["TXT"]))
    demand(change)
    change.add("new", 60, "TXT", '"x"')
    assert send(split, change) == rcode
    assert bool(split.get("outside", "new.example.com", "TXT")) == (rcode == "NOERROR")


def test_the_apex_keeps_its_soa_and_ns(split: SplitDns) -> None:
    change = update(split, split.add_key(types=[]))
    change.delete("example.com.")
    assert send(split, change) == "NOERROR"
    assert ask(split, "example.com", "SOA").answer
    assert ask(split, "example.com", "NS").answer


# --- faults ---


def test_faults_are_counted_and_limited(split: SplitDns) -> None:
    split.set("outside", "other.example.com", "A", "127.0.0.4")
    split.resolver.timeout = 0.2
    servfail = split.faults.rcode("SERVFAIL", name=NAME, type="A", times=2)
    assert split.resolver.addresses("other.example.com") == ["127.0.0.4"]
    for _ in range(2):
        with pytest.raises(LookupFailed, match="SERVFAIL"):
            split.resolver.addresses(NAME)
    assert (split.resolver.addresses(NAME), servfail.fired) == (["127.0.0.1"], 2)

    split.faults.drop(name=NAME)
    with pytest.raises(LookupFailed, match="no answer"):
        split.resolver.addresses(NAME)

    split.faults.drop(view="inside", times=None)
    assert split.resolver.addresses(NAME) == ["127.0.0.1"]
    split.faults.clear()

    split.faults.truncate(name=NAME, type="A")
    assert split.resolver.addresses(NAME) == ["127.0.0.1"]
    assert split.queries[-1].transport == "tcp"


def test_a_slow_answer_holds_up_nobody_else(split: SplitDns) -> None:
    split.faults.slow(3600, name=NAME)
    split.set("outside", "other.example.com", "A", "127.0.0.4")
    split.resolver.timeout = 0.2
    with pytest.raises(LookupFailed, match="no answer"):
        split.resolver.addresses(NAME)
    split.resolver.timeout = 5
    assert split.resolver.addresses("other.example.com") == ["127.0.0.4"]
