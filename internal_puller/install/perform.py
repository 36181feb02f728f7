"""The steps of a server on this machine: test, reload, start, is-active.

What is run is the server's, as root's settings have it; who asks chooses among these. It is the
same for root who types a command and for the service, whose steps a unit of root's performs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from internal_puller.install import reload_note
from internal_puller.install.reload_note import ReloadNote
from internal_puller.install.server import STOPPED, Running
from internal_puller.install.unit_state import UnitState, state_of
from internal_puller.install.variables import variables
from internal_puller.settings.presets.preset import UNIT_NAME
from shared.contract.errors import ConfigurationError
from shared.host import boot, commands
from shared.host.commands import CommandResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from internal_puller.install.presets import Plan
    from internal_puller.install.server import Server

    Members = Sequence[tuple[Plan, int]]


class Step(StrEnum):
    """What may be done with a server."""

    TEST = "test"
    RELOAD = "reload"
    START = "start"
    IS_ACTIVE = "is-active"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a step.

    Attributes:
        result: how its command ended, or in words why none was run.
        running: how the server stands, where that was asked; ``NO`` or ``FAILED`` for a reload that
            was not run for that reason, which is no failure.
    """

    result: CommandResult
    running: Running | None = None


def perform(step: Step, server: Server, members: Members) -> Answer:
    """Perform a step.

    Args:
        members: the targets whose files the server reads, and the generation in place at each.

    Raises:
        ConfigurationError: the server has no such command, or the program does not exist.
    """
    known = variables(members)
    seconds = seconds_for(server, members)
    unit = server.unit if UNIT_NAME.fullmatch(server.unit or "") else None
    if step is Step.IS_ACTIVE:
        return Answer(CommandResult(True, "was asked for", ""), state_of(unit).running)
    if step is Step.START:
        return _start(server, unit, seconds)
    argv = server.test if step is Step.TEST else server.reload
    if not argv:
        raise ConfigurationError(f"The server {server.name} has no {step} command here.")
    if step is Step.TEST:
        return Answer(commands.run(argv, seconds, known))
    return _reload(server, unit, seconds, known)


def seconds_for(server: Server, members: Members) -> float:
    """Return how long a command of a server may take: one that starts it, until it serves."""
    seconds = max((plan.target.command_timeout for plan, _ in members), default=server.patience)
    return max(seconds, server.patience) if server.restarts else seconds


def _reload(server: Server, unit: str | None, seconds: float, known: dict[str, str]) -> Answer:
    """Reload what runs. What does not is left alone: some commands would start it.

    Nor is one that is changing told: systemd would cancel an administrator's stop for a reload.
    """
    before = state_of(unit)
    if before.running in STOPPED:
        return Answer(_not_run(f"{unit} {_described(before)}, and is left alone"), before.running)
    if before.running is Running.CHANGING:
        how = f"was not run: {unit} {_described(before)}"
        return Answer(commands.not_ended(how), before.running)
    noted = unit is not None and before.running is Running.YES and _note(unit)
    result = commands.run(server.reload, seconds, known)
    if noted and unit is not None and server.restarts:
        after = state_of(unit)
        if after.running is Running.FAILED and not after.by_signal:  # it could not be started
            _note(unit, after)
    return Answer(result)


def _start(server: Server, unit: str | None, seconds: float) -> Answer:
    """Start a server that a reload of ours ended.

    A limit of starts must not keep it down, so that it failed is forgotten first.

    What is refused is said in words, and is no fault of the settings.
    """
    if unit is None:
        raise ConfigurationError(f"The unit of the server {server.name} is not known.")
    state = state_of(unit)
    if state.running in (Running.YES, Running.CHANGING):
        return Answer(_not_run(f"{unit} {_described(state)}"), state.running)
    note = reload_note.read(unit)
    if why := reload_note.why_not_start(note, state, boot.boot_id()):
        clear = f"systemctl reset-failed {unit} && " if state.running is Running.FAILED else ""
        do = f"{clear}systemctl start {unit}"
        raise ConfigurationError(f"{unit} is left as it is: {why}. Start it with: {do}", do=do)
    _note(unit, state)  # of a unit that is no longer failed, it is not seen how it ended
    # A unit that systemd has forgotten meanwhile has nothing to be reset.
    commands.run(("systemctl", "reset-failed", unit), seconds, {})
    result = commands.run(("systemctl", "start", unit), seconds, {})
    if result.ok:
        _forget(unit)
    return Answer(result)


def _not_run(why: str) -> CommandResult:
    return CommandResult(True, f"was not run: {why}", "")


def _described(state: UnitState) -> str:
    return {
        Running.YES: "runs",
        Running.NO: "does not run",
        Running.FAILED: "has failed",
        Running.CHANGING: "is starting, reloading or stopping",
    }.get(state.running, "is in a state that is not known")


def _note(unit: str, stopped: UnitState | None = None) -> bool:
    """Note that it ran; the certificate matters more than what could be started after it."""
    try:
        reload_note.write(unit, ReloadNote(boot.boot_id(), stopped.stopped if stopped else None))
    except (OSError, ConfigurationError):
        return False
    return True


def _forget(unit: str) -> None:
    try:
        reload_note.remove(unit)
    except (OSError, ConfigurationError):
        return  # it allows what has happened
