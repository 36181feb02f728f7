"""``access create``, ``list``, ``void``: tokens for the operator API."""

from __future__ import annotations

from typing import Annotated

import typer

from external_agent.commands.context import Context, one_of, parse_duration
from external_agent.commands.show import moment, table
from external_agent.facts.access import Role, check_lifetime, check_name
from shared.contract.errors import PolicyError
from shared.host.terminal import emit, emit_json, say

access = typer.Typer(
    help="Access tokens for the operator API.", no_args_is_help=True, rich_markup_mode=None
)
_ROLES = ", ".join(Role)


@access.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the audit trail calls whoever uses it.")],
    *,
    role: Annotated[str, typer.Option(help=f"{_ROLES}: each may what those before may.")] = "read",
    lifetime: Annotated[str, typer.Option(help="12h, 90d … at most 366d.")] = "90d",
) -> None:
    """Print a new access token; it is not shown again."""
    own: Context = context.obj
    wanted = {
        "name": check_name(name),
        "role": one_of(role, tuple(Role), "role"),
        "lifetime": check_lifetime(parse_duration(lifetime, days=True)),
    }
    with own.api() as api:
        made = api.post("access-tokens", body=wanted)
    say(f"Access token {name}, role {role}, until {moment(made['expires_at'])}:")
    emit(made["token"])


@access.command("list")
def list_access(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every access token; of its secret nothing is known here."""
    own: Context = context.obj
    with own.api() as api:
        rows = api.get("access-tokens")["items"]
    if as_json:
        emit_json(rows)
        return
    table(
        "Access tokens",
        ("id", "name", "role", "state", "until", "used"),
        [
            (
                row["token_id"],
                row["name"],
                row["role"],
                _state(row, own.now),
                moment(row["expires_at"]),
                moment(row["used_at"]),
            )
            for row in rows
        ],
    )


def _state(row: dict[str, int | None], now: int) -> str:
    if row["voided_at"] is not None:
        return "voided"
    return "expired" if (row["expires_at"] or 0) <= now else "active"


@access.command()
def void(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="Its name, or its id.")],
) -> None:
    """Let nobody in with it any more."""
    own: Context = context.obj
    with own.api() as api:
        rows = api.get("access-tokens")["items"]
        found = [row for row in rows if row["token_id"] == which] or [
            row for row in rows if row["name"] == which and row["voided_at"] is None
        ]
        if not found:
            raise PolicyError(
                f"There is no access token {which!r:.80}.",
                do="List them: external-agent access list.",
            )
        for row in found:
            api.delete("access-tokens", row["token_id"])
            say(f"{row['name']} ({row['token_id']}) is void.")
