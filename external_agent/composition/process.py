"""The settings become a running agent, and are read again on SIGHUP."""

from __future__ import annotations

import fcntl
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import structlog

from external_agent.composition.agent import Agent, open_sockets, run_until_signalled
from external_agent.composition.worker import worker_maker
from external_agent.orders.keymaker import ProcessKeyMaker
from external_agent.relay.relay_tls import RelayKeys, settle
from external_agent.settings import keys, logs
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.contract.errors import ConfigurationError, RelayError

_log = structlog.get_logger(__name__)
ReadSettings = Callable[[], Settings]


def run(
    read_settings: ReadSettings, open_store: Callable[[Settings], AbstractContextManager[Store]]
) -> None:
    """Serve until a signal ends it; needs the main thread.

    Raises:
        ConfigurationError, LooseFileMode, PortUnavailable, StoreUnavailable: it cannot begin.
    """
    settings = read_settings()
    logs.configure(settings.log.level, settings.log.format)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    agent_keys = keys.load_keys(settings.state_directory)
    with _alone(settings.state_directory):
        sockets = open_sockets(settings, os.environ)
        with open_store(settings) as store, ProcessKeyMaker() as key_maker:
            _log.info("store", engine=store.description)
            settle(store, settings, int(time.time()))
            RelayKeys(store, settings.state_directory).ask_again_for_a_lost_key(int(time.time()))
            worker = worker_maker(store, agent_keys, key_maker)
            agent = Agent(
                settings, store, agent_keys, sockets, make_worker=worker, key_maker=key_maker
            )
            run_until_signalled(agent, lambda: _reload(read_settings, agent, store))


@contextmanager
def _alone(state_directory: Path) -> Iterator[None]:
    """Be the only one that serves from a state directory; a killed one holds nothing.

    An agent takes the leases of its own last run back at once, so two of the same would work on
    the same orders.

    Raises:
        ConfigurationError: another one is running.
    """
    descriptor = os.open(state_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another external-agent serve is running with {state_directory}.",
                do="Stop that one first, or name another settings file with --config.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _reload(read_settings: ReadSettings, agent: Agent, store: Store) -> None:
    try:
        settings = read_settings()
        settle(store, settings, int(time.time()))
        agent.reload(settings)
    except RelayError as error:
        _log.error("settings were not reloaded", error=error.what)
        return
    logs.set_level(settings.log.level)
    _log.info("settings reloaded")
