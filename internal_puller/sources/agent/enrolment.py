"""Enrolling: a token in, both keys offered, the agent pinned. A lost answer may be asked again."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from internal_puller.settings.config import Settings
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.transport import Transport
from internal_puller.state.state import Enrolment, StateDirectory
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import ConfigurationError, KeysRefused
from shared.contract.wire import EnrolmentAnswer, EnrolmentRequest, Grant


@dataclass(frozen=True, slots=True)
class Enrolled:
    """
    Attributes:
        enrolment: as it stands now.
        granted: what this token granted.
        new: ids of those that the same agent had not granted by an earlier token.
    """

    enrolment: Enrolment
    granted: tuple[Grant, ...]
    new: frozenset[str]


def enrol(
    line: str,
    settings: Settings,
    *,
    change_agent: bool = False,
    clock: Callable[[], float] = time.time,
    host: str | None = None,
) -> Enrolled:
    """Redeem a token and remember the agent that it pins.

    Args:
        line: the token as pasted.
        change_agent: replace another agent that this machine is enrolled with; floors stay.
        clock: unix seconds.
        host: how this machine calls itself; its host name if not given.

    Raises:
        TokenMalformed, TokenExpired: before anything was sent or written.
        EnrolmentError: the agent refuses.
        ConfigurationError: another agent is pinned, or the state directory cannot be used.
        TransportError, ClockWrong: not reached; the same token may be tried again.
    """
    token = EnrolmentToken.decode(line, now=clock())
    earlier = _earlier(settings, token, change_agent=change_agent)
    state = StateDirectory.create(settings.state_directory)
    key, identity = state.make_keys()
    client = RelayClient(
        token.relay_url,
        token.agent,
        key,
        Transport(
            token.relay_url, token.tls_pin, proxy=settings.proxy, roots_file=settings.roots_file
        ),
        timeout=settings.timeout,
        clock=clock,
    )
    request = EnrolmentRequest(
        key.public.public, identity.recipient.public, host or socket.gethostname(), int(clock())
    )
    try:
        answer = client.enrol(token.key, request)
    finally:
        client.close()
    if answer.puller != key.id:
        raise KeysRefused("The agent answered for another puller's key.")
    enrolment = _remember(state, token, answer, earlier, int(clock()))
    _start_anew(state, client, enrolment, earlier, answer.granted)
    before = earlier.granted if earlier is not None and earlier.agent == token.agent else ()
    new = {one.certificate for one in answer.granted} - {one.certificate for one in before}
    return Enrolled(enrolment, answer.granted, frozenset(new))


def _earlier(settings: Settings, token: EnrolmentToken, *, change_agent: bool) -> Enrolment | None:
    if not settings.state_directory.exists():
        return None
    earlier = StateDirectory.open(settings.state_directory).enrolment()
    if earlier is not None and earlier.agent != token.agent and not change_agent:
        raise ConfigurationError(
            f"This machine is enrolled with another agent, {earlier.agent.id[:16]}… at "
            f"{earlier.relay_url}.",
            do="To leave it for the agent of this token: internal-puller enroll --change-agent.",
        )
    return earlier


def _remember(
    state: StateDirectory,
    token: EnrolmentToken,
    answer: EnrolmentAnswer,
    earlier: Enrolment | None,
    now: int,
) -> Enrolment:
    """A second token of the same agent adds its grants; the newest words of each are kept."""
    granted = {}
    if earlier is not None and earlier.agent == token.agent:
        granted = {grant.certificate: grant for grant in earlier.granted}
    granted |= {grant.certificate: grant for grant in answer.granted}
    enrolment = Enrolment(
        relay_url=token.relay_url,
        agent=token.agent,
        tls_pin=token.tls_pin,
        puller=answer.puller,
        granted=tuple(granted[name] for name in sorted(granted)),
        enrolled_at=now,
    )
    state.save_enrolment(enrolment)
    return enrolment


def _start_anew(
    state: StateDirectory,
    client: RelayClient,
    enrolment: Enrolment,
    earlier: Enrolment | None,
    granted: tuple[Grant, ...],
) -> None:
    """What was heard from another agent says nothing about this one."""
    progress = state.progress()
    if earlier is None or earlier.agent != enrolment.agent:
        progress.version = ""
        for one in progress.certificates.values():
            one.offered, one.receipt, one.reported = 0, None, 0
    progress.reports_paused_until = 0
    for grant in granted:
        progress.of(grant.certificate).withdrawn_at = 0
    progress.tls_check = client.tls_check
    progress.clock_difference = client.clock_difference or 0
    progress.last_contact = enrolment.enrolled_at
    progress.error = None
    state.save_progress(progress, durable=True)
