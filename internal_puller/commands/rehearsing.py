"""``rehearse``: the whole way with a staging CA; what is live is not touched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from internal_puller.pull.rehearsal import failed, rehearse
from internal_puller.settings.config import load_settings
from shared.contract.errors import RelayError
from shared.contract.rehearsal import Step
from shared.host.terminal import emit, emit_json, flush, say


def rehearse_command(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="Which one; it has a target here.")],
    *,
    root: Annotated[
        Path | None, typer.Option(help="Roots of the staging CA, to verify the chain to its end.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, at the end.")] = False,
) -> None:
    """Order from a staging CA, verify, stage and test, and throw it all away.

    What is live is not touched: no generation, no link, no reload, and no CA but the staging one.
    """
    steps: list[Step] = []

    def told(step: Step) -> None:
        steps.append(step)
        if not as_json:
            emit(f"ok      {step.name:<14}{step.what}")
            flush()

    error: RelayError | None = None
    try:
        rehearse(load_settings(context.obj), certificate, told, roots=root)
    except RelayError as refused:
        error = refused
        steps.append(failed(refused))
    if as_json:
        document = {
            "good": error is None,
            "steps": [{"name": one.name, "what": one.what, "do": one.do} for one in steps],
        }
        emit_json(document)
    elif error is None:
        emit(f"{certificate}: the rehearsal went well; nothing live was touched.")
    if error is not None:
        if not as_json:
            say(f"FAILED  {error.what}", f"        {error.do}")
        raise typer.Exit(error.exit_code)
