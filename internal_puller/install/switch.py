"""Moves a target from one generation on disk to another, and back when the server objects."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from internal_puller.install.generations import Generations, Unfinished
from internal_puller.install.layout import RECORD, SetAside, generation_of
from internal_puller.install.report import InstallReport
from internal_puller.outbox.look import shows
from shared.contract.errors import (
    ConfigTestFailed,
    InstallError,
    RelayError,
    RollbackFailed,
    StageFailed,
)

if TYPE_CHECKING:
    from internal_puller.install.presets import Plan
    from internal_puller.install.trial import Trial
    from internal_puller.outbox.look import Look


@dataclass(frozen=True)
class Switch:
    """One target, its generations held open. ``now`` in unix seconds."""

    generations: Generations
    plan: Plan
    trial: Trial
    now: int

    def confirm(self, name: str) -> InstallReport:
        """Look whether the active generation is served; if not, make the server take it."""
        leaf = self._leaf(name)
        before = self.trial.look()
        error: InstallError | None = None
        served = before
        if self.plan.probe and not shows(before, leaf):
            try:
                self.trial.bring(self.generations, name)
                served = self.trial.whole(generation_of(name), leaf)
            except InstallError as failure:
                error, served = failure, self.trial.look()
        else:
            self.generations.clear(generation_of(name))
        return self._report(generation_of(name), error, False, before, served)

    def to(self, name: str, previous: str | None) -> InstallReport:
        """Activate ``name`` and see it served; on any failure go back to ``previous``."""
        generation, leaf = generation_of(name), self._leaf(name)
        before = self.trial.look()
        unfinished = Unfinished(name, previous)
        self.generations.begin(unfinished)
        try:
            self.generations.activate(name)
            self.trial.bring(self.generations, name)
            served = self.trial.whole(generation, leaf)
        except InstallError as failure:
            return self.back(unfinished, failure, before)
        # It is served: what cannot be tidied now is tidied by the next run.
        with suppress(StageFailed):
            self.generations.clear(generation)
            self.generations.prune(self.plan.target.keep, previous)
        with suppress(StageFailed):
            self.generations.finish()
        return self._report(generation, None, True, before, served)

    def back(
        self, unfinished: Unfinished, failure: RelayError, before: tuple[Look, ...] = ()
    ) -> InstallReport:
        """Activate the previous generation and see it served; remember the failed one."""
        generation = generation_of(unfinished.to)
        previous = unfinished.previous
        if previous is None:
            failure.means = "No certificate was in place here before, and none is now."
        error: RelayError = failure
        served: tuple[Look, ...] = ()
        try:
            if previous != unfinished.to:
                self._remember(generation, failure)
            self.generations.activate(previous)
            self.trial.bring(self.generations, previous)
            served = self._settle(previous, failure)
            with suppress(StageFailed):
                self.generations.finish()
        except InstallError as second:
            error = RollbackFailed(f"{failure.what} Going back failed too: {second.what}")
            error.__cause__ = failure
            served = self.trial.look()
        return self._report(generation, error, True, before, served)

    def _remember(self, generation: int, failure: RelayError) -> None:
        if isinstance(failure, StageFailed):
            return  # says nothing about the generation: the next run may try it again
        with suppress(StageFailed):  # going back matters more than remembering why
            reason = SetAside(failure.type, failure.what, self.now)
            self.generations.mark(generation, reason)

    def _settle(self, previous: str | None, failure: RelayError) -> tuple[Look, ...]:
        """Make the server serve the previous generation again; the probe is the judge."""
        if previous is None:
            return self._settle_without()
        leaf = self._leaf(previous)
        trouble: InstallError | None = None
        # A server that refused its configuration was never reloaded and still has the old one,
        # unless this ends what a killed run had begun.
        was_reloaded = not isinstance(failure, ConfigTestFailed | StageFailed)
        if was_reloaded or (self.plan.probe and not shows(self.trial.look(), leaf)):
            try:
                self.trial.test(generation_of(previous))
                self.trial.reload(generation_of(previous))
            except InstallError as error:
                trouble = error
        served = self.trial.see(generation_of(previous), leaf)
        if trouble and not served:
            raise trouble
        return served

    def _settle_without(self) -> tuple[Look, ...]:
        """Nothing was in place before: let the server drop what it may have read, if it can."""
        with suppress(InstallError):  # its configuration may name the files that are gone again
            self.trial.test(0)
            self.trial.reload(0)
        return self.trial.look()

    def report_failure(self, generation: int, error: RelayError, changed: bool) -> InstallReport:
        """Report a failure without doing anything."""
        served = self.trial.look()
        return self._report(generation, error, changed, served, served)

    def _report(
        self,
        generation: int,
        error: RelayError | None,
        changed: bool,
        before: tuple[Look, ...],
        served: tuple[Look, ...],
    ) -> InstallReport:
        name = self.generations.active()
        active = None if name is None else generation_of(name)
        return InstallReport(
            certificate=self.plan.target.certificate,
            generation=generation,
            outcome="installed" if active == generation else "rolled_back",
            changed=changed,
            error=error,
            active=active,
            served_before=before,
            served=served,
        )

    def _leaf(self, name: str) -> str:
        """Return the hex SHA-256 of a generation's leaf from its record."""
        try:
            record = json.loads(self.generations.read(name, RECORD)[RECORD])
            return str(record["leaf_sha256"])
        except (KeyError, ValueError) as error:
            raise StageFailed(
                f"Generation {name} in {self.plan.target.directory} is damaged."
            ) from error
