"""``internal-puller``: its commands put together, and errors turned into exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from internal_puller.commands import (
    direct,
    direct_account,
    direct_init,
    direct_persist,
    discovering,
    doctor,
    enrolling,
    installed,
    pulling,
    recovering,
    rehearsing,
    serving,
    target_change,
    target_remove,
    targets,
)
from internal_puller.settings.config import CONFIG_VARIABLE
from shared.contract.errors import RelayError
from shared.host.terminal import explain

app = typer.Typer(
    name="internal-puller",
    help="The intranet side of split-horizon-relay: fetches certificates, outward only, and "
    "installs them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in a help text are brackets
    epilog="Exit codes: 0 done or nothing new, 2 usage, 3 configuration, 4 not allowed, "
    "5 enrolment, 6 no certificate from the CA for now (direct mode), 7 agent not reached or clock "
    "wrong, 8 bundle refused, 9 what a new certificate made worse is undone, or it is in place and "
    "not seen to be served, 10 another pull is at work, 12 roll-back "
    "failed: look at the server now, 13 a certificate comes near its end and there is no newer "
    "one, or status or doctor found something that needs a person; anything else is an error of "
    "ours.",
)
app.command()(enrolling.enroll)
targets.target.command("add")(targets.add)
targets.target.command("change")(target_change.change)
targets.target.command("list")(targets.list_targets)
targets.target.command("remove")(target_remove.remove)
app.add_typer(targets.target, name="target")
direct.direct.command()(direct_init.init)
direct.direct.command()(direct.add)
direct.direct.command("list")(direct.list_direct)
direct.direct.command()(direct.renew)
direct.direct.command()(direct.remove)
direct.direct.command()(direct.revoke)
direct.direct.add_typer(direct_persist.dns_persist, name="dns-persist")
direct.direct.add_typer(direct_account.account, name="account")
app.add_typer(direct.direct, name="direct")
app.command()(discovering.discover)
app.command()(pulling.pull)
app.command()(pulling.run)
app.command()(installed.status)
app.command()(doctor.doctor)
app.command("rehearse")(rehearsing.rehearse_command)
app.command()(installed.rollback)
app.command()(installed.verify)
app.command()(recovering.recover)
app.command("serve-commands")(serving.serve_commands)
app.command("serve-mounts")(serving.serve_mounts)


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar=CONFIG_VARIABLE, help="The settings file, puller.toml.")
    ] = None,
) -> None:
    context.obj = config


def run() -> int:
    """Run one command; a known error is explained without a traceback."""
    try:
        app()
    except RelayError as error:
        explain(error)
        return error.exit_code
    return 0
