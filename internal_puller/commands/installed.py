"""``status | rollback | verify``: what is in place here, and what is really served."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from internal_puller.commands.tables import print_table
from internal_puller.facts.status import Status, TargetStatus, read_status
from internal_puller.install.probe import probe_target
from internal_puller.install.verify import verify_active
from internal_puller.outbox.look import TROUBLE_WORDS, Answer, Look
from internal_puller.outbox.outcome import worst_code
from internal_puller.pull.puller import Puller
from internal_puller.settings.config import load_settings
from internal_puller.settings.targets import load_targets
from internal_puller.sources.direct.status import DirectStatus
from shared.contract.errors import ConfigurationError, InstallError
from shared.host.terminal import emit, emit_json, explain, say
from shared.host.watching import NEEDS_ATTENTION, watch


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    again: Annotated[
        bool, typer.Option("--watch", help="Show it again every 5 s, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what is wanted, offered, pulled, installed and really served.

    Exits with 13 if something needs a person, and with 3 if a target cannot be used; the others
    are shown all the same.
    """
    if as_json and again:
        raise ConfigurationError("--json and --watch do not go together.", do="Leave one out.")
    settings = load_settings(context.obj)

    def show() -> int:
        facts = read_status(settings)
        if as_json:
            emit_json(dataclasses.asdict(facts))
        else:
            _print_status(facts)
        if facts.unusable:
            return ConfigurationError.exit_code
        return NEEDS_ATTENTION if facts.attention else 0

    raise typer.Exit(watch(show) if again else show())


def _print_status(facts: Status) -> None:
    _print_head(facts)
    for one in facts.attention:
        emit(f"needs attention: {one}")
    if facts.attention:
        emit()
    rows = [
        (
            one.certificate,
            one.origin,
            str(one.offered or "-"),
            str(one.pulled or "-"),
            _installed(target),
            _served(target),
            _until(target),
        )
        for one in facts.certificates
        for target in one.targets or (None,)
    ]
    titles = ("certificate", "from", "offered", "pulled", "installed", "served", "expires")
    print_table(titles, rows)
    if facts.schedule.pulls is None:
        emit("", f"{facts.schedule.what}; {facts.schedule.do}")
    _print_troubles(facts)


def rollback(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="Whose earlier generation to bring back.")],
    to: Annotated[int | None, typer.Option(help="The generation; else the one before.")] = None,
) -> None:
    """Bring an earlier generation back; the one that is left is not installed again by itself."""
    puller = Puller(load_settings(context.obj))
    try:
        report = puller.roll_back(certificate, to)
    finally:
        puller.close()
    for outcome in report.outcomes:
        if outcome.error is None:
            emit(f"{certificate}: generation {outcome.generation} is back in {outcome.directory}")
        else:
            explain(outcome.error)
    if report.contact is not None:
        say(f"The receipt waits: {report.contact.what}")
    raise typer.Exit(worst_code(one.exit_code for one in report.outcomes))


def verify(context: typer.Context) -> None:
    """Check the files in place, and that the live servers serve them; exit 9 if not."""
    targets = load_targets(load_settings(context.obj).targets_file)
    if not targets:
        raise ConfigurationError("There is no target.", do="Add one: internal-puller target add.")
    good = True
    for target in targets:
        found = verify_active(target)
        served = probe_target(target)
        problems = [*found.problems, *_not_as_in_place(served, found.leaf_sha256)]
        for problem in problems:
            say(f"{target.certificate} in {target.directory}: {problem}")
        if not problems:
            emit(
                f"{target.certificate} in {target.directory}: generation {found.generation} is "
                f"complete and as served, until {_day(found.not_after or 0)}"
            )
        good = good and not problems
    raise typer.Exit(0 if good else InstallError.exit_code)


def _not_as_in_place(looks: tuple[Look, ...], leaf_sha256: str | None) -> Iterator[str]:
    """Say of each look what keeps it from being what is in place, served as it should be."""
    for one in looks:
        if one.answer is Answer.NOT_KNOWN:
            yield f"cannot be seen from here: {one.describe()}"
        elif one.leaf_sha256 != leaf_sha256:
            yield f"not served: {one.describe()}"
        elif one.trouble is not None:
            yield f"{one.spot}: {TROUBLE_WORDS[one.trouble]}"


def _print_head(facts: Status) -> None:
    if not facts.agent:
        emit("no agent: this machine asks the CA itself", "")
        return
    now = time.time()
    checks = {
        "pin": "its TLS key is the pinned one",
        "roots": "its TLS certificate verifies against known roots (a proxy may have opened it)",
        "none": "no TLS, on loopback",
    }
    contact = _ago(now - facts.last_contact) if facts.last_contact else "never"
    emit(
        f"agent {facts.agent[:16]}… at {facts.relay_url}; "
        f"{checks.get(facts.tls_check, 'not reached yet')}",
        f"last contact: {contact}; clock difference: {facts.clock_difference} s",
        "",
    )


def _print_troubles(facts: Status) -> None:
    if facts.error is not None:
        emit("", f"agent: {facts.error.what}")
    for one in facts.certificates:
        if one.direct is not None:
            _print_direct(one.certificate, one.direct)
        if one.error is not None:
            emit("", f"{one.certificate}: {one.error.what}")
        if one.waits_for:
            emit("", f"{one.certificate}: waits for {one.waits_for}")
        if one.receipt_waiting:
            emit("", f"{one.certificate}: a receipt waits to be delivered")
        for target in one.targets:
            if target.error is not None:
                emit("", f"{one.certificate} in {target.directory}: {target.error}")
            for number, reason in target.set_aside.items():
                emit("", f"{target.directory}: generation {number} set aside: {reason}")


def _print_direct(certificate: str, one: DirectStatus) -> None:
    when = "now" if not one.next_renewal else f"{_minute(one.next_renewal)} UTC"
    if one.unfinished:
        emit("", f"{certificate}: an order is under way")
    emit("", f"{certificate}: next order {when}: {one.why}")
    if one.explanation_url:
        emit(f"  the CA explains: {one.explanation_url}")
    for name, until in one.persist_until.items():
        days = (until - int(time.time())) // 86400
        emit(f"  the record of {name} ends at {_day(until)}, in {days} d")
    if one.error is not None:
        emit(f"  last error: {one.error.what}")


def _minute(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(moment))


def _installed(target: TargetStatus | None) -> str:
    if target is None:
        return "no target"
    return "UNUSABLE" if target.error else str(target.installed or "-")


def _served(target: TargetStatus | None) -> str:
    if target is None or (target.served_matches is None and not target.looks):
        return "-"
    if target.served_matches:
        return "yes"
    answer = "not known" if target.served_matches is None else "NO"
    seen = ", ".join(one.describe() for one in target.looks)
    return f"{answer}: {seen}" if seen else answer


def _until(target: TargetStatus | None) -> str:
    return _day(target.not_after) if target and target.not_after else "-"


def _day(moment: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"
