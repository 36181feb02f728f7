"""Names: what a public CA could sign, wildcards, and the form that is safe in a path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract.errors import MalformedMessage, NameRefused, PolicyError
from shared.contract.identifiers import DnsName, check_certificate_id, parse_names
from shared.contract.strict_json import Members
from shared.contract.wire import Grant, Offer


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("www.intra.example.com", "www.intra.example.com"),
        ("WWW.Intra.Example.COM.", "www.intra.example.com"),
        ("  app.example.org\n", "app.example.org"),
        ("bücher.example.org", "xn--bcher-kva.example.org"),
        ("xn--bcher-kva.example.org", "xn--bcher-kva.example.org"),
        ("*.intra.example.com", "*.intra.example.com"),
        ("*.bücher.example.org", "*.xn--bcher-kva.example.org"),
        ("日本語.example.jp", "xn--wgv71a119e.example.jp"),
    ],
)
def test_accepted(text: str, name: str) -> None:
    assert DnsName.parse(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "*.", "localhost", "www", "server.local", "host.internal", "db.lan", "a.home.arpa",
        "x.test", "x.invalid", "x.onion", "192.0.2.1", "2001:db8::1", "[2001:db8::1]",
        "a..example.com", "-a.example.com", "a-.example.com", "a_b.example.com", "*.*.example.com",
        "w*.example.com", "*", "a" * 64 + ".example.com", "a." * 130 + "example.com",
        "www.example.com/../x", "www.example.com\r\nHost: x", "www.example.com\0", "a b.org",
        "xn--a.example.com", "$(id).example.com", "example.123", "☃" * 80 + ".example.com",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(NameRefused) as caught:
        DnsName.parse(text)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.what


@given(st.text(max_size=300))
def test_anything_is_a_name_or_refused(text: str) -> None:
    try:
        name = DnsName.parse(text)
    except NameRefused:
        return
    assert DnsName.parse(name) == name
    assert check_certificate_id(name.certificate_id) == name.certificate_id


@pytest.mark.parametrize(
    ("holder", "wanted", "covers"),
    [
        ("a.example.com", "a.example.com", True),
        ("a.example.com", "b.example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "*.example.com", True),
        ("a.example.com", "*.example.com", False),
        ("*.example.com", "*.b.example.com", False),
        ("*.example.com", ".example.com", False),
    ],
)
def test_covers(holder: str, wanted: str, covers: bool) -> None:
    assert DnsName.parse(holder).covers(wanted) is covers


def test_a_wildcard_has_a_name_to_probe_and_an_id_without_an_asterisk() -> None:
    name = DnsName.parse("*.intra.example.com")
    assert name.covers(name.probe_name)
    assert name.certificate_id == "_wildcard.intra.example.com"


def test_one_to_a_hundred_names() -> None:
    assert parse_names(["b.example.com", "A.example.com", "b.example.com"]) == (
        "a.example.com",
        "b.example.com",
    )
    with pytest.raises(PolicyError):
        parse_names([])
    with pytest.raises(PolicyError):
        parse_names([f"n{number}.example.com" for number in range(101)])


@pytest.mark.parametrize("text", ["", "..", ".", "a/b", "../a", "A", "a b", "a%2f", "-a", "a..b"])
def test_ids_that_may_not_stand_in_a_path(text: str) -> None:
    with pytest.raises(PolicyError):
        check_certificate_id(text)


@pytest.mark.parametrize("read", [Grant.read, Offer.read])
def test_names_follow_the_grammar_wherever_they_are_decoded(
    read: Callable[[Members], object],
) -> None:
    def members(*names: str) -> Members:
        rest = {} if read == Grant.read else {"generation": 0, "not_after": 0, "csr_wanted": False}
        origin = {} if read == Grant.read else {"key_origin": "agent"}
        values = {"certificate": "www", "names": list(names), **rest, **origin}
        return Members(values, "The list", MalformedMessage)  # type: ignore[arg-type]

    for good in ("a.example.com", "*.example.com", "host.internal", "xn--bcher-kva.example"):
        assert read(members(good))
    for bad in ("intranet", "192.0.2.1", "a.example.com.", "A.example.com", "\x1b[2J.example.com"):
        with pytest.raises(MalformedMessage, match="'names'"):
            read(members("a.example.com", bad))
    with pytest.raises(MalformedMessage, match="empty"):
        read(members())
