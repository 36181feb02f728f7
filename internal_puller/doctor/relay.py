"""Whether the agent is reached, which way, and who stands in between; asks for the other half."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.network import PinMismatch, UntimelyPeer, UntrustedPeer
from shared.contract.diagnosis import SET_CLOCK, SKEW_TO_MENTION, Finding, Half, Verdict
from shared.contract.errors import (
    AnswerUnauthenticated,
    ClockWrong,
    PullerRevoked,
    RefusedForNow,
    RelayError,
    RequestRefused,
    TransportError,
)


@dataclass(frozen=True)
class Visited:
    """What came of the visit: the findings, and the agent's half if it answered."""

    findings: tuple[Finding, ...]
    half: Half | None = None


def visit_agent(client: RelayClient, ours: Half, url: str, way: str) -> Visited:
    """Give the agent our half and get its own; a listing first, which takes no time.

    Args:
        way: words for the way that requests take, such as ``directly`` or the proxy.
    """
    try:
        client.listing()
    except RelayError as error:
        return Visited((*_refused(error, url, way), *_clock(client)))
    found = [*_reached(client, url, way), *_clock(client)]
    try:
        half = client.diagnose(ours)
    except RequestRefused as error:
        if error.problem_type == "not-found":
            found.append(_too_old(url))
        else:
            found.append(Finding("agent-half", Verdict.UNKNOWN, url, error.what, error.do))
        return Visited(tuple(found))
    except RelayError as error:
        what = f"The agent's half did not come: {error.what}"
        do = "On the VM: external-agent doctor"
        return Visited((*found, Finding("agent-half", Verdict.UNKNOWN, url, what, do)))
    return Visited(tuple(found), half)


def _too_old(url: str) -> Finding:
    what = "The agent is of an older release, which has no doctor for us."
    return Finding("agent-half", Verdict.UNKNOWN, url, what, "Upgrade it.")


def _refused(error: RelayError, url: str, way: str) -> Iterator[Finding]:
    if isinstance(error, ClockWrong):
        return  # the check of the clock says it
    if isinstance(error, PullerRevoked):
        check, do = "enrolment", "Enrol anew: external-agent token NAME, internal-puller enroll."
    elif isinstance(error, RefusedForNow):
        check, do = "relay", error.do
    elif isinstance(error, RequestRefused):
        check, do = "enrolment", error.do
    elif isinstance(error, AnswerUnauthenticated):
        check = "relay-answer"
        do = f"{error.do} Something at {url} answers that is not the agent, or a proxy does."
    elif isinstance(error, UntimelyPeer):
        check, do = "clock", f"{SET_CLOCK}. If it is right, the certificate is not."
    elif isinstance(error, UntrustedPeer | PinMismatch):
        check = "relay-tls"
        do = (
            "Look for a proxy that opens TLS: give its root certificate as roots_file in "
            "puller.toml. If the agent has a new TLS key, enrol again with a new token."
        )
    else:
        check = "relay"
        do = _ways_out(way) if isinstance(error, TransportError) else error.do
    yield Finding(check, Verdict.PROBLEM, url, f"{error.what} (asked {way})", do)


def _ways_out(way: str) -> str:
    if way == "directly":
        return (
            "Is outgoing TCP to that port allowed from here? If this network goes out through a "
            "proxy, set it: proxy in puller.toml. If others reach it: does the agent run?"
        )
    return (
        "Is it the right proxy (proxy in puller.toml, or HTTPS_PROXY), and does it let CONNECT to "
        "that port through? If others reach it: does the agent run?"
    )


def _reached(client: RelayClient, url: str, way: str) -> Iterator[Finding]:
    if client.tls_check == "roots":
        yield Finding(
            "relay-tls",
            Verdict.NOTE,
            url,
            f"The TLS of {url} is vouched for by known roots, and is not the key of the token: a "
            "public certificate of the agent's, or a proxy that opens TLS. What is fetched stays "
            "sealed and signed either way.",
        )
    yield Finding("relay", Verdict.OK, url, f"The agent answers at {url}, asked {way}.")


def _clock(client: RelayClient) -> Iterator[Finding]:
    skew = client.clock_difference
    if skew is None:
        return
    side = "behind" if skew > 0 else "ahead of"
    what = f"This machine's clock is {abs(skew)} s {side} the agent's."
    if abs(skew) > 300:
        yield Finding("clock", Verdict.PROBLEM, "clock", f"{what} Nothing is accepted.", SET_CLOCK)
    elif abs(skew) > SKEW_TO_MENTION:
        yield Finding("clock", Verdict.WARNING, "clock", what, SET_CLOCK)
    else:
        yield Finding("clock", Verdict.OK, "clock", "This machine's clock agrees with the agent's.")
