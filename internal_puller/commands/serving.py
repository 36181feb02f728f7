"""``serve-commands`` and ``serve-mounts``: what root does for the service, which is not root."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from internal_puller.install import as_root, mounts
from internal_puller.install.presets import resolve
from internal_puller.settings.config import load_settings
from internal_puller.settings.targets import load_targets
from shared.contract.errors import ConfigurationError
from shared.host.commands import CommandResult
from shared.host.terminal import explain, say

_STANDARD_INPUT = 0


def serve_commands(context: typer.Context) -> None:
    """Run one command of a target, asked for on standard input; for its unit alone."""

    def run(directory: Path, step: str, generation: int) -> CommandResult:
        # To root, a file that names commands is readable only if root alone could have written it.
        targets = load_targets(load_settings(context.obj).targets_file)
        found = [one for one in targets if one.directory == directory]
        if not found:
            raise ConfigurationError(f"There is no target in {directory}.")
        plan = resolve(found[0])
        if not plan.command(step) or plan.remote is not None:
            raise ConfigurationError(f"The target in {directory} has no {step} command here.")
        command = " ".join(plan.command(step))
        result = plan.run_step(step, generation)
        say(f"{found[0].certificate}: {command} {result.describe()}")
        return result

    try:
        told = as_root.answer(as_root.read_request(_STANDARD_INPUT), run)
    except ConfigurationError as error:
        told = as_root.refusal(error)
    sys.stdout.buffer.write(told)


def serve_mounts(context: typer.Context) -> None:
    """Tell which generations of the targets are mounted by any process; for its unit alone."""
    try:
        targets = load_targets(load_settings(context.obj).targets_file)
        told = mounts.answer(targets)
    except ConfigurationError as error:
        explain(error)
        told = mounts.NOT_KNOWN
    sys.stdout.buffer.write(told)
