"""Whether anything pulls again by itself: yes, no, or not known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from internal_puller.settings.config import Settings
from shared.host import systemctl

TIMER: Final = "internal-puller.timer"
STAYS: Final = "internal-puller-run.service"
SERVICE_STATE: Final = Path("/var/lib/split-horizon-relay/puller")  # deploy/systemd
ENABLE: Final = f"systemctl enable --now {TIMER}"


@dataclass(frozen=True)
class Schedule:
    """
    Attributes:
        pulls: whether something will pull again; ``None`` is not known.
        what: the same in words.
        do: the command that changes it, or finds it out; empty if there is nothing to do.
    """

    pulls: bool | None
    what: str
    do: str = ""


def schedule_of(settings: Settings) -> Schedule:
    """Return what pulls with these settings.

    The units know one puller, that of the system; another user's is none of theirs.
    """
    if settings.state_directory != SERVICE_STATE:
        what = f"whether anything pulls again is not known: the units pull with {SERVICE_STATE}"
        return Schedule(None, what, "run internal-puller pull every hour")
    return _schedule()


def _schedule() -> Schedule:
    """Return what systemd says of the units."""
    if not systemctl.is_there():
        what = "whether anything pulls again is not known: this machine has no systemd"
        return Schedule(None, what, "run internal-puller pull every hour")
    active = {unit: systemctl.state_of(unit) for unit in (TIMER, STAYS)}
    if "active" in active.values():
        running = TIMER if active[TIMER] == "active" else STAYS
        return _after_a_boot(running)
    if None in active.values():
        what = f"whether anything pulls again is not known: systemctl does not say whether {TIMER} "
        return Schedule(None, f"{what}is active", "systemctl list-timers")
    return Schedule(
        False, f"nothing will pull again: neither {TIMER} nor {STAYS} is active", ENABLE
    )


def _after_a_boot(running: str) -> Schedule:
    done = systemctl.ask("is-enabled", running)
    if done is None:
        return Schedule(True, f"{running} is active; whether it is enabled is not known")
    if done.returncode:
        what = f"nothing will pull after the next boot: {running} is active and not enabled"
        return Schedule(False, what, f"systemctl enable {running}")
    return Schedule(True, f"{running} is active")
