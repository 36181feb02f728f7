"""This machine: state, targets, the servers' commands, and what is served at this moment."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from internal_puller.doctor.remote import reload_there, remote_findings
from internal_puller.doctor.served import served_findings
from internal_puller.doctor.service import Service, service_findings
from internal_puller.facts.expiry import USUAL_LIFETIME
from internal_puller.facts.schedule import SERVICE_STATE, schedule_of
from internal_puller.facts.standing import tell
from internal_puller.facts.unended import tell_unended
from internal_puller.install.active import read_active
from internal_puller.install.layout import set_aside
from internal_puller.install.presets import Plan, resolve
from internal_puller.outbox.verdict import ERRORS
from internal_puller.outbox.verdict import Verdict as Verdicts
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target
from internal_puller.state.files import write_problems
from internal_puller.state.progress import Progress, Standing
from internal_puller.state.state import StateDirectory
from shared.contract.diagnosis import Finding, Verdict
from shared.contract.errors import RelayError
from shared.host import systemctl

LITTLE_ROOM = 50 * 2**20
_PUT_BACK = "Put that file back from a backup, or remove enrolment.json and enrol with a new token."


def state_findings(settings: Settings) -> Iterator[Finding]:
    """Read every file of the state as ``pull`` would; direct mode alone has no keys there."""
    place = str(settings.state_directory)
    try:
        state = StateDirectory.open(settings.state_directory)
        state.floors(), state.own_keys(), state.progress()
        is_direct = state.enrolment() is None and settings.direct_file.exists()
        for name, read in (("signing.key", state.signing_key), ("sealing.key", state.identity)):
            if not is_direct or os.path.lexists(state.path / name):
                read()
    except RelayError as error:
        yield Finding("state", Verdict.PROBLEM, place, error.what, error.do or _PUT_BACK)
        return
    yield Finding("state", Verdict.OK, place, f"The keys in {place} are ours alone.")
    for what in write_problems(state.path):
        do = "Make room, or mount it writable: until then nothing new is installed."
        yield Finding("state", Verdict.PROBLEM, place, what, do)
    for certificate in sorted(state.own_keys()):
        what = "Only keys made on this machine are taken, as there was one before."
        do = f"To take the agent's: internal-puller target change {certificate} --key-origin any"
        yield Finding("own-keys", Verdict.NOTE, certificate, what, do)


def target_findings(
    target: Target, settings: Settings, progress: Progress, service: Service | None = None
) -> Iterator[Finding]:
    """Go as far as an installation would before it changes anything, and look at the server.

    Args:
        service: what pulls here when nobody does by hand.
    """
    subject = f"{target.certificate} in {target.directory}"
    try:
        plan = resolve(target)
        active, aside = read_active(target), set_aside(target)
        unended = tell_unended(settings.state_directory, target)
    except RelayError as error:
        yield Finding("target", Verdict.PROBLEM, subject, error.what, error.do)
        return
    yield _directory(target, subject)
    if service is not None:
        yield from service_findings(service, target, subject)
    if target.roots is not None:
        yield Finding(
            "roots", Verdict.NOTE, subject, f"Only chains that end in {target.roots} are accepted."
        )
    if plan.remote is None:
        yield from _configuration(plan, subject)
    else:
        yield from remote_findings(plan, plan.remote, subject, _configuration)
    standing = progress.standing.get(str(target.directory))
    if standing is not None:
        yield _standing(standing, subject)
    for number, mark in aside.items():
        what = f"Generation {number} failed here and was set aside: {mark.what}"
        do = f"Mend what it names, then: internal-puller pull --retry   ({target.certificate})"
        yield Finding("set-aside", Verdict.WARNING, subject, what, do)
    if unended is not None:
        what = f"{unended[0].upper()}{unended[1:]}."
        yield Finding("target", Verdict.WARNING, subject, what, "internal-puller pull")
    if active is None:
        what = f"Nothing is installed in {target.directory} yet."
        yield Finding("installed", Verdict.NOTE, subject, what, "internal-puller pull")
    else:
        lifetime = progress.of(target.certificate).lifetime or USUAL_LIFETIME
        yield _life(active.not_after, lifetime * settings.warn_below, subject)
    yield from served_findings(plan, active, subject)


def _standing(standing: Standing, subject: str) -> Finding:
    kind = next((ERRORS[one] for one in Verdicts if one == standing.verdict), None)
    do = "internal-puller pull" if kind is None else kind.do
    return Finding("not-served", Verdict.WARNING, subject, tell(standing, time.time()), do)


def _directory(target: Target, subject: str) -> Finding:
    place = target.directory
    nearest = next(one for one in (place, *place.parents) if one.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        what = f"This user may not write to {nearest}, so nothing can be installed in {place}."
        do = "Run the puller as root; under systemd add ReadWritePaths= for that directory."
        return Finding("target", Verdict.PROBLEM, subject, what, do)
    status = os.statvfs(nearest)
    left = status.f_bavail * status.f_frsize
    if left < LITTLE_ROOM:
        what = f"{left // 2**20} MiB are left on the disk of {place}."
        return Finding("disk", Verdict.WARNING, subject, what, "Make room.")
    return Finding("target", Verdict.OK, subject, f"This user can write to {place}.")


def _configuration(plan: Plan, subject: str) -> Iterator[Finding]:
    """Run the configuration test, which changes nothing; of the reload only see that it is there.

    Whether its program exists ``resolve`` has found out.
    """
    if plan.test_command:
        try:
            result = plan.run_step("test", 0)
        except RelayError as error:
            yield Finding("configuration", Verdict.PROBLEM, subject, error.what, error.do)
            return
        command = " ".join(plan.test_command)
        if not result.ok:
            yield Finding(
                "configuration",
                Verdict.PROBLEM,
                subject,
                f"The server's configuration is not good: {command} {result.describe()}",
                "Mend it; until then no installation can be reloaded.",
            )
            return
        yield Finding("configuration", Verdict.OK, subject, f"{command} finds nothing wrong.")
    if plan.reload_command:
        yield from reload_findings(plan, subject)
    elif plan.test_command or plan.probe:
        what = "No command reloads this server: it will go on with the certificate it has read."
        name = shlex.quote(str(plan.target.directory))
        do = f"internal-puller target change {name} --preset nginx, or --reload-command"
        yield Finding("reload", Verdict.WARNING, subject, what, do)


def reload_findings(plan: Plan, subject: str) -> Iterator[Finding]:
    """Say of each server whether the command that reloads it would find its unit running."""
    for server in plan.servers:
        if not server.reload:
            continue
        command = " ".join(server.reload)
        if plan.remote is not None:
            units = [server.unit] if server.unit and not _starts(server.reload) else []
            yield reload_there(plan.remote, server.reload, units, subject)
        elif systemctl.is_there() and server.unit and not _starts(server.reload):
            yield _unit(server.unit, command, subject)
        else:
            yield Finding("reload", Verdict.OK, subject, f"{command} is there.")


def _unit(unit: str, command: str, subject: str) -> Finding:
    state = systemctl.state_of(unit)
    if state is None:
        what = f"systemctl does not say whether {unit} runs, which {command} needs."
        return Finding("reload", Verdict.UNKNOWN, subject, what, f"systemctl status {unit}")
    if state == "active":
        return Finding("reload", Verdict.OK, subject, f"{command} is there, and {unit} runs.")
    socket = f"{unit.removesuffix('.service')}.socket"
    if systemctl.state_of(socket) == "active":  # such as Cockpit's
        what = f"{command} is there; {unit} is started when a client connects."
        return Finding("reload", Verdict.OK, subject, what)
    what = f"{unit} is {state}: {command} does not start it."
    return Finding("reload", Verdict.PROBLEM, subject, what, f"systemctl status {unit}")


def _starts(argv: tuple[str, ...]) -> bool:
    """Tell whether a command of an administrator's own starts what does not run."""
    verbs = ("start", "restart", "reload-or-restart", "force-reload")
    return Path(argv[0]).name == "systemctl" and any(verb in argv for verb in verbs)


def _life(not_after: int, least: float, subject: str) -> Finding:
    left = not_after - time.time()
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(not_after))
    if left <= 0:
        what, do = f"What is installed expired at {until}.", "On the VM: external-agent status"
        return Finding("installed", Verdict.PROBLEM, subject, what, do)
    what = f"What is installed is good until {until}."
    if left < least:
        do = "See why there is no newer one: external-agent status, on the VM."
        return Finding("installed", Verdict.WARNING, subject, what, do)
    return Finding("installed", Verdict.OK, subject, what)


def timer_findings(settings: Settings) -> Iterator[Finding]:
    """Say whether anything will pull by itself, where systemd could tell."""
    found = schedule_of(settings)
    if found.pulls is None:
        could_tell = systemctl.is_there() and settings.state_directory == SERVICE_STATE
        verdict = Verdict.UNKNOWN if could_tell else Verdict.NOTE
    else:
        verdict = Verdict.OK if found.pulls else Verdict.WARNING
    yield Finding("timer", verdict, "timer", f"{found.what}.", found.do)
