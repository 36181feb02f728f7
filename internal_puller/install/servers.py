"""The servers of a group: tested, told and looked after, each with the generations now in place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from internal_puller.install.judge import Reload
from internal_puller.install.member import Member
from internal_puller.install.presets import Plan
from internal_puller.install.server import STOPPED, Control, Running, Server

ControlOf = Callable[[Server, Sequence[tuple[Plan, int]]], Control]
PAUSE_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 1.0
"""A server that a reload kills may still look alive for a moment after it."""
_UNDER_WAY: Final = "it is starting or reloading, for longer than it may take"


@dataclass
class Servers:
    """
    Attributes:
        servers: of the group.
        members: whose files they read; whoever leaves them out takes them away here.
        control: how a server is told.
        monotonic, sleep: in seconds.
        ran: how each stood before anything was changed, by name.
        killed: names of those that an earlier reload of ours ended, and that do not run yet.
        failed_at_boot: names of those that the machine's last boot could not start.
        told: how each was told since the links were switched, and how that ended in words.
    """

    servers: tuple[Server, ...]
    members: list[Member]
    control: ControlOf
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    ran: dict[str, Running] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)
    failed_at_boot: set[str] = field(default_factory=set)
    told: dict[str, tuple[Reload, str]] = field(default_factory=dict)

    def boot_id(self) -> str:
        """Return what is another after each boot of their machine; empty if not known."""
        return next((self._of(server).boot_id() for server in self.servers), "")

    def look_around(self, killed: Collection[str] = ()) -> None:
        """See how they stand, before anything is changed.

        Args:
            killed: names of those that may be dead by a reload of an earlier run.
        """
        self.ran = {server.name: self.steady(server) for server in self.servers}
        self.killed = {name for name, one in self.ran.items() if name in killed and one in STOPPED}
        self.ran |= dict.fromkeys(self.killed, Running.YES)

    def look_after_boot(self) -> None:
        """See how they stand after a boot: one that it could not start ran before, or is let be."""
        for server in self.servers:
            now, ran = self.steady(server), self.ran.get(server.name)
            if now is Running.FAILED:
                self.failed_at_boot.add(server.name)
                now = Running.YES if ran in (Running.YES, Running.CHANGING) else now
            self.ran[server.name] = now

    def test(self, server: Server) -> str:
        """Test a configuration with the files in place; empty: it is not refused."""
        result = self._of(server).test()
        if result is not None and not result.ok:
            return f"{server.test[0] if server.test else 'test'} {result.describe()}"
        return ""

    def test_all(self) -> str:
        """Test every configuration, as far as the first that is refused; empty: none is."""
        return next(filter(None, map(self.test, self.servers)), "")

    def tell(self, server: Server, *, now: Running) -> None:
        """Reload it once, if it runs and nothing of the kind is under way."""
        if now is Running.CHANGING:
            self.told[server.name] = Reload.FAILED, _UNDER_WAY
        elif now in STOPPED or self.ran_before(server) in STOPPED:
            self.told[server.name] = Reload.NONE, ""
        else:
            result = self._of(server).reload()
            if result is None:
                self.told[server.name] = Reload.NONE, ""
            else:
                how = Reload.DONE if result.ok else Reload.FAILED
                self.told[server.name] = how, result.describe()

    def start(self, server: Server) -> None:
        """Start it; whether it runs then is seen, not believed."""
        self.told[server.name] = Reload.DONE, f"its start {self._of(server).start().describe()}"

    def start_after_boot(self, servers: Iterable[Server]) -> None:
        """Start what the last boot could not start, with the files that are in place now."""
        for server in servers:
            if server.name in self.failed_at_boot:
                self.start(server)
                if self.steady(server) is Running.YES:
                    self.ran[server.name] = Running.YES

    def how(self, server: Server) -> tuple[Reload, str]:
        """Return how one was told, and how that ended in words."""
        return self.told.get(server.name, (Reload.NONE, ""))

    def ran_before(self, server: Server) -> Running:
        """Return how it stood before anything was changed."""
        return self.ran.get(server.name, Running.NOT_KNOWN)

    def settled(self) -> dict[str, Running]:
        """Return how they stand, a moment after they were told."""
        if any(how is Reload.DONE for how, _ in self.told.values()):
            self.sleep(SETTLE_SECONDS)
        return {server.name: self.steady(server) for server in self.servers}

    def steady(self, server: Server) -> Running:
        """Return how one stands, once it neither starts nor reloads; for its patience at most."""
        deadline = self.monotonic() + server.patience
        while (now := self._of(server).running()) is Running.CHANGING:
            if self.monotonic() >= deadline:
                break
            self.sleep(PAUSE_SECONDS)
        return now

    def is_any_changing(self, servers: Sequence[Server]) -> bool:
        """Tell whether one of some is starting, reloading or stopping at this moment."""
        return any(self._of(server).running() is Running.CHANGING for server in servers)

    def _of(self, server: Server) -> Control:
        """Each time anew: what a command may want to know is what is in place now."""
        there = [one for one in self.members if server in one.servers]
        return self.control(server, [(one.plan, one.in_place) for one in there])
