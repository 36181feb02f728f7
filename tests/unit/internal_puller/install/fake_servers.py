"""Servers that read the files of targets, die, refuse and boot, without a process or a port.

A pair is named by the generation in it. What a server shows is what it loaded, whatever is in place
since then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from internal_puller.install import layout
from internal_puller.install.durable import Ownership
from internal_puller.install.engine import Engine, Job
from internal_puller.install.generations import Accounts
from internal_puller.install.presets import Plan
from internal_puller.install.server import Control, Running, Server
from internal_puller.install.sight import Awaited, Sight
from internal_puller.outbox.look import Answer, Look, Trouble
from internal_puller.outbox.outcome import Outcome
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.contract.errors import StageFailed
from shared.host.commands import CommandResult
from tests.unit.internal_puller.install.helpers import NOW, Clock, material

OK = CommandResult(True, "ended with exit code 0", "")
THIRD = "f" * 64


@dataclass
class FakeServer:
    """
    Attributes:
        needs: directories of targets that its configuration names: they must hold a pair.
        reads: further ones that it takes if they hold one.
        unloadable: (directory, generation) that it cannot load.
        test_reads_keys: whether its test says so (nginx), or only its reload (Apache).
        dies: what it cannot load ends it at the reload; else it keeps what it has.
        own_fault: its configuration is broken, whatever the files are.
        blind: directories that it never takes anew, though it is told.
        loaded: directory to the generation that it shows.
        other: directory to a foreign leaf that is shown in place of it.
    """

    server: Server
    needs: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)
    unloadable: set[tuple[str, int]] = field(default_factory=set)
    shown_only: set[tuple[str, int]] = field(default_factory=set)
    test_reads_keys: bool = True
    dies: bool = False
    own_fault: bool = False
    start_fails: bool = False
    reload_fails: bool = False
    blind: set[str] = field(default_factory=set)
    other: dict[str, str] = field(default_factory=dict)
    running: Running = Running.YES
    loaded: dict[str, int] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    reachable: bool = True

    def why_not(self) -> str:
        """Return why it could not load what is in place now."""
        if self.own_fault:
            return "syntax error"
        for directory in sorted(self.needs):
            if in_place(directory) is None:
                return f"no file {directory}/current/fullchain.pem"
        for directory in sorted(self.needs | self.reads):
            if (directory, in_place(directory)) in self.unloadable:
                return f"cannot load {directory}"
        return ""

    def test(self) -> CommandResult:
        self.did.append("test")
        why = self.why_not()
        if why.startswith("cannot load") and not self.test_reads_keys:
            why = ""
        return CommandResult(False, "ended with exit code 1", why) if why else OK

    def reload(self) -> CommandResult:
        self.did.append("reload")
        if self.running is not Running.YES:
            return OK  # it stays stopped
        if self.reload_fails:
            return CommandResult(False, "ended with exit code 1", "not permitted")
        if self.why_not() and self.dies:
            self.running = Running.FAILED
            return OK
        if self.why_not():
            return CommandResult(False, "ended with exit code 1", self.why_not())
        self.load()
        return OK

    def start(self) -> CommandResult:
        self.did.append("start")
        if self.why_not() or self.start_fails:
            self.running = Running.FAILED
            return CommandResult(False, "ended with exit code 1", self.why_not())
        self.running = Running.YES
        self.load()
        return OK

    def load(self) -> None:
        for directory in self.needs | self.reads:
            generation = in_place(directory)
            if directory in self.blind:
                continue
            if generation is None:
                self.loaded.pop(directory, None)
            else:
                self.loaded[directory] = generation

    def boot(self) -> None:
        if self.running is not Running.NO:
            self.running = Running.FAILED if self.why_not() else Running.YES
            self.load() if self.running is Running.YES else None

    def look(self, directory: str) -> tuple[Answer, str | None]:
        if self.running is not Running.YES:
            return Answer.NONE, None
        if directory in self.other:
            return Answer.PROVEN, self.other[directory]
        if directory not in self.loaded:
            return Answer.NONE, None
        generation = self.loaded[directory]
        proven = (directory, generation) not in self.shown_only
        return Answer.PROVEN if proven else Answer.SHOWN, leaf_of(directory, generation)


def in_place(directory: str) -> int | None:
    """Return the generation that ``current`` leads to, as a server would read it."""
    try:
        name = layout.parse_link(str(Path(directory, "current").readlink()), Path(directory))
        return layout.generation_of(name)
    except OSError:
        return None


def leaf_of(directory: str, generation: int) -> str:
    return material(generation, certificate=Path(directory).name).leaf_sha256


@dataclass
class FakeMachine:
    """Some servers, the targets whose files they read, and a state directory."""

    base: Path
    servers: list[FakeServer] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    clock: Clock = field(default_factory=lambda: Clock(float(NOW)))
    boots: int = 1
    unseen: set[str] = field(default_factory=set)
    no_probe: set[str] = field(default_factory=set)
    tick: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def state(self) -> Path:
        return self.base / "state"

    def add_server(self, name: str = "nginx", **attributes: object) -> FakeServer:
        made = FakeServer(Server(name, "", ("test", name), ("reload", name), f"{name}.service"))
        for attribute, value in attributes.items():
            setattr(made, attribute, value)
        self.servers.append(made)
        return made

    def add_target(self, name: str, *servers: FakeServer, needed: bool = True) -> Target:
        """Add a target that these servers read; ``needed``: their configuration names it."""
        probe = (ProbePoint("127.0.0.1", 443, f"{name}.example.com"),)
        directory = self.base / name
        made = Target(name, (f"{name}.example.com",), directory, probe=probe)
        self.targets.append(made)
        for server in servers:
            (server.needs if needed else server.reads).add(str(directory))
        return made

    def readers(self, directory: str) -> list[FakeServer]:
        return [one for one in self.servers if directory in one.needs | one.reads]

    def engine(self, say: Callable[[str], None] = lambda text: None) -> Engine:
        return Engine(
            self.targets,
            self.state,
            clock=self.clock,
            monotonic=self.clock,
            sleep=self.clock.sleep,
            say=say,
            control=self.control,
            sight=FakeSight(self),
            plan=self.plan,
        )

    def plan(self, target: Target) -> Plan:
        readers = self.readers(str(target.directory))
        born = Ownership(-1, -1, 0o644)
        hidden = str(target.directory) in self.no_probe
        return Plan(
            target,
            servers=tuple(one.server for one in readers),
            formats=("fullchain", "privkey"),
            accounts=Accounts(born, dataclasses.replace(born, mode=0o600)),
            probe=() if hidden else target.probe or (),
            password=None,
            combined=(),
        )

    def control(self, server: Server, members: Sequence[tuple[Plan, int]]) -> Control:
        del members
        found = next(one for one in self.servers if one.server == server)
        if not found.reachable:
            raise StageFailed(f"{server.name} cannot be reached.")
        return FakeControl(found, self)

    def install(self, *jobs: tuple[Target, int], force: bool = False) -> list[Outcome]:
        return self.engine().install([self.job(*job, force=force) for job in jobs])

    def job(self, target: Target, generation: int, *, force: bool = False) -> Job:
        return Job(target, material(generation, certificate=target.certificate), force)

    def boot(self) -> None:
        self.boots += 1
        for server in self.servers:
            server.boot()

    def active(self) -> list[int | None]:
        return [in_place(str(target.directory)) for target in self.targets]


@dataclass
class FakeControl:
    of: FakeServer
    machine: FakeMachine

    def test(self) -> CommandResult | None:
        self.machine.tick()
        return self.of.test() if self.of.server.test else None

    def reload(self) -> CommandResult | None:
        self.machine.tick()
        return self.of.reload() if self.of.server.reload else None

    def start(self) -> CommandResult:
        self.machine.tick()
        return self.of.start()

    def running(self) -> Running:
        return self.of.running

    def boot_id(self) -> str:
        return f"boot-{self.machine.boots}"


class FakeSight(Sight):
    """Sees at once what there is to see; waiting takes no time."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(machine.clock, machine.clock.sleep)
        self.machine = machine

    def look(
        self, plans: Sequence[Plan], kinds: Sequence[str | None] = ()
    ) -> list[tuple[Look, ...]]:
        del kinds
        return [tuple(self._look(plan, point) for point in plan.probe) for plan in plans]

    def wait(self, awaited: Sequence[Awaited]) -> list[tuple[Look, ...]]:
        return self.look([one.plan for one in awaited])

    def _look(self, plan: Plan, point: ProbePoint) -> Look:
        directory = str(plan.target.directory)
        where = (point.address, point.port, point.sni)
        if directory in self.machine.unseen:
            return Look(*where, Answer.NOT_KNOWN, why="timed out")
        for server in self.machine.readers(directory):
            answer, leaf = server.look(directory)
            if leaf is not None:
                trouble = Trouble.MIXED_PAIR if answer is Answer.SHOWN else None
                return Look(*where, answer, leaf, not_after=NOW + 86400, trouble=trouble)
        return Look(*where, Answer.NONE, why="Connection refused")
