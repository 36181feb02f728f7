"""``alerts``: who was told what, and a test that everybody can be told."""

from __future__ import annotations

from typing import Annotated

import typer

from external_agent.commands.context import Context
from external_agent.commands.show import moment, table
from external_agent.present.alerts.message import of_test
from external_agent.present.alerts.sending import send
from external_agent.present.alerts.settings import manner_of
from shared.contract.errors import ConfigurationError, TransportError
from shared.host.terminal import emit_json, say

alerts = typer.Typer(
    help="Alerts by mail, chat or webhook: who was told what, and a test.", rich_markup_mode=None
)


@alerts.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the receivers, whether messages arrive, and what each was told that still stands."""
    if context.invoked_subcommand is not None:
        return
    own: Context = context.obj
    with own.api() as api:
        rows = api.get("alerts")["items"]
    if as_json:
        emit_json(rows)
        return
    if not rows:
        _say_that_there_is_none(own)
        return
    table(
        "Receivers",
        ("receiver", "last message", "last failure", "failures", "problem"),
        [
            (
                row["receiver"],
                moment(row["last_success_at"]),
                moment(row["last_failure_at"]),
                str(row["failures"]),
                row["problem"] or "-",
            )
            for row in rows
        ],
    )
    told = [(row["receiver"], one) for row in rows for one in row["told"]]
    if told:
        table(
            "Told, and not over",
            ("receiver", "certificate", "severity", "told", "what"),
            [
                (name, one["certificate"], one["severity"], moment(one["told_at"]), one["what"])
                for name, one in told
            ],
        )


def _say_that_there_is_none(own: Context) -> None:
    names = [one.name for one in manner_of(own.settings()).receivers]
    if names:
        say(f"Nothing was to be told to {', '.join(names)} yet. Try: external-agent alerts test")
    else:
        say("There is no receiver. Set alerts.receivers_file, a file of lines NAME=URL.")


@alerts.command()
def test(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(help="Receivers; all of them.", show_default=False)
    ] = None,
) -> None:
    """Send everybody a message that says so; shows what apprise says of each."""
    own: Context = context.obj
    manner = manner_of(own.settings())
    known = {one.name: one for one in manner.receivers}
    if not known:
        raise ConfigurationError(
            "There is no receiver.", do="Set alerts.receivers_file, a file of lines NAME=URL."
        )
    for name in names or ():
        if name not in known:
            raise ConfigurationError(
                f"There is no receiver {name!r:.40}.", do=f"There are: {', '.join(known)}."
            )
    failed = []
    for name in names or known:
        sent = send(known[name], of_test(manner.language))
        say(f"{name}: {sent.problem or 'sent'}")
        for line in sent.details.splitlines():
            say(f"  {line}")
        if sent.problem:
            failed.append(name)
    if failed:
        raise TransportError(
            f"Not told: {', '.join(failed)}.",
            do="Mend the lines of the receivers' file; their form is in apprise's documentation.",
        )
