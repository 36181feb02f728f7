"""A group of three, killed before each call that changes the disk or a server; with any boot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from internal_puller.install import notes
from internal_puller.install.server import Running
from tests.unit.internal_puller.install.fake_servers import FakeMachine, in_place, material
from tests.unit.internal_puller.install.reaper import Reaper, reaped

Scene = Callable[[FakeMachine], None]
NAMES = ("one", "two", "three")


def all_good(machine: FakeMachine) -> None:
    del machine


def one_refused(machine: FakeMachine) -> None:
    machine.servers[0].unloadable = {(str(machine.base / "two"), 2)}


def one_kills(machine: FakeMachine) -> None:
    one_refused(machine)
    machine.servers[0].dies, machine.servers[0].test_reads_keys = True, False


def one_is_shown_only(machine: FakeMachine) -> None:
    machine.servers[0].shown_only = {(str(machine.base / "two"), 2)}


def broken_before(machine: FakeMachine) -> None:
    machine.servers[0].own_fault = True


SCENES: dict[str, Scene] = {
    one.__name__: one
    for one in (all_good, one_refused, one_kills, one_is_shown_only, broken_before)
}


def staged(base: Path, scene: Scene) -> FakeMachine:
    """Two with generation 1 served, and a third that has had none and may be missing."""
    machine = FakeMachine(base)
    server = machine.add_server()
    for name in NAMES:
        machine.add_target(name, server, needed=name != "three")
    machine.install(*((one, 1) for one in machine.targets[:2]))
    scene(machine)
    server.did.clear()
    return machine


def pull(machine: FakeMachine) -> None:
    """What a pull does: finish, then install what is neither in place nor set aside for a day."""
    machine.engine().resume()
    wanted = [one for one in machine.targets if in_place(str(one.directory)) != 2]
    machine.install(*((one, 2) for one in wanted))


def is_whole(machine: FakeMachine) -> bool:
    """Tell whether what each link leads to is wholly one generation."""
    for target in machine.targets:
        generation = in_place(str(target.directory))
        if generation is None:
            continue
        made = material(generation, certificate=target.certificate)
        current = target.directory / "current"
        if (current / "fullchain.pem").read_text() != made.chain_pem:
            return False
        if (current / "privkey.pem").read_bytes() != made.key_pem:
            return False
    return True


def settled(machine: FakeMachine) -> tuple[object, ...]:
    for _ in range(4):
        pull(machine)
    server = machine.servers[0]
    loaded = sorted((Path(where).name, number) for where, number in server.loaded.items())
    return machine.active(), loaded, server.running, notes.has_note(machine.state)


def sweep(
    tmp_path: Path,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: int,
    boots: bool,
    losing: bool,
) -> int:
    expected = settled(staged(tmp_path / "whole", scene))
    kills, at = 0, 1
    while True:
        machine, reaper = killed(tmp_path / f"{at}-0", scene, at, monkeypatch)
        if reaper.calls < at:
            return kills
        losses = list(reaper.subsets())[1:] if losing else []
        check(machine, expected, boots=boots)
        for number, which in enumerate(losses, 1):
            machine, reaper = killed(tmp_path / f"{at}-{number}", scene, at, monkeypatch)
            reaper.lose(which)
            check(machine, expected, boots=boots)
        kills += 1 + len(losses)
        at += step


def killed(
    base: Path, scene: Scene, at: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[FakeMachine, Reaper]:
    machine = staged(base, scene)
    with reaped(at, monkeypatch) as reaper:
        machine.tick = reaper.tick
        pull(machine)
    machine.tick = lambda: None
    return machine, reaper


def check(machine: FakeMachine, expected: tuple[object, ...], *, boots: bool) -> None:
    assert is_whole(machine)
    server = machine.servers[0]
    if boots:
        machine.engine().recover()
        assert is_whole(machine)
        machine.boot()
    pull(machine)
    assert is_whole(machine)
    assert server.own_fault or server.running is Running.YES
    found = settled(machine)
    if boots and server.own_fault:  # it did not survive the boot, whatever we do
        found, expected = found[:1], expected[:1]
    assert found == expected, server.did


@pytest.mark.parametrize("scene", list(SCENES))
def test_killed_here_and_there(tmp_path: Path, scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweep(tmp_path, SCENES[scene], monkeypatch, step=67, boots=False, losing=False) > 1


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("boots", [False, True], ids=["at once", "after a boot"])
@pytest.mark.parametrize("scene", list(SCENES))
def test_killed_at_every_call_with_every_loss(
    tmp_path: Path,
    scene: str,
    boots: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kills = sweep(tmp_path, SCENES[scene], monkeypatch, step=1, boots=boots, losing=True)
    with capsys.disabled():
        print(f"\n{scene}, boots {boots}: {kills} kills, 0 mixed")
    assert kills > 40
