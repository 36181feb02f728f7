"""``doctor``: why something does not work, seen from here and, through the relay, from outside."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from internal_puller.doctor.doctor import diagnose
from internal_puller.settings.config import load_settings
from shared.contract.diagnosis import is_healthy
from shared.host.diagnosis_text import show_diagnosis, summary
from shared.host.terminal import emit_json
from shared.host.watching import NEEDS_ATTENTION


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is well, not only what is not.")
    ] = False,
) -> None:
    """Find out why something does not work, here and at the agent; exit 13 if something does not.

    Changes nothing. The configuration tests of the servers are run, and nothing is reloaded.
    """
    found = diagnose(load_settings(context.obj))
    if as_json:
        document = {
            "healthy": is_healthy(found.findings),
            "summary": summary(found.findings),
            **dataclasses.asdict(found),
        }
        emit_json(document)
    else:
        sections = [(f"this machine, {found.puller.host}", found.puller.findings)]
        if found.together:
            sections.insert(0, ("inside and outside together", found.together))
        if found.agent is not None:
            sections.append((f"the agent, {found.agent.host}", found.agent.findings))
        show_diagnosis(sections, everything=everything)
    raise typer.Exit(0 if is_healthy(found.findings) else NEEDS_ATTENTION)
