"""The relay's origin: what an administrator writes, in its one form; nothing is dropped unsaid."""

from __future__ import annotations

import pytest

from shared.contract.enrolment_token import check_relay_url
from shared.contract.errors import TokenMalformed


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://relay.example.com", "https://relay.example.com"),
        ("https://Relay.example.com/", "https://relay.example.com"),
        ("HTTPS://relay.example.com:443", "https://relay.example.com"),
        ("https://relay.example.com:8443/", "https://relay.example.com:8443"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
def test_origins(written: str, origin: str) -> None:
    assert check_relay_url(written) == origin
    assert check_relay_url(origin) == origin


@pytest.mark.parametrize(
    "written",
    [
        "https://relay.example.com//",
        "https://relay.example.com\n",
        "https://re\tlay.example.com",
        " https://relay.example.com",
        "https://relay.example.com?",
        "https://relay.example.com#",
        "https://a@relay.example.com",
        "https://relay.example.com:",
        "https://relay.example.com:0",
        "https://relay.example.com:65536",
        "https://",
        "http://relay.example.com",
    ],
)
def test_what_is_more_or_less_than_an_origin(written: str) -> None:
    with pytest.raises(TokenMalformed):
        check_relay_url(written)
