"""``pull`` and ``run``: once for a timer, or to stay."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from internal_puller.pull.lean_pull import PullOptions, run_pull
from internal_puller.settings.config import load_settings
from shared.host.terminal import log_to_stderr


def pull(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Say what happened as JSON.")] = False,
    retry: Annotated[
        bool,
        typer.Option(
            help="Try again what failed here before, and look at once at what was not seen served."
        ),
    ] = False,
) -> None:
    """Fetch and install what is new, once; quiet when nothing is. For a timer."""
    raise typer.Exit(run_pull(PullOptions(context.obj, as_json, retry)))


def run(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option(help="Log each step.")] = False,
) -> None:
    """Stay, and install within seconds of issuance. SIGHUP reads settings and targets again."""
    from internal_puller.pull.daemon import Daemon

    settings = load_settings(context.obj)
    time_stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    log_to_stderr(
        logging.DEBUG if verbose else logging.INFO, time_stamp + "%(levelname)s %(message)s"
    )
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("internal_puller").info("state in %s", settings.state_directory)
    Daemon(lambda: load_settings(context.obj)).run()
