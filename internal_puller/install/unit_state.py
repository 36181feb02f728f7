"""How the unit of a server stands, as systemd says it: now, and how it came to be so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from internal_puller.install.server import STOPPED, Running
from shared.host import systemctl

if TYPE_CHECKING:
    from collections.abc import Mapping

_STATES: Final = {
    "active": Running.YES,
    "reloading": Running.CHANGING,
    "activating": Running.CHANGING,
    "deactivating": Running.CHANGING,
    "inactive": Running.NO,
    "failed": Running.FAILED,
}
"""It does not run, and nothing is about to change that."""
_STARTED, _ENDED, _LEFT, _STOPPED = (
    f"{name}TimestampMonotonic"
    for name in ("ExecMainStart", "ExecMainExit", "ActiveExit", "InactiveEnter")
)
PROPERTIES: Final = ("LoadState", "ActiveState", "Job", "Result", _STARTED, _ENDED, _LEFT, _STOPPED)


@dataclass(frozen=True, slots=True)
class UnitState:
    """
    Attributes:
        started, ended: when its main process was last started, and last ended.
        left: when the unit was last no longer active.
        stopped: when it last became inactive or failed.
        by_signal: a process of it was ended by a signal, as by a stop amidst a start or a reload.

    The times are microseconds of the machine's monotonic clock; 0 is never, or not known.
    """

    running: Running
    started: int = 0
    ended: int = 0
    left: int = 0
    stopped: int = 0
    by_signal: bool = False

    @property
    def ended_by_itself(self) -> bool:
        """Tell whether it died, and was not stopped by systemd because somebody asked for that.

        Who is stopped leaves the state first, and then its process ends; who dies, the other way
        round. A failed unit may have been started anew since, in vain.
        """
        if self.running is Running.FAILED and 0 < self.left < self.started:
            return not self.by_signal
        return self.running in STOPPED and 0 < self.ended <= self.left


def state_of(unit: str | None) -> UnitState:
    """Return how a unit of this machine stands; ``NOT_KNOWN`` without one."""
    return read_state(systemctl.properties(unit, PROPERTIES) if unit is not None else None)


def read_state(told: Mapping[str, str] | None) -> UnitState:
    """Return how a unit stands; ``NOT_KNOWN`` of a missing one, and where systemd does not say.

    Args:
        told: its ``PROPERTIES``, those that it has.
    """
    if told is None or told.get("LoadState") == "not-found":
        return UnitState(Running.NOT_KNOWN)
    running = _STATES.get(told.get("ActiveState", ""), Running.NOT_KNOWN)
    waits = told.get("Job", "0") not in ("", "0")  # for its turn
    if waits and running is not Running.NOT_KNOWN:
        running = Running.CHANGING
    times = (told.get(name, "") for name in (_STARTED, _ENDED, _LEFT, _STOPPED))
    started, ended, left, stopped = (int(text) if text.isdigit() else 0 for text in times)
    by_signal = told.get("Result") == "signal"
    return UnitState(running, started, ended, left, stopped, by_signal)
