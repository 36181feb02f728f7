"""Random servers, groups, kills and boots: what must never be, and that it comes to rest."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from internal_puller.install import layout, notes
from internal_puller.install.server import Running
from internal_puller.settings.targets import Target
from tests.unit.internal_puller.install.fake_servers import FakeMachine, in_place
from tests.unit.internal_puller.install.reaper import reaped
from tests.unit.internal_puller.install.test_engine_killed import is_whole

MOST = 4
SITES = st.sets(st.integers(0, MOST - 1))


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, object]:
    return {
        "count": draw(st.integers(1, MOST)),
        "firsts": draw(SITES),
        "unnamed": draw(SITES),
        "second_server": draw(SITES),
        "unloadable": draw(SITES),
        "shown_only": draw(SITES),
        "no_probe": draw(SITES),
        "blind": draw(SITES),
        "test_reads_keys": draw(st.booleans()),
        "dies": draw(st.booleans()),
        "own_fault": draw(st.sampled_from([False, False, False, True])),
        "stopped": draw(st.sampled_from([False, False, False, True])),
        "kills": draw(st.lists(st.integers(1, 150), max_size=3)),
        "boots": draw(st.booleans()),
    }


def built(base: Path, world: dict[str, object]) -> FakeMachine:
    """Have the renewals' first generation served, and then let the world be as it is drawn."""
    machine = FakeMachine(base)
    servers = [machine.add_server("nginx"), machine.add_server("postfix")]
    sets = {name: value for name, value in world.items() if isinstance(value, set)}
    count = world["count"]
    assert isinstance(count, int)
    for number in range(count):
        readers = [servers[0], *([servers[1]] if number in sets["second_server"] else [])]
        first = number in sets["firsts"]
        machine.add_target(f"site{number}", *readers, needed=not first)
    machine.install(
        *((one, 1) for number, one in enumerate(machine.targets) if number not in sets["firsts"])
    )

    def chosen(name: str) -> list[Target]:
        return [one for number, one in enumerate(machine.targets) if number in sets[name]]

    named = [one for one in chosen("firsts") if one not in chosen("unnamed")]
    for server in servers:  # first ones that the configuration has been made to name since
        server.needs |= {str(one.directory) for one in named} & server.reads
        server.reads -= server.needs
        server.unloadable = {(str(one.directory), 2) for one in chosen("unloadable")}
        server.shown_only = {(str(one.directory), 2) for one in chosen("shown_only")}
        server.blind = {str(one.directory) for one in chosen("blind")}
        server.test_reads_keys = bool(world["test_reads_keys"])
        server.dies = bool(world["dies"])
        server.own_fault = bool(world["own_fault"])
    if world["stopped"]:
        servers[0].running = Running.NO
    machine.no_probe = {str(one.directory) for one in chosen("no_probe")}
    return machine


def pull(machine: FakeMachine) -> None:
    machine.engine().resume()
    wanted = [
        one
        for one in machine.targets
        if in_place(str(one.directory)) != 2
        and (2 not in layout.set_aside(one) or layout.set_aside(one)[2].alone)
    ]
    machine.install(*((one, 2) for one in wanted))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds())
def test_no_world_is_left_worse_than_it_was(world: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as base, pytest.MonkeyPatch.context() as monkeypatch:
        note(repr(world))
        machine = built(Path(base), world)
        ran = [one.running for one in machine.servers]
        kills = world["kills"]
        assert isinstance(kills, list)
        for at in kills:
            with reaped(at, monkeypatch) as reaper:
                machine.tick = reaper.tick
                pull(machine)
            machine.tick = lambda: None
            assert is_whole(machine)
            if world["boots"]:
                machine.engine().recover()
                assert is_whole(machine)
                begun = notes.has_note(machine.state)
                machine.boot()
                if not begun:  # what a boot alone has done is not ours to answer for
                    ran = [one.running for one in machine.servers]
        for _ in range(MOST + 2):
            pull(machine)
            assert is_whole(machine)
        _check_servers(machine, ran)
        _check_first_ones(machine)
        before = machine.active(), [len(one.did) for one in machine.servers]
        if not notes.has_note(machine.state):
            pull(machine)
            assert (machine.active(), [len(one.did) for one in machine.servers]) == before


def _check_servers(machine: FakeMachine, ran: list[Running]) -> None:
    """None that ran is dead, unless its configuration is broken or names what cannot be loaded."""
    for server, before in zip(machine.servers, ran, strict=True):
        hopeless = server.own_fault or any(
            (where, 2) in server.unloadable and in_place(where) == 2 for where in server.needs
        )
        if before is Running.YES and not hopeless:
            assert server.running is Running.YES, server.did
        if before is Running.NO:
            assert "start" not in server.did and server.running is Running.NO


def _check_first_ones(machine: FakeMachine) -> None:
    """A first pair that is not in place is one that the configuration does without."""
    for target in machine.targets:
        where = str(target.directory)
        if in_place(where) is None:
            assert all(where not in one.needs for one in machine.readers(where))
            assert any(
                (where, 2) in one.unloadable | one.shown_only for one in machine.readers(where)
            ) or _fell_with_others(target)


def _fell_with_others(target: Target) -> bool:
    mark = layout.set_aside(target).get(2)
    return mark is not None and mark.error_type == "install/server-died"
