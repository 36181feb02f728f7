"""``puller list``, ``revoke``, ``confirm``."""

from __future__ import annotations

from typing import Annotated

import typer

from external_agent.commands.context import Context, emit_json, find_puller, say
from external_agent.commands.show import show_pullers

puller = typer.Typer(
    help="The machines that fetch certificates.", no_args_is_help=True, rich_markup_mode=None
)
Which = Annotated[str, typer.Argument(help="Host name, or the beginning of the id.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@puller.command("list")
def list_pullers(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every puller, what it may fetch, and when it was seen last."""
    own: Context = context.obj
    with own.store(own.settings()) as store:
        rows = store.pullers()
        grants = {row.id: store.grants(row.id) for row in rows}
    if not as_json:
        if not rows:
            say("No puller is enrolled yet: external-agent token NAME prints a token for one.")
        show_pullers(rows, grants, own.now)
        return
    emit_json(
        [
            {
                "id": row.id,
                "sealing_id": row.sealing_id,
                "host": row.host,
                "status": str(row.status),
                "enrolled_at": row.enrolled_at,
                "last_seen_at": row.last_seen_at,
                "certificates": list(grants[row.id]),
            }
            for row in rows
        ]
    )


@puller.command()
def revoke(context: typer.Context, which: Which) -> None:
    """Hand nothing to it any more; certificates sealed to it get a new key and generation."""
    own: Context = context.obj
    with own.store(own.settings()) as store:
        found = find_puller(store, which)
        store.revoke_puller(found, now=own.now)
        say(f"{found[:12]} is revoked; what was sealed to it is renewed with a new key.")


@puller.command()
def confirm(context: typer.Context, which: Which) -> None:
    """End a suspension, after its token was offered by other keys and you found out why."""
    own: Context = context.obj
    with own.store(own.settings()) as store:
        found = find_puller(store, which)
        store.confirm_puller(found, now=own.now)
        say(f"{found[:12]} is active again.")
