"""``discover``: reads what the servers here are set up to do, and proposes targets."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Annotated

import typer

from internal_puller.commands.tables import print_table
from internal_puller.discovery import apache, haproxy, nginx
from internal_puller.discovery.proposal import Proposal, propose
from internal_puller.discovery.site import Site
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.targets import load_targets
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ConfigurationError, RelayError
from shared.contract.wire import Grant
from shared.host.commands import SEARCH_PATH
from shared.host.terminal import emit, emit_json, explain

SERVERS = ("nginx", "apache", "haproxy")


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
        raise ConfigurationError(
            f"{server!r:.40} is none of {', '.join(SERVERS)}.", do="Name one of them, or none."
        )
    if config is not None and server is None:
        raise ConfigurationError("--config is of one server.", do="Name it before.")
    settings = load_settings(context.obj)
    found, problems = list[Site](), list[RelayError]()
    for name in SERVERS if server is None else (server,):
        if server is None and not _is_here(name):
            continue
        try:
            found += _sites(name, config)
        except ConfigurationError as error:
            problems.append(error)
    targets = load_targets(settings.targets_file)
    proposals = propose(found, targets, _granted(settings), settings.targets_file.parent)
    if as_json:
        rows = [dataclasses.asdict(one) for one in proposals]
        emit_json(rows)
    else:
        _show(proposals)
    for problem in problems:
        explain(problem)
    raise typer.Exit(ConfigurationError.exit_code if problems else 0)


def _is_here(name: str) -> bool:
    program = {"apache": "apachectl"}.get(name, name)
    return shutil.which(program, path=SEARCH_PATH) is not None


def _sites(name: str, config: Path | None) -> list[Site]:
    if name == "nginx":
        return nginx.sites(("nginx", "-T", *(("-c", str(config)) if config else ())))
    if name == "apache":
        if config is None:
            return apache.sites()
        program = "apache2" if shutil.which("apache2", path=SEARCH_PATH) else "httpd"
        return apache.sites((program, "-f", str(config), "-t", "-D", "DUMP_VHOSTS"))
    return haproxy.sites(config or haproxy.CONFIGURATION)


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
