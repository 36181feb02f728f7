"""CAs by name: what stands for what, and what is said of account bindings."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from shared.acme.directories import (
    CERTIFICATE_AUTHORITIES,
    KNOWN_CAS,
    binding_hint,
    ca_name,
    directory_url,
    wants_binding,
)
from shared.contract.errors import ConfigurationError


@pytest.mark.parametrize("name", KNOWN_CAS)
def test_every_name_stands_for_one_directory(name: str) -> None:
    url = directory_url(name)
    assert urlsplit(url).scheme == "https"
    assert ca_name(url) == name
    assert wants_binding(url) is bool(KNOWN_CAS[name].binding_from)
    assert KNOWN_CAS[name].binding_from in binding_hint(url)


def test_those_without_a_binding() -> None:
    free = {name for name, url in CERTIFICATE_AUTHORITIES.items() if not wants_binding(url)}
    assert free == {"letsencrypt", "letsencrypt-staging"}


def test_a_url_is_its_own_name() -> None:
    url = "https://ca.example.com:8443/acme/directory"
    assert directory_url(url) == ca_name(url) == url
    assert not wants_binding(url)
    assert "from the CA" in binding_hint(url)


@pytest.mark.parametrize("text", ["buypass", "http://ca.example.com/dir", "https://[x", ""])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a known CA nor an https URL") as refused:
        directory_url(text)
    assert "zerossl" in refused.value.do
