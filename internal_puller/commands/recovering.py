"""``recover``: what an interrupted installation left is made whole, before the servers start."""

from __future__ import annotations

import typer

from internal_puller.install.lock import installation_lock
from internal_puller.settings.config import load_settings
from internal_puller.settings.targets import load_targets
from shared.host.terminal import explain, say

BUSY_SECONDS = 10.0
"""Waited for another installation; the boot waits for us."""


def recover(context: typer.Context) -> None:
    """Make whole what an interrupted installation left, without network; for its unit at boot.

    Nothing is reloaded or started; the next pull tells the servers and looks at what they serve.
    """
    from internal_puller.install.engine import Engine

    settings = load_settings(context.obj)
    targets = load_targets(settings.targets_file)
    with installation_lock(settings.lock, wait=BUSY_SECONDS):
        outcomes = Engine(targets, settings.state_directory, say=say).recover()
    for outcome in outcomes:
        if outcome.error is not None:
            explain(outcome.error)
        else:
            say(f"{outcome.certificate}: generation {outcome.active} is in {outcome.directory}")
    raise typer.Exit(next((each.exit_code for each in outcomes if each.error), 0))
