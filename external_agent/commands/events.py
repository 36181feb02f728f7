"""``events``: the audit trail, shown, checked, and given out for another machine to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from external_agent.commands.context import Context
from external_agent.commands.show import show_events
from external_agent.facts.audit import Chain
from external_agent.records.rows import EventRow, TamperedEvent, TrailEnd
from external_agent.store.interface import Store
from shared.contract.errors import ConfigurationError, StoreError
from shared.host.terminal import emit, emit_json, say

events = typer.Typer(
    help="The audit trail; every entry holds the hash of the one before.", rich_markup_mode=None
)
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
_PAGE = 1000


@events.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the audit trail; every entry holds the hash of the one before."""
    if context.invoked_subcommand is not None:
        return
    own: Context = context.obj
    with own.api() as api:
        pages = api.pages("events", cursor="before", limit=min(limit, 200))
        rows = list(islice(pages, limit))[::-1]
    if as_json:
        emit_json(rows)
    else:
        show_events(rows)


@events.command()
def verify(
    context: typer.Context,
    *,
    known: Annotated[
        str | None,
        typer.Option(help="An end noted down earlier, NUMBER:HASH; the chain has to lead there."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Check what events export wrote, not the database.")
    ] = None,
) -> None:
    """Check the whole chain, and print its end to note down elsewhere."""
    own: Context = context.obj
    wanted = None if known is None else _parse_end(known)
    if file is not None:
        broken, end = _verify_file(file, wanted)
    else:
        with own.store(own.settings()) as store:
            broken, end = store.verify_events(wanted), store.trail_end()
    if broken is not None:
        raise StoreError(
            f"The audit trail was changed at entry {broken.seq}: {broken.what}.",
            do="Compare with a backup or an export; somebody wrote to it by hand.",
        )
    say("The audit trail is whole.")
    emit(f"{end.seq}:{end.hash}")


@events.command()
def export(
    context: typer.Context,
    after: Annotated[int, typer.Option(min=0, help="Only entries above this number.")] = 0,
) -> None:
    """Write the whole trail, one JSON object a line, oldest first, with every hash."""
    own: Context = context.obj
    with own.store(own.settings()) as store:
        for row in _pages(store, after):
            emit(json.dumps(asdict(row), sort_keys=True))


def _pages(store: Store, after: int) -> Iterator[EventRow]:
    while page := store.events(after=after, limit=_PAGE):
        yield from page
        after = page[-1].seq


def _parse_end(text: str) -> TrailEnd:
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(digest) == 64):
        raise ConfigurationError(
            f"{text!r:.90} is no end of an audit trail.",
            do="Give what external-agent events verify printed: NUMBER:HASH.",
        )
    return TrailEnd(int(number), digest)


def _verify_file(file: Path, known: TrailEnd | None) -> tuple[TamperedEvent | None, TrailEnd]:
    """Walk an export; its first entry may have any number, for it may begin anywhere."""
    try:
        lines = file.read_text("utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        chain = Chain(int(entries[0]["seq"]) - 1, str(entries[0]["previous_hash"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"{file} cannot be read as an audit trail: {type(error).__name__}.",
            do="Give a file that external-agent events export wrote.",
        ) from error
    met = known is None
    for entry in entries:
        fault = chain.fault(entry) if isinstance(entry, dict) else "its content is not readable"
        if fault is not None:
            return TamperedEvent(chain.seq + 1, fault), TrailEnd(chain.seq, chain.previous)
        met = met or TrailEnd(chain.seq, chain.previous) == known
    end = TrailEnd(chain.seq, chain.previous)
    if not met and known is not None:
        return TamperedEvent(known.seq, "the chain does not lead through the known one"), end
    return None, end
