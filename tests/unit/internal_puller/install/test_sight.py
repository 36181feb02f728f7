"""Waiting for a new leaf, against what servers do while they take it up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from internal_puller.install import probe
from internal_puller.install.presets import resolve
from internal_puller.install.sight import Awaited, Sight
from internal_puller.outbox.look import Answer, Look, shows
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from tests.unit.internal_puller.install.helpers import NAME, Clock

POINTS = (ProbePoint("127.0.0.1", 443, NAME),)
OLD = Look("127.0.0.1", 443, NAME, Answer.PROVEN, "bb", 1)
NEW = Look("127.0.0.1", 443, NAME, Answer.PROVEN, "aa", 1)
SHUT = Look("127.0.0.1", 443, NAME, Answer.NONE, why="connection refused")


class World:
    """What is shown at which second; each look takes ``cost`` of them."""

    def __init__(self, shown: Callable[[float], Look], cost: float = 0.0) -> None:
        self.clock, self.shown, self.cost, self.times = Clock(), shown, cost, list[float]()
        self.kinds = set[str | None]()

    def look_all(
        self, points: tuple[ProbePoint, ...], timeout: float, kind: str | None
    ) -> tuple[Look, ...]:
        self.times.append(self.clock())
        self.kinds.add(kind)
        seen = self.shown(self.clock())
        self.clock.sleep(min(self.cost, timeout))
        return (seen,) * len(points)


def awaited(shows_it: str = "aa", seconds: float = 15, **more: Any) -> Awaited:
    plan = resolve(Target(NAME, (NAME,), Path("/nowhere"), probe=POINTS))
    return Awaited(plan, lambda looks: shows(looks, shows_it), seconds, **more)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Look, ...]]:
    def waited(world: World, seconds: float = 15, **more: Any) -> tuple[Look, ...]:
        monkeypatch.setattr(probe, "look_all", world.look_all)
        [looks] = Sight(world.clock, world.clock.sleep).wait([awaited("aa", seconds, **more)])
        return looks

    return waited


Wait = Callable[..., tuple[Look, ...]]


def test_three_in_a_row_over_a_second(wait: Wait) -> None:
    """Up to four new ones in a row within a tenth of a second were seen while an old one lived."""
    new_at = (1.0, 1.01, 1.02, 1.03)
    world = World(lambda now: NEW if now in new_at or now >= 1.2 else OLD)
    assert shows(wait(world, kind="rsa"), "aa")
    streak = [now for now in world.times if now >= 1.2]
    assert len(streak) >= 3 and streak[-1] - streak[0] >= 1.0
    assert world.clock() < 3 and world.kinds == {"rsa"}


def test_workers_that_change_one_by_one(wait: Wait) -> None:
    world = World(lambda now: NEW if now >= 5 or int(now * 10) % 3 else OLD, cost=0.01)
    assert shows(wait(world), "aa")
    assert world.clock() >= 6


def test_looks_that_take_long_are_three_all_the_same(wait: Wait) -> None:
    world = World(lambda now: NEW, cost=1.5)
    assert shows(wait(world), "aa")
    assert len(world.times) == 3


def test_waiting_is_bounded(wait: Wait) -> None:
    world = World(lambda now: OLD)
    assert not shows(wait(world, 5), "aa")
    assert 5 <= world.clock() < 6


def test_streak_that_began_in_time_is_seen_to_its_end(wait: Wait) -> None:
    world = World(lambda now: NEW if now >= 4.9 else OLD)
    assert shows(wait(world, 5), "aa")
    assert 5.8 < world.clock() < 6.5


def test_limit_counts_from_when_the_server_runs(wait: Wait) -> None:
    """A restart that takes 40 s, and 3 s more until the port is open."""
    world = World(lambda now: NEW if now >= 43 else SHUT)
    assert shows(wait(world, 5, starting=lambda: world.clock() < 40, patience=120), "aa")
    late = World(lambda now: NEW if now >= 47 else SHUT)
    assert wait(late, 5, starting=lambda: late.clock() < 40, patience=120) == (SHUT,)
    assert late.clock() < 46


def test_server_that_starts_for_ever_is_waited_for_with_patience(wait: Wait) -> None:
    world, asked = World(lambda now: SHUT), list[float]()

    def starting() -> bool:
        asked.append(world.clock())
        return True

    assert wait(world, 5, starting=starting, patience=60) == (SHUT,)
    assert 60 <= world.clock() < 66
    assert 50 < len(asked) < 70  # a command each time: not at every look


def test_old_leaf_while_it_is_starting_is_an_answer(wait: Wait) -> None:
    world = World(lambda now: OLD)
    assert wait(world, 5, starting=lambda: True, patience=120) == (OLD,)
    assert world.clock() < 6


def test_nothing_to_look_at() -> None:
    blind = replace(awaited(), plan=replace(awaited().plan, probe=()))
    assert Sight().wait([blind]) == [()]
    assert Sight().wait([]) == []


def test_each_is_waited_for_as_long_as_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has shown its leaf is looked at no more, and who has less time gives up alone."""
    world = World(lambda now: NEW)
    monkeypatch.setattr(probe, "look_all", world.look_all)
    wanted = [awaited(), awaited("bb", 3), awaited("bb", 6)]
    looks = Sight(world.clock, world.clock.sleep).wait(wanted)
    assert looks == [(NEW,)] * 3
    assert 6 <= world.clock() < 6.5
    assert sum(1 for now in world.times if now > 1.5) == pytest.approx(15 + 45, abs=5)
