"""The puller's half of a diagnosis, and both halves together."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from internal_puller.doctor.direct import direct_findings
from internal_puller.doctor.internal_dns import name_findings
from internal_puller.doctor.layout import layout_findings
from internal_puller.doctor.machine import state_findings, target_findings, timer_findings
from internal_puller.doctor.relay import visit_agent
from internal_puller.doctor.service import Service, find_service, setting_findings
from internal_puller.install.mounts import mounted
from internal_puller.settings.config import Settings
from internal_puller.settings.proxies import choose_proxy, without_credentials
from internal_puller.settings.targets import Target, load_targets
from internal_puller.sources.agent.contact import connect
from internal_puller.state.progress import Progress
from internal_puller.state.state import Enrolment, StateDirectory
from shared.contract.diagnosis import Finding, Half, NameSeen, Verdict, compare
from shared.contract.errors import ConfigurationError, RelayError


@dataclass(frozen=True)
class Diagnosis:
    """
    Attributes:
        together: what only both halves show.
        agent: ``None`` where the agent did not give its half.
    """

    puller: Half
    agent: Half | None
    together: tuple[Finding, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        other = () if self.agent is None else self.agent.findings
        return (*self.together, *self.puller.findings, *other)


def diagnose(settings: Settings) -> Diagnosis:
    """Look at this machine, ask the agent for its half, and lay both side by side.

    Raises:
        ConfigurationError: the settings or the targets cannot be read at all.
    """
    targets, service = load_targets(settings.targets_file), find_service()
    findings = [*state_findings(settings)]
    enrolment, client, progress = None, None, Progress()
    with suppress(RelayError):  # what cannot be read state_findings has named
        state = StateDirectory.open(settings.state_directory)
        progress, enrolment = state.progress(), state.enrolment()
        findings += _enrolment_findings(enrolment, settings)
    if enrolment is not None:
        try:
            client = connect(settings, state)
        except RelayError as error:
            if error.what not in {one.what for one in findings}:
                findings.append(_no_way(enrolment, error))
    findings += _machine_findings(settings, targets, progress, service)
    if service is not None:
        findings += setting_findings(service, settings, _own_proxy(settings, enrolment))
    found = [
        one
        for name in _names(targets, enrolment)
        for one in name_findings(name, places_of(name, targets))
    ]
    findings += [one for one in found if isinstance(one, Finding)]
    seen = tuple(one for one in found if isinstance(one, NameSeen))
    half = Half("puller", socket.gethostname()[:255], int(time.time()), tuple(findings), seen)
    if client is None or enrolment is None:
        return Diagnosis(half, None, ())
    try:
        visited = visit_agent(client, half, enrolment.relay_url, _way(settings, enrolment))
    finally:
        client.close()
    both = Half(half.side, half.host, half.at, (*findings, *visited.findings), half.names)
    return Diagnosis(both, visited.half, compare(visited.half, both))


def _machine_findings(
    settings: Settings, targets: Sequence[Target], progress: Progress, service: Service | None
) -> Iterator[Finding]:
    installed = {target.certificate for target in targets}
    place = str(settings.direct_file)
    yield from _guarded("direct", place, direct_findings(settings, installed))
    mounts = functools.cache(functools.partial(mounted, targets))
    for target in targets:
        found = target_findings(target, settings, progress, service)
        yield from _guarded("target", str(target.directory), found)
        found = layout_findings(target, f"{target.certificate} in {target.directory}", mounts)
        yield from _guarded("layout", str(target.directory), found)
    if not targets:
        what = "No target takes any certificate on this machine."
        do = "internal-puller target add NAME --preset nginx"
        yield Finding("target", Verdict.WARNING, "targets", what, do)
    yield from timer_findings(settings)


def _enrolment_findings(enrolment: Enrolment | None, settings: Settings) -> Iterator[Finding]:
    if enrolment is not None:
        yield Finding(
            "enrolment", Verdict.OK, enrolment.puller, f"Enrolled with {enrolment.relay_url}."
        )
    elif settings.direct_file.exists():
        what = "No agent: this machine asks the CA itself."
        yield Finding("enrolment", Verdict.NOTE, "enrolment", what)
    else:
        what = "This machine is not enrolled with an agent."
        do = "On the VM: external-agent token NAME; here: internal-puller enroll"
        yield Finding("enrolment", Verdict.PROBLEM, "enrolment", what, do)


def _guarded(check: str, subject: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Give what one check finds; an error in it is a finding, and no end of the diagnosis."""
    try:
        yield from findings
    except RelayError as error:
        yield Finding(check, Verdict.PROBLEM, subject, error.what, error.do or error.means)
    except Exception as error:
        what = f"This could not be looked at further: {type(error).__name__}: {error!s:.200}"
        do = "If this is no fault of the machine, please report it: it is ours."
        yield Finding(check, Verdict.UNKNOWN, subject, what, do)


def _no_way(enrolment: Enrolment, error: RelayError) -> Finding:
    what = f"The agent cannot even be asked: {error.what}"
    return Finding("relay", Verdict.PROBLEM, enrolment.relay_url, what, error.do or error.means)


def _way(settings: Settings, enrolment: Enrolment) -> str:
    try:
        proxy = _proxy(settings, enrolment)
    except ConfigurationError as error:
        return f"not at all: {error.what}"
    if proxy is None:
        return "directly"
    whose = "" if settings.proxy else " of this user's environment"
    return f"through the proxy {proxy}{whose}"


def _own_proxy(settings: Settings, enrolment: Enrolment | None) -> str | None:
    with suppress(ConfigurationError):  # whoever connects says so
        return None if enrolment is None else _proxy(settings, enrolment)
    return None


def _proxy(settings: Settings, enrolment: Enrolment) -> str | None:
    host = enrolment.relay_url.partition("://")[2].rpartition(":")[0]
    proxy = choose_proxy(settings.proxy, host.strip("[]"))
    return None if proxy is None else without_credentials(proxy)


def places_of(name: str, targets: Sequence[Target]) -> list[str]:
    """Return the hosts where a name is installed; "" is this one."""
    found = ("" if one.ssh is None else one.ssh_parts[1] for one in targets if name in one.names)
    return sorted(set(found))


def _names(targets: tuple[Target, ...], enrolment: Enrolment | None) -> list[str]:
    names = {name for target in targets for name in target.names}
    if enrolment is not None and not targets:
        names = {name for grant in enrolment.granted for name in grant.names}
    return sorted(name for name in names if not name.startswith("*."))
