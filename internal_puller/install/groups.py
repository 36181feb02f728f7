"""Which targets belong together: those whose files one server reads, and so on from each to each.

A server's configuration is one thing: a test or a reload speaks of all the files it reads, so what
is new for them is put in place together, tested once and reloaded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from internal_puller.install.notes import name_of
from internal_puller.install.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internal_puller.install.presets import Plan

_RESTARTS: Final = ("restart", "try-restart")
_RESTART_SECONDS: Final = 90.0


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


def servers_of(plan: Plan) -> tuple[Server, ...]:
    """Return the servers that read a target's files; none where none is told anything."""
    target = plan.target
    if not plan.test_command and not plan.reload_command:
        return ()
    own = target.test_command is not None or target.reload_command is not None
    name = str(target.directory) if own else target.unit or target.preset
    unit, restarts = _unit_of(plan.reload_command)
    server = Server(
        name=name,
        machine=str(plan.remote) if plan.remote is not None else "",
        test=plan.test_command,
        reload=plan.reload_command,
        unit=unit,
        restarts=restarts,
        patience=_RESTART_SECONDS if restarts else target.probe_timeout,
    )
    return (server,)


def _unit_of(reload: tuple[str, ...]) -> tuple[str | None, bool]:
    if len(reload) != 3 or reload[0] != "systemctl":
        return None, False
    unit = reload[2] if "." in reload[2] else f"{reload[2]}.service"
    return unit, reload[1] in _RESTARTS
