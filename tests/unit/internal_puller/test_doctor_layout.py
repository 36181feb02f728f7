"""What the doctor says of a target's directory: fixed names, and what mounts hold of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from internal_puller.doctor.doctor import diagnose
from internal_puller.doctor.layout import layout_findings
from internal_puller.install.generations import Generations
from internal_puller.install.mounts import Mounted
from internal_puller.settings.targets import Target, save_targets
from shared.contract.diagnosis import Finding, Verdict
from tests.machine import Machine
from tests.unit.internal_puller.install.helpers import NAME
from tests.unit.internal_puller.install.layouts import NOTHING, fixed_names, links, place

UNSEEN = Mounted(frozenset(), complete=False)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    target = Target(NAME, (NAME,), tmp_path / "live", formats=("fullchain", "privkey"))
    for generation in (1, 2):
        place(target, generation)
    return target


def found(target: Target, mounted: Mounted = NOTHING) -> list[Finding]:
    return list(layout_findings(target, "it", lambda: mounted))


def repaired_by_its_advice(target: Target, what: str) -> None:
    """The advice is a command; what it puts right is not found again."""
    [finding] = found(target)
    assert (finding.verdict, what in finding.what) == (Verdict.WARNING, True), finding
    subprocess.run(["sh", "-euc", finding.do], check=True)
    assert found(target) == []


def test_nothing_is_said_of_a_good_one(target: Target) -> None:
    assert found(target) == []


def test_before_the_first_installation(tmp_path: Path) -> None:
    assert found(Target(NAME, (NAME,), tmp_path / "new"), UNSEEN) == []


def test_a_link_is_missing(target: Target) -> None:
    (target.directory / "privkey.pem").unlink()
    repaired_by_its_advice(target, "privkey.pem is missing")
    assert fixed_names(target) == links("fullchain.pem", "privkey.pem")


def test_a_file_is_in_the_way(target: Target) -> None:
    (target.directory / "privkey.pem").unlink()
    (target.directory / "privkey.pem").write_text("by hand")
    repaired_by_its_advice(target, "was not made by internal-puller, and is left alone")
    assert (target.directory / "privkey.pem.old").read_text() == "by hand"


def test_the_one_file_is_another(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "live", layout="copy")
    place(target, 1)
    assert found(target) == []
    (target.directory / "combined.pem").write_text("by hand")
    repaired_by_its_advice(target, "combined.pem is not the file of the generation in place")
    (target.directory / "combined.pem").unlink()
    repaired_by_its_advice(target, "combined.pem is not the file of the generation in place")


@pytest.mark.parametrize("layout", ["link", "copy"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_advice_follows_no_link_that_is_put_there_meanwhile(
    tmp_path: Path, layout: str, kind: str
) -> None:
    """The directory may be the service's, and root pastes the command."""
    target = Target(NAME, (NAME,), tmp_path / "live", layout=layout, formats=("combined",))
    place(target, 1)
    victim = tmp_path / "victim"
    victim.mkdir() if kind == "directory" else victim.write_text("mine")
    one = target.directory / "combined.pem"
    one.unlink()
    [finding] = found(target)
    one.symlink_to(victim)
    subprocess.run(["sh", "-uc", finding.do], check=False)
    [again] = found(target) or [finding]
    (target.directory / "combined.pem.old").symlink_to(victim)
    subprocess.run(["sh", "-uc", again.do], check=False)
    assert list(victim.iterdir()) == [] if kind == "directory" else victim.read_text() == "mine"
    assert found(target) == []


def test_what_is_no_file_of_ours_is_not_read_whole(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "live", layout="copy")
    place(target, 1)
    one = target.directory / "combined.pem"
    one.unlink()
    os.mkfifo(one)  # nobody writes into it
    assert len(found(target)) == 1
    one.unlink()
    with one.open("wb") as file:
        file.truncate(1 << 40)
    assert len(found(target)) == 1


def test_a_mount_of_the_generation_in_place(target: Target) -> None:
    held = Mounted(frozenset({target.directory / "generations/2"}), complete=True)
    [finding] = found(target, held)
    assert finding.verdict is Verdict.WARNING
    assert "it will not see the next generation" in finding.what
    assert f"--volume {target.directory}:{target.directory}:ro" in finding.do
    assert f"(there it reads {target.directory}/fullchain.pem)" in finding.do


def test_a_mount_of_an_old_generation(target: Target) -> None:
    held = Mounted(frozenset({target.directory / "generations/1"}), complete=True)
    [finding] = found(target, held)
    assert finding.verdict is Verdict.PROBLEM
    assert "goes on with that old certificate for ever" in finding.what


def test_what_could_not_be_looked_at_is_not_called_well(target: Target) -> None:
    [finding] = found(target, UNSEEN)
    assert finding.verdict is Verdict.UNKNOWN
    assert "could not be looked at, so none is removed" in finding.what


def test_how_many_generations_piled_up(target: Target) -> None:
    with Generations(target) as generations:
        generations.prune(1, mounted=lambda: UNSEEN)
    for generation in (3, 4, 5):
        place(target, generation)
    assert found(target) == []  # keep is 3, and two are spared besides
    place(target, 6)
    [finding] = found(target)
    assert finding.verdict is Verdict.WARNING
    assert "6 generations are on disk, more than keep = 3" in finding.what
    assert len(found(target, UNSEEN)) == 2
    held = Mounted(frozenset({target.directory / "generations/1"}), complete=True)
    assert [one.verdict for one in found(target, held)] == [Verdict.PROBLEM]


def test_the_doctor_says_it(target: Target, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    machine.base.mkdir()
    save_targets(machine.settings.targets_file, [target])
    (target.directory / "privkey.pem").unlink()
    said = {one.check: one for one in diagnose(machine.settings).puller.findings}
    assert said["layout"].verdict is Verdict.WARNING
    assert said["layout"].subject == f"{NAME} in {target.directory}"
