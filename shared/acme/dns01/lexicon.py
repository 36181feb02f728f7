"""Writes records through dns-lexicon's providers, an optional extra."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from typing import Any

from shared.acme.dns01.names import TxtRecord
from shared.acme.dns01.settings import LexiconSettings
from shared.acme.problems import plain_text
from shared.contract.errors import ConfigurationError, DnsFailure
from shared.host.trusted_file import SECRET, read_trusted

_WHAT = "file of dns-lexicon credentials"
_SHORTEST_HIDDEN = 4


class LexiconPublisher:
    """One call of a provider for each value.

    Raises:
        ConfigurationError, LooseFileMode: the extra is not installed, the provider is not known,
            or the credentials cannot be used.
    """

    needs_zone = True

    def __init__(self, settings: LexiconSettings) -> None:
        self._settings = settings
        _check_provider(settings.provider)
        self._options = read_credentials(settings)

    def add(self, record: TxtRecord) -> None:
        """
        Raises:
            DnsFailure: the provider refused, or does not answer.
        """
        self._call(
            record,
            lambda operations: operations.create_record("TXT", record.owner, record.value),
        )

    def remove(self, record: TxtRecord) -> None:
        """
        Raises: as :meth:`add`.
        """
        self._call(
            record,
            lambda operations: operations.delete_record(
                rtype="TXT", name=record.owner, content=record.value
            ),
        )

    def _call(self, record: TxtRecord, call: Callable[[Any], object]) -> None:
        from lexicon.client import Client
        from lexicon.config import ConfigResolver

        settings = {
            "provider_name": self._settings.provider,
            "domain": record.zone,
            # Otherwise the zone is guessed from a list of public suffixes.
            "delegated": record.zone,
            # Some providers (ddns) look for the zone among their own options.
            self._settings.provider: {"domain": record.zone, **self._options},
        } | ({} if self._settings.ttl is None else {"ttl": self._settings.ttl})
        try:
            config = ConfigResolver().with_dict(settings)  # type: ignore[no-untyped-call]
            with Client(config) as operations:
                done = call(operations)
        except Exception as error:  # each provider raises what it likes
            raise self._failure(record, self._without_secrets(error)) from None
        if done is False:
            raise self._failure(record, "it did not do what was asked")

    def _failure(self, record: TxtRecord, why: str) -> DnsFailure:
        return DnsFailure(
            f"The DNS provider {self._settings.provider} refused to change {record.owner}: {why}.",
            do="Look at the provider's own log, and at the credentials and what they permit.",
        )

    def _without_secrets(self, error: Exception) -> str:
        """Return an error's words: a URL in it may carry what is in the credentials file."""
        text = f"{type(error).__name__}: {error}"
        for value in self._options.values():
            if len(str(value)) >= _SHORTEST_HIDDEN:
                text = text.replace(str(value), "…")
        return plain_text(text)


def _check_provider(provider: str) -> None:
    # It fetches a list of public suffixes, which decides nothing here, and would wait for ever.
    os.environ.setdefault("TLDEXTRACT_CACHE_TIMEOUT", "3")
    try:
        from lexicon.client import Client
        from lexicon.config import ConfigResolver
    except ImportError as error:
        raise ConfigurationError(
            "dns01.lexicon needs dns-lexicon, which is not installed.",
            do="Install the extra: pip install 'split-horizon-relay[lexicon]'.",
        ) from error
    try:
        config = ConfigResolver()  # type: ignore[no-untyped-call]
        Client(config.with_dict({"provider_name": provider, "domain": "example.com"}))
    except Exception as error:
        raise ConfigurationError(
            f"dns-lexicon does not know the provider {provider!r:.60}, or lacks a package for it: "
            f"{plain_text(str(error))}.",
            do="Run: lexicon --help, for the names of its providers.",
        ) from error


def read_credentials(settings: LexiconSettings) -> dict[str, object]:
    """Return the provider's options.

    Raises:
        ConfigurationError: missing, no TOML.
        LooseFileMode: others may read it.
    """
    path = settings.credentials_file
    try:
        return tomllib.loads(read_trusted(path, _WHAT, mask=SECRET).decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            f"The {_WHAT} {path} is no TOML: {error}.", do='Write lines such as auth_token = "…".'
        ) from error
