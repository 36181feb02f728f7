"""The [dns01] section: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from external_agent.settings.config import known_settings, load_settings
from external_agent.settings.settings_file import InitialSettings, render
from shared.acme.dns01 import Dns01Settings, dns01_solver, read_dns01_settings
from shared.acme.dns01.settings import parse_server
from shared.contract.errors import ConfigurationError

KEY = {"server": "192.0.2.53", "key_file": "/etc/relay/tsig.key"}


def test_nothing_is_a_good_section_that_is_not_configured() -> None:
    settings = read_dns01_settings({})
    assert settings == Dns01Settings()
    assert not settings.configured
    with pytest.raises(ConfigurationError, match="no way to write DNS records"):
        dns01_solver(settings)


def test_every_setting() -> None:
    settings = read_dns01_settings(
        {
            "resolvers": ["192.0.2.1", "[2001:db8::1]:5353"],
            "name_servers": ["2001:db8::2"],
            "wait": False,
            "wait_seconds": 30,
            "rfc2136": {
                **KEY,
                "key_name": "relay",
                "algorithm": "hmac-sha512",
                "zone": "example.com",
                "ttl": 30,
                "timeout": 2.5,
            },
        }
    )
    assert settings.configured
    assert settings.resolver_addresses == (("192.0.2.1", 53), ("2001:db8::1", 5353))
    assert settings.name_server_addresses == (("2001:db8::2", 53),)
    assert settings.rfc2136 is not None
    assert settings.rfc2136.key_file == Path("/etc/relay/tsig.key")
    assert (settings.rfc2136.ttl, settings.rfc2136.timeout) == (30, 2.5)


def test_text_from_the_environment_is_taken_for_what_it_stands_for() -> None:
    settings = read_dns01_settings(
        {"wait": "false", "wait_seconds": "7.5", "hook": {"command": '["/bin/true", "x"]'}}
    )
    assert (settings.wait, settings.wait_seconds) == (False, 7.5)
    assert settings.hook is not None
    assert settings.hook.command == ("/bin/true", "x")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"resolver": []}, "Unknown setting 'dns01.resolver'.*'dns01.resolvers'"),
        ({"rfc2136": {**KEY, "keyfile": "/x"}}, "'dns01.rfc2136.keyfile'.*'.*key_file'"),
        ({"rfc2136": {"server": "192.0.2.1"}}, "'dns01.rfc2136.key_file' is missing"),
        ({"rfc2136": {**KEY, "key_file": "tsig.key"}}, "key_file is not an absolute path"),
        ({"rfc2136": {**KEY, "server": "a b"}}, "rfc2136.server: 'a b' is not the address"),
        ({"rfc2136": {**KEY, "algorithm": "hmac-md5"}}, "'hmac-md5', not one of hmac-sha256"),
        ({"rfc2136": {**KEY, "ttl": 1.5}}, "ttl is not a positive whole number"),
        ({"rfc2136": {**KEY, "timeout": True}}, "timeout is not a positive number"),
        ({"rfc2136": "192.0.2.1"}, r"write \[dns01.rfc2136\]"),
        ({"hook": {"command": "rm -rf"}}, "command is not a list of texts"),
        ({"hook": {"command": []}}, "command is empty"),
        ({"resolvers": ["dns.example.com"]}, "resolvers: .* is not the address"),
        ({"wait": "maybe"}, "wait is not true or false"),
        ({"wait_seconds": 6000}, "wait_seconds is not between 1 and 500"),
        ({"acme_dns": {"accounts_file": "/x", "url": "http://a.example.com"}}, "not the https"),
        (
            {"rfc2136": KEY, "hook": {"command": ["/bin/true"]}},
            "several ways to write records: rfc2136, hook",
        ),
    ],
)
def test_what_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_dns01_settings(values)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:54", ("2001:db8::1", 54)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_server(text) == address


@pytest.mark.parametrize(
    "text", ["", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "[::1", "[::1]x", "[::1]:x", "ns1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the address of a DNS server"):
        parse_server(text)


def test_a_host_name_where_one_may_stand() -> None:
    assert parse_server("ns1.example.com:5353", names=True) == ("ns1.example.com", 5353)


def test_the_settings_file_shows_every_setting_and_its_examples_work(tmp_path: Path) -> None:
    text = render(
        InitialSettings(
            state_directory=tmp_path,
            relay_url="https://relay.example.com:8443",
            contact=["mailto:ops@example.com"],
            directory="https://ca.example.com/directory",
            terms_agreed=True,
            challenge_listen=["127.0.0.1:80"],
            relay_listen=["127.0.0.1:8443"],
            operator_listen=["127.0.0.1:8080"],
        )
    )
    for name in known_settings():
        if name.startswith("dns01."):
            assert f"{name.rsplit('.', 1)[-1]} = " in text
    for way in ("rfc2136", "hook", "acme_dns", "lexicon"):
        start = text.index(f"# [dns01.{way}]")
        example = text[start : text.index("\n\n", start)]
        lines = [line.removeprefix("# ") for line in example.split("\n")]
        settings = [line for line in lines if line.startswith("[") or " = " in line]
        file = tmp_path / f"{way}.toml"
        file.write_text(text + "\n" + "\n".join(settings))
        assert getattr(load_settings(file).dns01, way) is not None
