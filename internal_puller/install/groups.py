"""Which targets belong together: those whose files one server reads, and so on from each to each.

A server's configuration is one thing: a test or a reload speaks of all the files it reads, so what
is new for them is put in place together, tested once and reloaded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from internal_puller.install.notes import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internal_puller.install.presets import Plan
    from internal_puller.install.server import Server


@dataclass(frozen=True)
class Group:
    """
    Attributes:
        plans: of its targets.
        servers: all that read files of one of them, at least one each but for a target that
            nothing is told about.
    """

    plans: tuple[Plan, ...]
    servers: tuple[Server, ...]

    @property
    def name(self) -> str:
        """What its note is called: by the servers, or by the target where there is none."""
        if self.servers:
            return name_of(repr(key_of(server)) for server in self.servers)
        return name_of(str(plan.target.directory) for plan in self.plans)


def key_of(server: Server) -> tuple[object, ...]:
    """Return by what two targets' servers are the same one."""
    return server.machine, server.name, server.test, server.reload


def group(plans: Iterable[Plan]) -> list[Group]:
    """Return the connected components of targets and servers, in the order of their firsts."""
    found: list[tuple[list[Plan], dict[tuple[object, ...], Server]]] = []
    for plan in plans:
        servers = {key_of(server): server for server in plan.servers}
        together = ([plan], servers)
        touched = [one for one in found if one[1].keys() & servers.keys()]
        for one in reversed(touched):
            together = ([*one[0], *together[0]], {**one[1], **together[1]})
        place = found.index(touched[0]) if touched else len(found)
        found = [one for one in found if one not in touched]
        found.insert(place, together)
    return [Group(tuple(plans), tuple(servers.values())) for plans, servers in found]
