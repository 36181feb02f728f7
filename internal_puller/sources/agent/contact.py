"""Reaching the agent that this machine is enrolled with; part of the quiet path of ``pull``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from internal_puller.settings.config import Settings
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.this_machine import this_machine
from internal_puller.sources.agent.transport import Transport
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ClockWrong, RelayError, RequestRefused, TransportError
from shared.contract.wire import Machine

NO_CONTACT: Final = (TransportError, ClockWrong)


def connect(
    settings: Settings,
    state: StateDirectory,
    clock: Callable[[], float] = time.time,
    identify: Callable[[], Machine | None] = this_machine,
) -> RelayClient:
    """Return a client for the agent that this machine is enrolled with."""
    enrolment = state.require_enrolment()
    transport = Transport(
        enrolment.relay_url,
        enrolment.tls_pin,
        proxy=settings.proxy,
        roots_file=settings.roots_file,
        prefer=state.progress().tls_check,
    )
    return RelayClient(
        enrolment.relay_url,
        enrolment.agent,
        state.signing_key(),
        transport,
        timeout=settings.timeout,
        clock=clock,
        machine=identify(),
    )


def lost_contact(error: RelayError | None) -> bool:
    """Whether the agent went away; a refusal is its answer."""
    return isinstance(error, NO_CONTACT) and not isinstance(error, RequestRefused)
