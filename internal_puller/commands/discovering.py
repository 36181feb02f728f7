"""``discover``: reads what the servers here are set up to do, and proposes targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from internal_puller.commands.tables import print_table
from internal_puller.discovery.proposal import Proposal, propose
from internal_puller.discovery.servers import READERS, here
from internal_puller.discovery.site import Site
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.presets.catalogue import BUILT_IN
from internal_puller.settings.presets.preset import Preset
from internal_puller.settings.targets import Target, load_targets
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ConfigurationError, RelayError
from shared.contract.wire import Grant
from shared.host.terminal import emit, emit_json, explain

SERVERS = tuple(READERS)


def discover(
    context: typer.Context,
    server: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(SERVERS)}; else whatever is here.")
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option(help="That server's main configuration file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Propose targets for the servers here, with the lines to change. Changes nothing."""
    if server is not None and server not in SERVERS:
        raise _not_read(server)
    if config is not None and server is None:
        raise ConfigurationError("--config is of one server.", do="Name it before.")
    settings = load_settings(context.obj)
    found, problems = list[Site](), list[RelayError]()
    installed = list(here())
    names = [one.name for one in installed] if server is None else [server]
    for read in (READERS[name] for name in names if name in READERS):
        try:
            found += read(config)
        except ConfigurationError as error:
            problems.append(error)
    targets = load_targets(settings.targets_file)
    proposals = propose(found, targets, _granted(settings), settings.targets_file.parent)
    if as_json:
        rows = [dataclasses.asdict(one) for one in proposals]
        emit_json(rows)
    else:
        _show(proposals)
        if server is None:
            _show_others(installed, targets)
    for problem in problems:
        explain(problem)
    raise typer.Exit(ConfigurationError.exit_code if problems else 0)


def _not_read(server: str) -> ConfigurationError:
    preset = BUILT_IN.find(server)
    return ConfigurationError(
        f"The configuration of {preset.title} is not read: {preset.undiscovered}.",
        do=f"internal-puller target add NAME --preset {server}; or name one of "
        f"{', '.join(SERVERS)}.",
    )


def _granted(settings: Settings) -> tuple[Grant, ...]:
    try:
        enrolment = StateDirectory.open(settings.state_directory).enrolment()
    except ConfigurationError:
        return ()  # not enrolled yet: that is when one looks what there is
    return () if enrolment is None else enrolment.granted


def _show(proposals: list[Proposal]) -> None:
    if not proposals:
        emit("No server here was found to do TLS.")
        return
    print_table(
        ("server", "names", "certificate now", "state"),
        [
            (
                one.site.preset,
                ", ".join(one.site.names) or "-",
                one.site.certificate.value,
                one.state,
            )
            for one in proposals
        ],
    )
    for one in proposals:
        if not one.changes:
            continue
        emit("", f"# {one.site.preset}: {', '.join(one.site.names)}")
        if one.ask:
            emit(f"on the VM:  {one.ask}")
        if one.command:
            emit(f"{one.command}")
        for change in one.changes:
            emit(f"{change.file}:{change.line}")
            emit(f"  - {change.old}", f"  + {change.new}")
        for note in one.site.notes:
            emit(f"  note: {note}")
    emit("", "First: internal-puller pull. Then change the lines, and reload the server by hand.")


def _show_others(installed: Sequence[Preset], targets: Sequence[Target]) -> None:
    """Say of what is here, and is not read, how it gets a certificate."""
    taken = {preset.name for one in targets for preset in one.presets}
    others = [one for one in installed if one.undiscovered and one.name not in taken]
    if others:
        emit("", "Also here; their configuration is not read:")
    for preset in others:
        emit(f"  {preset.title}: internal-puller target add NAME --preset {preset.name}")
