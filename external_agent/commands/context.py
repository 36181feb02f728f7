"""What every command needs: the settings, the store, the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from external_agent.relay import enrolment
from external_agent.relay.enrolment import TokenMaker
from external_agent.settings import keys
from external_agent.settings.config import Settings, default_config_path, load_settings
from external_agent.store.interface import Store
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from external_agent.commands.client import Api


@dataclass(frozen=True)
class Context:
    """Made by the top-level command from its options."""

    config_path: Path

    @property
    def now(self) -> int:
        return int(time.time())

    def settings(self) -> Settings:
        return load_settings(self.config_path)

    @contextmanager
    def api(self) -> Iterator[Api]:
        """Give the operator API: the running agent's, or the same one over the opened store.

        Raises:
            ConfigurationError, LooseFileMode, StoreUnavailable: as :meth:`store`.
        """
        from external_agent.commands import client

        settings = self.settings()
        with client.running_agent(settings.operator_socket) as running:
            if running is not None:
                yield running
                return
        with self.store(settings) as store:
            yield client.own_api(settings, store, lambda: self.now)

    @contextmanager
    def store(self, settings: Settings) -> Iterator[Store]:
        """Open the store for one command.

        Raises:
            ConfigurationError, LooseFileMode: no state directory, or others may enter it.
            StoreUnavailable: locked, gone, full.
        """
        from external_agent.store.open import open_store

        keys.check_directory(settings.state_directory)
        store = open_store(settings.database_url)
        try:
            yield store
        finally:
            store.close()


def context_for(config: Path | None) -> Context:
    return Context(config or default_config_path())


def token_maker(settings: Settings) -> TokenMaker:
    """Return what makes tokens; reads the signing key's file.

    Raises:
        ConfigurationError, LooseFileMode: a key file is missing or loose.
    """
    agent = keys.load_keys(settings.state_directory)
    return enrolment.token_maker(settings, agent)


def parse_duration(text: str, *, days: bool = False) -> int:
    """Return seconds of ``90s``, ``30m``, ``1h`` and, where they make sense, ``7d``.

    Raises:
        ConfigurationError: anything else.
    """
    units = {"s": 1, "m": 60, "h": 3600} | ({"d": 86400} if days else {})
    if len(text) > 1 and text[:-1].isascii() and text[:-1].isdigit() and text[-1] in units:
        return int(text[:-1]) * units[text[-1]]
    more = ", 1h or 7d" if days else " or 1h"
    raise ConfigurationError(f"{text!r:.40} is not a time: write 90s, 30m{more}.")


def one_of(text: str, choices: Sequence[str], what: str) -> str:
    """Return ``text`` if it is a choice.

    Raises:
        ConfigurationError: it is none.
    """
    if text in choices:
        return text
    raise ConfigurationError(f"{text!r:.40} is no {what}: use one of {', '.join(choices)}.")
