"""``external-agent``: the command line, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from external_agent.commands import (
    backups,
    certificates,
    doctor,
    pausing,
    pullers,
    revoking,
    running,
    setup,
    status,
)
from external_agent.commands.access import access
from external_agent.commands.accounts import account
from external_agent.commands.alerts import alerts
from external_agent.commands.context import context_for
from external_agent.commands.dns_persist import dns_persist
from external_agent.commands.events import events
from external_agent.settings.config import CONFIG_VARIABLE
from shared.contract.errors import RelayError
from shared.host.terminal import explain, guard

app = typer.Typer(
    name="external-agent",
    help="The Internet side of split-horizon-relay: gets certificates, hands them out sealed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in a help text are brackets
    epilog="Exit codes: 0 done, 2 usage, 3 configuration, 4 not allowed, 5 enrolment, "
    "6 issuance, 7 transport or clock, 11 database, 13 something needs attention (status, doctor); "
    "anything else is an error of ours.",
)
app.command()(setup.init)
app.command()(certificates.add)
app.command()(running.serve)
app.command()(status.status)
app.command()(doctor.doctor)
app.command()(certificates.token)
app.command()(certificates.renew)
app.command()(certificates.change)
app.command()(certificates.remove)
app.command()(revoking.revoke)
app.command()(pausing.pause)
app.command()(pausing.resume)
app.command()(backups.backup)
app.command()(backups.restore)
app.add_typer(pullers.puller, name="puller")
app.add_typer(dns_persist, name="dns-persist")
app.add_typer(account, name="account")
app.add_typer(access, name="access")
app.add_typer(alerts, name="alerts")
app.add_typer(events, name="events")


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar=CONFIG_VARIABLE, help="The settings file.")
    ] = None,
) -> None:
    context.obj = context_for(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a known error is explained without a traceback."""
    guard()
    try:
        app(args=None if arguments is None else list(arguments))
    except RelayError as error:
        explain(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
