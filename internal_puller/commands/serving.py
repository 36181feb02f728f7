"""``serve-commands`` and ``serve-mounts``: what root does for the service, which is not root."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from internal_puller.install import as_root, local_socket, mounts
from internal_puller.install.perform import Answer, Step, perform
from internal_puller.install.presets import resolve
from internal_puller.settings.config import load_settings
from internal_puller.settings.targets import load_targets
from shared.contract.errors import ConfigurationError
from shared.host.terminal import explain, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from internal_puller.install.presets import Plan
    from internal_puller.install.server import Server
    from internal_puller.settings.targets import Target

_STANDARD_INPUT = 0


def serve_commands(context: typer.Context) -> None:
    """Perform one step of a server, asked for on standard input; for its unit alone."""

    def run(request: as_root.Request) -> Answer:
        # To root, a file that names commands is readable only if root alone could have written it.
        targets = load_targets(load_settings(context.obj).targets_file)
        known = {target.directory: target for target in targets}
        plans = [_plan(known, directory) for directory, _ in request.members]
        server = _server(request.server, plans)
        generations = (generation for _, generation in request.members)
        try:
            answer = perform(request.step, server, tuple(zip(plans, generations, strict=True)))
        except ConfigurationError as error:
            explain(error)  # what is refused is to be seen in the journal, too
            raise
        if request.step is not Step.IS_ACTIVE:  # that is asked often
            say(f"{server.name}: {_command(server, request.step)} {answer.result.describe()}")
        return answer

    try:
        told = as_root.answer(local_socket.read_request(_STANDARD_INPUT), run)
    except ConfigurationError as error:
        told = as_root.refusal(error)
    sys.stdout.buffer.write(told)


def _plan(targets: Mapping[Path, Target], directory: Path) -> Plan:
    if directory not in targets:
        raise ConfigurationError(f"There is no target in {directory}.")
    return resolve(targets[directory])


def _server(name: str, plans: Sequence[Plan]) -> Server:
    """Return the one server of that name that reads all of them.

    Raises:
        ConfigurationError: there is none, or it is on another machine.
    """
    named = [{one for one in plan.servers if one.name == name} for plan in plans]
    common = set.intersection(*named) if named else set()
    here = [server for server in common if not server.machine]
    if len(here) != 1:
        places = ", ".join(str(plan.target.directory) for plan in plans) or "no target at all"
        raise ConfigurationError(
            f"On this machine there is no one server {name!r:.200} that reads {places}."
        )
    return here[0]


def _command(server: Server, step: Step) -> str:
    if step in (Step.TEST, Step.RELOAD):
        return " ".join(server.test if step is Step.TEST else server.reload)
    return f"systemctl {step} {server.unit}"


def serve_mounts(context: typer.Context) -> None:
    """Tell which generations of the targets are mounted by any process; for its unit alone."""
    try:
        targets = load_targets(load_settings(context.obj).targets_file)
        told = mounts.answer(targets)
    except ConfigurationError as error:
        explain(error)
        told = mounts.NOT_KNOWN
    sys.stdout.buffer.write(told)
