"""``doctor``: why something does not work, as the Internet side sees it."""

from __future__ import annotations

from typing import Annotated

import typer

from external_agent.commands.context import Context
from external_agent.commands.lookup import find_certificate
from shared.contract.diagnosis import Finding, Verdict
from shared.host.diagnosis_text import show_diagnosis
from shared.host.terminal import emit_json, say
from shared.host.watching import NEEDS_ATTENTION


def doctor(
    context: typer.Context,
    certificates: Annotated[
        list[str] | None, typer.Argument(help="Only these.", show_default=False)
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is well, not only what is not.")
    ] = False,
) -> None:
    """Find out why something does not work; exit 13 if something does not. Changes nothing.

    Beside it stands what the pullers found when internal-puller doctor was run there last.
    """
    own: Context = context.obj
    with own.api() as api:
        wanted = [find_certificate(api, text) for text in certificates or ()]
        if not as_json:
            say("Looking at the DNS, the CA and this machine; it may take half a minute …")
        found = api.post("doctor", body={"certificates": wanted})
    if as_json:
        emit_json(found)
    else:
        sections: dict[str, list[Finding]] = {}
        for row in found["findings"]:
            heading = {
                "both": f"inside and outside together, {row['host']}",
                "agent": f"this machine, {row['host']}",
                "puller": f"the puller {row['host']}, when it looked last",
            }[row["side"]]
            finding = Finding(
                row["check"], Verdict(row["verdict"]), row["subject"], row["what"], row["do"]
            )
            sections.setdefault(heading, []).append(finding)
        show_diagnosis(sections.items(), everything=everything)
    raise typer.Exit(0 if found["healthy"] else NEEDS_ATTENTION)
