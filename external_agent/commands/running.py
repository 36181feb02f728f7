"""``external-agent serve``; what only a running agent needs is imported when one runs."""

from __future__ import annotations

import typer

from external_agent.commands.context import Context


def serve(context: typer.Context) -> None:
    """Run the agent: answer challenges, order certificates, serve pullers. Stop with SIGTERM."""
    from external_agent.composition.process import (
        run,  # web servers and ACME: half a second of imports
    )

    own: Context = context.obj
    run(own.settings, own.store)
