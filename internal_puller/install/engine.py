"""Installs generations, server by server: staged, switched, tested, reloaded, looked at, judged.

One engine for everything that changes what is in place: a new generation, the same in other
formats, an operator's way back, what an earlier run began, and what was not seen served yet.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from internal_puller.install import layout, mounts, notes
from internal_puller.install.choosing import (
    begun,
    chosen,
    fault_of,
    kept,
    lost,
    put_off,
    reshaped,
    staged,
)
from internal_puller.install.control import control_of
from internal_puller.install.generations import Generations
from internal_puller.install.groups import group, key_of
from internal_puller.install.looking import look_only
from internal_puller.install.material import Material
from internal_puller.install.member import Member
from internal_puller.install.presets import Plan, resolve
from internal_puller.install.recovery import recover
from internal_puller.install.server import Running, Server
from internal_puller.install.servers import ControlOf, Servers
from internal_puller.install.sight import Sight
from internal_puller.install.steps import Steps
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.targets import Target
from shared.contract.errors import RelayError

RECOVERY_SECONDS: Final = 20.0
"""A machine that boots waits for no longer; its unit is ended after 30."""
Prepare = Callable[[Plan, Generations], "Member | Outcome"]


@dataclass(frozen=True)
class Job:
    """
    Attributes:
        material: an accepted generation.
        force: try it again although it failed here before.
    """

    target: Target
    material: Material
    force: bool = False


class Engine:
    """The caller holds the installation lock.

    Every method returns one outcome for each target, in the order given. What is wrong with one
    target is its outcome's error; a method raises ``ConfigurationError`` only for a note that
    cannot be read.

    Args:
        targets: of this machine.
        state: the state directory.
        clock: unix seconds.
        monotonic, sleep: in seconds.
        say: told in words what is being done.
        control: how a server is tested and told.
        sight: what the probe points show.
        plan: leaves nothing of a target open.
        mounted: which generations are mounted somewhere; ``None`` looks, once, before pruning.
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
        control: ControlOf = control_of,
        sight: Sight | None = None,
        plan: Callable[[Target], Plan] = resolve,
        mounted: Callable[[], mounts.Mounted] | None = None,
    ) -> None:
        self._targets = {str(target.directory): target for target in targets}
        self._state = state
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._say = say
        self._control = control
        self._plan = plan
        self._sight = sight or Sight(monotonic, sleep)
        self._mounted = mounted or functools.cache(
            functools.partial(mounts.mounted, [one for one in targets if one.ssh is None])
        )

    # --- what is asked of it -----------------------------------------------------------------

    def install(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Install generations and see them served; what they made worse goes back."""
        by_directory = {str(job.target.directory): job for job in jobs}
        self._finish(by_directory)

        def prepare(plan: Plan, generations: Generations) -> Member | Outcome:
            job = by_directory[str(plan.target.directory)]
            try:
                return staged(plan, generations, job.material, force=job.force)
            except RelayError as fault:
                return fault_of(plan.target, fault, job.material.generation)

        outcomes = self._ordered([job.target for job in jobs], prepare)
        return [  # of a target that could not be looked at, too, it is said what could not come
            one if one.generation else replace(one, generation=job.material.generation)
            for one, job in zip(outcomes, jobs, strict=True)
        ]

    def resume(self) -> list[Outcome]:
        """Bring to a verdict what an earlier run did not finish."""
        return [outcome for note in notes.read_all(self._state) for outcome in self._resume(note)]

    def reshape(self, targets: Sequence[Target]) -> list[Outcome]:
        """Write what is in place anew, as its target wants its files now.

        A failure brings the former files back, and says nothing about the generation.
        """
        self._finish(str(target.directory) for target in targets)
        return self._ordered(targets, reshaped)

    def roll_back(self, targets: Sequence[Target], to: int | None = None) -> list[Outcome]:
        """Put an earlier generation in place because an operator says so, and see it served.

        The one that is left is set aside, so that the next pull does not bring it back.

        Args:
            to: ``None`` is the one that an installation which did not end had found in place, else
                the newest one older than the active one.
        """
        meant = {
            where: member.previous
            for note in notes.read_all(self._state)
            for where, member in note.members.items()
        }
        self._finish(str(target.directory) for target in targets)

        def prepare(plan: Plan, generations: Generations) -> Member | Outcome:
            before = meant.get(str(plan.target.directory)) if to is None else None
            return chosen(plan, generations, to, None if before == generations.active() else before)

        return self._ordered(targets, prepare)

    def look_again(
        self, targets: Sequence[Target], stood: Mapping[str, Verdict] | None = None
    ) -> list[Outcome]:
        """Look at what was kept and not seen to be served; reload again where that may help.

        Args:
            stood: the verdict of the last look, by directory.
        """
        self._finish(str(target.directory) for target in targets)

        def prepare(plan: Plan, generations: Generations) -> Member | Outcome:
            verdict = (stood or {}).get(str(plan.target.directory))
            return kept(plan, generations, verdict)

        return self._ordered(targets, prepare)

    def recover(self) -> list[Outcome]:
        """Bring links to a consistent state at boot, before the servers start.

        No network, no reload, no start: links follow the notes, and what a server's test refuses
        goes back. The notes stay for ``resume``.
        """
        deadline = self._monotonic() + RECOVERY_SECONDS
        found: list[Outcome] = []
        for note in notes.read_some(self._state):  # of what is damaged the next pull tells
            with ExitStack() as stack:
                steps, faults = self._noted(note, stack, here=True)
                found += recover(steps, lambda: self._monotonic() < deadline) + faults
        return found

    # --- what an earlier run noted -----------------------------------------------------------

    def _finish(self, directories: Iterable[str]) -> None:
        """Finish what was begun at these targets; what cannot be is reported by what follows."""
        mine = set(directories)
        for note in notes.read_all(self._state):
            if mine & note.members.keys():
                self._resume(note)

    def _resume(self, note: notes.Note) -> list[Outcome]:
        with ExitStack() as stack:
            steps, faults = self._noted(note, stack)
            try:
                steps.take_up()
            except RelayError as fault:
                return [one.outcome(fault) for one in steps.members] + faults
            return steps.carry_out() + faults

    def _noted(
        self, note: notes.Note, stack: ExitStack, *, here: bool = False
    ) -> tuple[Steps, list[Outcome]]:
        """Return what a note asks for, and what keeps targets of it from being gone on with.

        A target that is no more is left out for good; one that cannot be used now stays noted.

        Args:
            here: without the targets of other machines.
        """
        members: list[Member] = []
        faults: list[Outcome] = []
        waiting: set[str] = set()
        for where, noted in note.members.items():
            target = self._targets.get(where)
            if target is None:
                continue
            if here and target.ssh is not None:
                waiting.add(where)
                continue
            try:
                plan = self._plan(target)
                member = begun(plan, _opened(plan, stack), noted)
            except RelayError as fault:
                waiting.add(where)
                faults.append(fault_of(target, fault, layout.generation_of(noted.to)))
                continue
            if member is None:
                faults.append(lost(target, noted))
                continue
            member.before = note.points.get(where, ())
            members.append(member)
        steps = self._steps(note.name, members)
        steps.boot_id, steps.resumed = note.boot_id, True
        steps.servers.ran = dict(note.running)
        steps.servers.killed = set(note.killed)
        steps.others = note.only(waiting)
        return steps, faults

    # --- group by group ----------------------------------------------------------------------

    def _ordered(self, targets: Sequence[Target], prepare: Prepare) -> list[Outcome]:
        found: dict[str, Outcome] = {}
        plans: list[Plan] = []
        for target in targets:
            try:
                plans.append(self._plan(target))
            except RelayError as fault:
                found[str(target.directory)] = fault_of(target, fault)
        for each in group(plans):
            with ExitStack() as stack:
                members: list[Member] = []
                for plan in each.plans:
                    made = _prepared(plan, stack, prepare)
                    if isinstance(made, Member):
                        members.append(made)
                    else:
                        found[made.directory] = made
                outcomes = self._carry_out(each.name, members)
                found.update({one.directory: one for one in outcomes})
        return [found[str(target.directory)] for target in targets]

    def _carry_out(self, name: str, members: list[Member]) -> list[Outcome]:
        """All together, and then one after another those that are to be tried alone."""
        looked_at = [one for one in members if one.is_there]
        outcomes = look_only(self._steps(name, looked_at)) if looked_at else []
        done = {one.directory for one in outcomes}
        left = [one for one in members if one.directory not in done]
        batches = [[one for one in left if not one.alone], *([one] for one in left if one.alone)]
        died, fault = False, None
        for batch in filter(None, batches):
            if died or fault:  # one death is enough for one run; what broke off is gone on with
                outcomes += [one.outcome(fault) if fault else put_off(one) for one in batch]
                continue
            for one in batch:
                self._say(f"{one.plan.target.certificate}: installing in {one.directory}")
            found = self._begin(name, batch)
            died = any(one.verdict is Verdict.BACK_BY_DEATH for one in found)
            fault = next((one.error for one in found if one.verdict is None), None)
            outcomes += found
        return outcomes

    def _begin(self, name: str, members: list[Member]) -> list[Outcome]:
        mine = {one.directory for one in members}
        steps = self._steps(name, members)
        try:
            unended = notes.read_all(self._state)  # ways back of which no end was seen
            killed = self._killed(unended, steps.servers.servers)
            for note in unended:
                left = note.only(note.members.keys() - mine)
                if note.name == name:
                    steps.others = left
                elif left.members.keys() != note.members.keys():
                    notes.write_or_drop(self._state, left)
            steps.begin(killed)
        except RelayError as fault:
            return steps.break_off(fault)
        return steps.carry_out()

    def _killed(self, unended: Iterable[notes.Note], servers: Sequence[Server]) -> set[str]:
        """Return the names of those that ran before a reload of which no end was seen."""
        mine, found = {key_of(one): one.name for one in servers}, set[str]()
        for note in unended:
            targets = [self._targets[where] for where in note.members if where in self._targets]
            for target in targets:
                with suppress(RelayError):  # said elsewhere
                    theirs = {key_of(one) for one in self._plan(target).servers}
                    found |= {mine[one] for one in theirs & mine.keys() if _ran(note, mine[one])}
        return found

    def _steps(self, name: str, members: list[Member]) -> Steps:
        members = list(members)
        found = {key_of(server): server for one in members for server in one.servers}
        servers = Servers(
            tuple(found.values()), members, self._control, self._monotonic, self._sleep
        )
        steps = Steps(self._state, name, members, servers, self._sight, self._clock)
        steps.mounted = self._mounted
        return steps


def _ran(note: notes.Note, server: str) -> bool:
    return note.running.get(server) is Running.YES


def _prepared(plan: Plan, stack: ExitStack, prepare: Prepare) -> Member | Outcome:
    try:
        return prepare(plan, _opened(plan, stack))
    except RelayError as fault:
        return fault_of(plan.target, fault)


def _opened(plan: Plan, stack: ExitStack) -> Generations:
    """Hold open what is needed until all is done: its generations, one connection to its machine"""
    if plan.remote is not None:
        stack.enter_context(plan.remote.connected())
    return stack.enter_context(Generations(plan.target))
