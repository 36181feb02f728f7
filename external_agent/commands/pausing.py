"""``pause`` and ``resume``: no attempt for a certificate, for as long as an operator wants."""

from __future__ import annotations

from typing import Annotated

import typer

from external_agent.commands.context import Context, parse_duration
from external_agent.commands.lookup import find_certificate
from external_agent.commands.show import moment
from shared.host.terminal import say

Certificate = Annotated[str, typer.Argument(help="A certificate.")]


def pause(
    context: typer.Context,
    certificate: Certificate,
    *,
    duration: Annotated[
        str | None, typer.Option("--for", help="2h, 7d …; else until resumed.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Shown in status.")] = "an operator asked for it",
) -> None:
    """Order nothing for a certificate; what is in place goes on serving."""
    own: Context = context.obj
    until = None if duration is None else own.now + parse_duration(duration, days=True)
    with own.api() as api:
        found = find_certificate(api, certificate)
        api.put("certificates", found, "pause", body={"until": until, "reason": reason})
    say(
        f"{found} is paused {'until it is resumed' if until is None else f'until {moment(until)}'}."
    )


def resume(context: typer.Context, certificate: Certificate) -> None:
    """End a pause that an operator asked for."""
    own: Context = context.obj
    with own.api() as api:
        found = find_certificate(api, certificate)
        api.delete("certificates", found, "pause")
    say(f"{found} is not paused.")
