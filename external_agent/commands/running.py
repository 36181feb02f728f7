"""``external-agent serve``: the settings become a running agent."""

from __future__ import annotations

import os
import resource
from functools import partial

import structlog
import typer

from external_agent import keys, logs
from external_agent.commands.context import Context
from external_agent.issuing import make_worker
from external_agent.keymaker import ProcessKeyMaker
from external_agent.serve import Agent, open_sockets, run_until_signalled
from shared.errors import RelayError

_log = structlog.get_logger(__name__)


def serve(context: typer.Context) -> None:
    """Run the agent: answer challenges, order certificates, serve pullers. Stop with SIGTERM."""
    own: Context = context.obj
    settings = own.settings()
    logs.configure(settings.log.level, settings.log.format)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    agent_keys = keys.load_keys(settings.state_directory)
    sockets = open_sockets(settings, os.environ)
    with own.store(settings) as store, ProcessKeyMaker() as key_maker:
        _log.info("store", engine=store.description)
        worker = partial(make_worker, store, agent_keys, key_maker)
        agent = Agent(settings, store, agent_keys, sockets, make_worker=worker)
        run_until_signalled(agent, lambda: _reload(own, agent))


def _reload(own: Context, agent: Agent) -> None:
    try:
        settings = own.settings()
        agent.reload(settings)
    except RelayError as error:
        _log.error("settings were not reloaded", error=error.what)
        return
    logs.set_level(settings.log.level)
    _log.info("settings reloaded")
