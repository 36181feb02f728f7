"""What this machine may install: granted by its agent, or got by itself."""

from __future__ import annotations

import socket

from internal_puller.settings.config import Settings
from internal_puller.sources.agent.contact import NO_CONTACT, connect
from internal_puller.sources.direct.settings import load_direct
from internal_puller.state.state import StateDirectory
from shared.contract.errors import NameRefused, PolicyError
from shared.contract.identifiers import DnsName
from shared.contract.wire import Grant


def find_granted(
    settings: Settings, asked: str, names: tuple[str, ...]
) -> tuple[Grant, tuple[str, ...]]:
    """Return the grant that is meant, and the names that are needed here."""
    granted = _granted(settings)
    found = _among(granted, asked, names)
    if found is not None:
        return found
    try:
        granted = _granted_by_now(settings) or granted
    except NO_CONTACT as error:
        raise _not_granted(
            asked, granted, f" Whether there is more is not known: {error.what}"
        ) from error
    found = _among(granted, asked, names)
    if found is None:
        raise _not_granted(asked, granted)
    return found


def _among(
    granted: tuple[Grant, ...], asked: str, names: tuple[str, ...]
) -> tuple[Grant, tuple[str, ...]] | None:
    for grant in granted:
        if grant.certificate == asked:
            return grant, names or grant.names
    try:
        name = DnsName.parse(asked)
    except NameRefused:
        return None
    for grant in granted:
        if any(DnsName(one).covers(name) for one in grant.names):
            return grant, names or (str(name),)
    return None


def _granted(settings: Settings) -> tuple[Grant, ...]:
    """Return what this machine may install: what it gets itself, and what its agent grants."""
    state = StateDirectory.open(settings.state_directory)
    direct = load_direct(settings.direct_file)
    if direct is None:
        return state.require_enrolment().granted
    own = tuple(Grant(one.certificate, one.names) for one in direct.certificates)
    enrolment = state.enrolment()
    return own + (enrolment.granted if enrolment else ())


def _granted_by_now(settings: Settings) -> tuple[Grant, ...]:
    """Ask the agent: since this machine was enrolled more may have been granted.

    Raises:
        TransportError: it cannot be asked.
        ClockWrong: nor can it be while our clocks differ by more than 300 s.
    """
    state = StateDirectory.open(settings.state_directory)
    if state.enrolment() is None:
        return ()
    client = connect(settings, state)
    try:
        return tuple(Grant(one.certificate, one.names) for one in client.listing().offers)
    finally:
        client.close()


def _not_granted(asked: str, granted: tuple[Grant, ...], more: str = "") -> PolicyError:
    return PolicyError(
        f"{asked!r:.200} is not granted to this machine; granted: "
        f"{', '.join(grant.certificate for grant in granted) or 'nothing'}.{more}",
        do=f"Grant it on the agent: external-agent puller grant {socket.gethostname()} NAME; or, "
        "in direct mode: internal-puller direct add NAME.",
    )
