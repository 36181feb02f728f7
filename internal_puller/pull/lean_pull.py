"""``internal-puller pull`` as a timer runs it: no command line library, quiet when nothing is new.

    pull [--config FILE] [--json] [--retry]

Anything else on the line is left to the whole command line.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.report import PullReport
from shared.contract.errors import RelayError
from shared.host.terminal import emit, emit_json, explain, progress, say


@dataclass(slots=True)
class PullOptions:
    config: Path | None = None
    as_json: bool = False
    retry: bool = False


def parse(arguments: Sequence[str]) -> PullOptions | None:
    """Return the options of a plain ``pull``, or ``None`` if the line is anything else."""
    options = PullOptions()
    command = None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--config":
            options.config = Path(next(rest, ""))
        elif command is None and argument == "pull":
            command = argument
        elif command is not None and argument == "--json":
            options.as_json = True
        elif command is not None and argument == "--retry":
            options.retry = True
        else:
            return None
    return options if command and options.config != Path() else None


def run_pull(options: PullOptions) -> int:
    """Pull once, print what happened, and return the exit code."""
    from internal_puller.pull.puller import Puller
    from internal_puller.settings.config import load_settings

    say = progress()
    try:
        puller = Puller(load_settings(options.config), say=say)
        try:
            report = puller.pull(retry=options.retry)
        finally:
            puller.close()
    except RelayError as error:
        if options.as_json:
            report = PullReport(contact=error)
            print_report(report, as_json=True)
        else:
            explain(error)
        return error.exit_code
    finally:
        say("")
    print_report(report, as_json=options.as_json)
    return report.exit_code


def print_report(report: PullReport, *, as_json: bool) -> None:
    """One line for each target that was worked on; failures go to standard error.

    What stands as it was is one line: a timer's mail names it each time, and explains it once.
    """
    if as_json:
        emit_json(report.members())
        return
    for outcome in report.outcomes:
        if outcome.error is None:
            emit(describe(outcome))
        else:
            explain(outcome.error)
    for one in report.standing:
        say(one.error.what if one.error else one.certificate)
    for certificate in report.csrs_left:
        emit(f"{certificate}: a CSR for the next generation was left with the agent")
    if report.contact is not None:
        explain(report.contact)
    for warning in report.warnings:
        say(f"warning: {warning}")


def describe(outcome: Outcome) -> str:
    """Return one line about a certificate that was installed."""
    until = time.strftime("%Y-%m-%d", time.gmtime(outcome.not_after))
    seen = ", ".join(f"{one.address} port {one.port}" for one in outcome.looks)
    return (
        f"{outcome.certificate}: generation {outcome.generation} installed in {outcome.directory}, "
        f"valid until {until}{f'; served at {seen}' if seen else ''}"
    )
