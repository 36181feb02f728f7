"""``puller list``, ``grant``, ``withdraw``, ``suspend``, ``confirm``, ``revoke``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from external_agent.commands.context import Context
from external_agent.commands.lookup import find_certificate, find_puller
from external_agent.commands.show import show_pullers
from shared.host.terminal import emit_json, say

puller = typer.Typer(
    help="The machines that fetch certificates.", no_args_is_help=True, rich_markup_mode=None
)
Which = Annotated[str, typer.Argument(help="Host name, or the beginning of the id.")]
Certificate = Annotated[str, typer.Argument(help="A certificate.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
_SHOWN = ("sealing_id", "host", "status", "enrolled_at", "last_seen_at", "certificates")


@puller.command("list")
def list_pullers(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every puller, what it may fetch, and when it was seen last."""
    own: Context = context.obj
    with own.api() as api:
        found = [_row(one) for one in api.pages("pullers", limit=200)]
    rows = sorted(found, key=lambda one: (one["enrolled_at"], one["id"]))
    if as_json:
        emit_json(rows)
        return
    if not rows:
        say("No puller is enrolled yet: external-agent token NAME prints a token for one.")
    show_pullers(rows, own.now)


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {"id": one["puller"]} | {name: one[name] for name in _SHOWN}


@puller.command()
def grant(context: typer.Context, which: Which, certificate: Certificate) -> None:
    """Let it fetch one more certificate; one that is sealed gets a generation that it can open."""
    own: Context = context.obj
    with own.api() as api:
        found, wanted = find_puller(api, which), find_certificate(api, certificate)
        api.put("pullers", found, "grants", wanted)
    say(f"{found[:12]} may fetch {wanted}; it needs a target for it.")


@puller.command()
def withdraw(context: typer.Context, which: Which, certificate: Certificate) -> None:
    """Take a grant back; what was sealed to it is renewed with a new key."""
    own: Context = context.obj
    with own.api() as api:
        found, wanted = find_puller(api, which), find_certificate(api, certificate)
        api.delete("pullers", found, "grants", wanted)
    say(f"{found[:12]} may not fetch {wanted}.")


@puller.command()
def suspend(
    context: typer.Context,
    which: Which,
    reason: Annotated[str, typer.Option(help="For the trail.")] = "an operator asked for it",
) -> None:
    """Hand nothing to it until it is confirmed."""
    own: Context = context.obj
    with own.api() as api:
        found = find_puller(api, which)
        api.post("pullers", found, "suspend", body={"reason": reason})
    say(f"{found[:12]} is suspended until: external-agent puller confirm {found[:12]}")


@puller.command()
def revoke(context: typer.Context, which: Which) -> None:
    """Hand nothing to it any more; certificates sealed to it get a new key and generation."""
    own: Context = context.obj
    with own.api() as api:
        found = find_puller(api, which)
        api.post("pullers", found, "revoke")
    say(f"{found[:12]} is revoked; what was sealed to it is renewed with a new key.")


@puller.command()
def confirm(context: typer.Context, which: Which) -> None:
    """End a suspension, after its token was offered by other keys and you found out why."""
    own: Context = context.obj
    with own.api() as api:
        found = find_puller(api, which)
        api.post("pullers", found, "confirm")
    say(f"{found[:12]} is active again.")
