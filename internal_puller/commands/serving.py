"""``serve-commands``: runs the commands of the targets for the service, which is not root."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from internal_puller.install import as_root
from internal_puller.install.presets import resolve
from internal_puller.settings.config import load_settings
from internal_puller.settings.targets import load_targets
from shared.contract.errors import ConfigurationError
from shared.host.commands import CommandResult


def serve_commands(context: typer.Context) -> None:
    """Run one command of a target, asked for on standard input; for its unit alone."""
    request = sys.stdin.buffer.read(as_root.MAX_REQUEST + 1)

    def run(directory: Path, step: str, generation: int) -> CommandResult:
        targets = load_targets(load_settings(context.obj).targets_file)
        found = [one for one in targets if one.directory == directory]
        if not found:
            raise ConfigurationError(f"There is no target in {directory}.")
        plan = resolve(found[0])
        if not plan.command(step) or plan.remote is not None:
            raise ConfigurationError(f"The target in {directory} has no {step} command here.")
        command = " ".join(plan.command(step))
        result = plan.run_step(step, generation)
        sys.stderr.write(f"{found[0].certificate}: {command} {result.describe()}\n")
        return result

    sys.stdout.buffer.write(as_root.answer(request, run))
