"""dns-lexicon, the optional extra: a provider of the tests', its errors, and its absence."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from shared.acme.dns01.lexicon import LexiconPublisher
from shared.acme.dns01.names import TxtRecord
from shared.acme.dns01.settings import LexiconSettings
from shared.contract.errors import ConfigurationError, DnsFailure, LooseFileMode

RECORD = TxtRecord("www.example.com", "_acme-challenge.www.example.com", "example.com", "v" * 43)
TOKEN = "token-of-the-provider"


class MemoryProvider:
    """A provider in dns-lexicon's own form, over a set of records."""

    records: ClassVar[set[tuple[str, str, str]]] = set()
    seen: ClassVar[dict[str, Any]] = {}
    error: ClassVar[Exception | None] = None
    answer: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self._config = config

    def authenticate(self) -> None:
        self.seen.update(
            domain=self._config.resolve("lexicon:domain"),
            token=self._config.resolve("lexicon:memory:auth_token"),
            ttl=self._config.resolve("lexicon:ttl"),
        )
        if self.error is not None:
            raise self.error

    def cleanup(self) -> None:
        pass

    def create_record(self, rtype: str, name: str, content: str) -> bool:
        self.records.add((rtype, name, content))
        return self.answer

    def delete_record(self, identifier: str | None, rtype: str, name: str, content: str) -> bool:
        assert identifier is None
        self.records.discard((rtype, name, content))
        return self.answer


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MemoryProvider]]:
    client = pytest.importorskip("lexicon.client")
    module = types.SimpleNamespace(Provider=MemoryProvider)
    monkeypatch.setattr(client, "_find_providers", lambda: {"memory": True})
    monkeypatch.setattr(client, "_load_provider_module", lambda _name: module)
    monkeypatch.setattr(MemoryProvider, "records", set())
    monkeypatch.setattr(MemoryProvider, "seen", {})
    yield MemoryProvider


@pytest.fixture
def settings(tmp_path: Path) -> LexiconSettings:
    file = tmp_path / "credentials.toml"
    file.touch(0o600)
    file.write_text(f'auth_token = "{TOKEN}"\n')
    return LexiconSettings("memory", file, ttl=30)


def test_one_value_beside_others(provider: type[MemoryProvider], settings: LexiconSettings) -> None:
    other = ("TXT", RECORD.owner, "of somebody else")
    provider.records.add(other)
    publisher = LexiconPublisher(settings)
    publisher.add(RECORD)
    assert provider.records == {other, ("TXT", RECORD.owner, RECORD.value)}
    assert provider.seen == {"domain": "example.com", "token": TOKEN, "ttl": 30}
    publisher.remove(RECORD)
    assert provider.records == {other}


def test_the_zone_is_the_one_that_was_found_not_one_that_was_guessed(
    provider: type[MemoryProvider], settings: LexiconSettings
) -> None:
    deep = TxtRecord("a.intra.example.co.uk", "_acme-challenge.a", "intra.example.co.uk", "v" * 43)
    LexiconPublisher(settings).add(deep)
    assert provider.seen["domain"] == "intra.example.co.uk"


def test_errors_without_secrets(
    provider: type[MemoryProvider], settings: LexiconSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "error", RuntimeError(f"401 for https://x/?key={TOKEN}&a=b"))
    with pytest.raises(DnsFailure, match=r"memory refused .* RuntimeError: 401 for") as raised:
        LexiconPublisher(settings).add(RECORD)
    assert TOKEN not in str(raised.value)
    assert raised.value.__cause__ is None
    monkeypatch.setattr(provider, "error", None)
    monkeypatch.setattr(provider, "answer", False)
    with pytest.raises(DnsFailure, match="it did not do what was asked"):
        LexiconPublisher(settings).add(RECORD)


def test_a_provider_that_does_not_exist(settings: LexiconSettings) -> None:
    pytest.importorskip("lexicon")
    with pytest.raises(ConfigurationError, match="does not know the provider 'memory'"):
        LexiconPublisher(settings)


def test_the_extra_is_not_installed(
    settings: LexiconSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lexicon", None)
    monkeypatch.setitem(sys.modules, "lexicon.client", None)
    with pytest.raises(ConfigurationError, match="needs dns-lexicon, which is not installed") as no:
        LexiconPublisher(settings)
    assert "split-horizon-relay[lexicon]" in no.value.do


def test_credentials_that_cannot_be_used(
    provider: type[MemoryProvider], settings: LexiconSettings
) -> None:
    del provider
    settings.credentials_file.write_text("token")
    with pytest.raises(ConfigurationError, match="is no TOML"):
        LexiconPublisher(settings)
    settings.credentials_file.chmod(0o666)
    with pytest.raises(LooseFileMode):
        LexiconPublisher(settings)
