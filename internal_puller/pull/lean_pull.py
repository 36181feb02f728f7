"""``internal-puller pull`` as a timer runs it: no command line library, quiet when nothing is new.

    pull [--config FILE] [--json] [--retry]

Anything else on the line is left to the whole command line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from internal_puller.outbox.report import CertificateOutcome, PullReport
from shared.contract.errors import RelayError


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

    say = _progress(sys.stderr)
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
            sys.stderr.write(error.explain() + "\n")
        return error.exit_code
    finally:
        say("")
    print_report(report, as_json=options.as_json)
    return report.exit_code


def _progress(stream: TextIO) -> Callable[[str], None]:
    """Return what shows the step at hand on a terminal, in one line that is wiped at the end."""
    if not stream.isatty():
        return lambda text: None

    def say(text: str) -> None:
        stream.write(f"\r\x1b[K{text[:200]}")
        stream.flush()

    return say


def print_report(report: PullReport, *, as_json: bool) -> None:
    """One line for each certificate that was worked on; failures go to standard error."""
    if as_json:
        sys.stdout.write(json.dumps(report.members(), indent=2) + "\n")
        return
    for outcome in report.outcomes:
        if outcome.error is None:
            sys.stdout.write(describe(outcome) + "\n")
        else:
            sys.stderr.write(outcome.error.explain() + "\n")
    for certificate in report.csrs_left:
        sys.stdout.write(f"{certificate}: a CSR for the next generation was left with the agent\n")
    if report.contact is not None:
        sys.stderr.write(report.contact.explain() + "\n")
    for warning in report.warnings:
        sys.stderr.write(f"warning: {warning}\n")


def describe(outcome: CertificateOutcome) -> str:
    """Return one line about a certificate that was installed."""
    until = time.strftime("%Y-%m-%d", time.gmtime(outcome.not_after))
    where = ", ".join(outcome.directories)
    served = f"; served at {', '.join(outcome.served)}" if outcome.served else ""
    return (
        f"{outcome.certificate}: generation {outcome.generation} installed in {where}, "
        f"valid until {until}{served}"
    )
