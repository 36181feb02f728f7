"""Installs several generations in one go.

This is an adapter over the functions that install one target at a time. It goes as a whole when
installing is by server groups: its shape is what the rest of the puller builds on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from internal_puller.install import installer
from internal_puller.install.active import read_active
from internal_puller.install.layout import active_generation
from internal_puller.install.material import Material
from internal_puller.install.report import InstallReport
from internal_puller.install.served_now import look_at
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import RELOADED_AGAIN, Verdict
from internal_puller.settings.targets import Target
from shared.contract.errors import (
    ConfigTestFailed,
    ConfigurationError,
    RelayError,
    ReloadFailed,
    RollbackFailed,
    ServedMismatch,
)

_BACK: dict[type[RelayError], Verdict] = {
    ConfigTestFailed: Verdict.BACK_BY_TEST,
    ReloadFailed: Verdict.BACK_BY_LEAF,
    ServedMismatch: Verdict.BACK_BY_LEAF,
    RollbackFailed: Verdict.BACK_UNSEEN,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One generation at one target.

    Attributes:
        force: try again although it failed there before.
    """

    target: Target
    material: Material
    force: bool = False


class Engine:
    """
    Args:
        targets: of this machine.
        state: the state directory.
        clock: unix seconds.
        monotonic, sleep: seconds, for waiting.
        say: told in words what is being done.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        state: Path,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._targets, self._state, self._clock, self._say = targets, state, clock, say
        self._monotonic, self._sleep = monotonic, sleep

    def install(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Install them; one outcome for each, in their order."""
        return [self._install(job) for job in jobs]

    def _install(self, job: Job) -> Outcome:
        self._say(f"{job.target.certificate}: installing in {job.target.directory}")
        material = job.material
        try:
            report = installer.install(
                material,
                job.target,
                now=int(self._clock()),
                force=job.force,
                clock=self._monotonic,
                sleep=self._sleep,
            )
            return _outcome(
                job.target,
                report,
                digest=material.manifest_digest,
                not_after=material.not_after,
            )
        except RelayError as error:  # the target cannot be used: nothing was written there
            return self._failed(job.target, material.generation, error)

    def resume(self) -> list[Outcome]:
        """Bring to their verdicts the installations that an earlier run did not finish."""
        found = []
        for target in self._targets:
            try:
                report = installer.resume(target, now=int(self._clock()))
            except RelayError as error:
                found.append(self._failed(target, 0, error))
                continue
            if report is not None:
                found.append(_outcome(target, report))
        return found

    def reshape(self, targets: Sequence[Target]) -> list[Outcome]:
        """Write the files in place anew, as the targets want them now."""
        found = []
        for target in targets:
            try:
                report = installer.reshape(target, now=int(self._clock()))
            except RelayError as error:
                found.append(self._failed(target, 0, error))
                continue
            if report is not None:
                found.append(_outcome(target, report))
        return found

    def roll_back(self, targets: Sequence[Target], to: int | None) -> list[Outcome]:
        """Bring an earlier generation back, as an operator says so."""
        found = []
        for target in targets:
            try:
                report = installer.roll_back(target, to, now=int(self._clock()))
            except RelayError as error:
                found.append(self._failed(target, to or 0, error))
                continue
            found.append(_outcome(target, report))
        return found

    def look_again(self, targets: Sequence[Target]) -> list[Outcome]:
        """Look at what is in place and was not seen to be served; reload where that may help."""
        found = []
        for target in targets:
            try:
                outcome = look_at(target, self._clock)
                if outcome is not None and outcome.verdict in RELOADED_AGAIN:
                    installer.reshape(target, now=int(self._clock()))  # tests, reloads and looks
                    outcome = look_at(target, self._clock)
            except RelayError as error:
                outcome = self._failed(target, 0, error)
            if outcome is not None:
                found.append(outcome)
        return found

    def recover(self) -> list[Outcome]:
        """After a boot, before the servers: nothing can be done for one target alone."""
        return []

    def _failed(self, target: Target, generation: int, error: RelayError) -> Outcome:
        return Outcome(
            target.certificate,
            generation,
            None,
            error,
            directory=str(target.directory),
            active=_active(target),
        )


def _outcome(
    target: Target, report: InstallReport, *, digest: str = "", not_after: int = 0
) -> Outcome:
    active = read_active(target)
    if active is not None and active.generation == report.generation:
        digest, not_after = active.digest, active.not_after
    return Outcome(
        report.certificate,
        report.generation,
        _verdict(report),
        report.error,
        changed=report.changed,
        directory=str(target.directory),
        active=report.active,
        digest=digest,
        not_after=not_after,
        before=report.served_before,
        looks=report.served,
    )


def _verdict(report: InstallReport) -> Verdict | None:
    if report.error is None:
        return Verdict.SERVED if report.served else Verdict.IN_PLACE
    if report.outcome == "installed":
        return Verdict.NOT_TAKEN_UP
    return _BACK.get(type(report.error))


def _active(target: Target) -> int | None:
    try:
        return active_generation(target)
    except ConfigurationError:
        return None
