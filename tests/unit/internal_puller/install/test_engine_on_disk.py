"""One target, real files, commands and a TLS server: installed, or back to what it was."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from internal_puller.install import layout
from internal_puller.install.engine import Job
from internal_puller.install.probe import probe_target
from internal_puller.install.verify import verify_active
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.targets import Target
from shared.contract.errors import (
    ConfigTestFailed,
    ConfigurationBrokenBefore,
    ConfigurationError,
    KeyMismatch,
    NotTakenUp,
    ReloadFailed,
)
from tests.unit.internal_puller.install.helpers import (
    NAME,
    NOW,
    CopyServer,
    copy_server,
    engine_of,
    is_noted,
    key_and_leaf_agree,
    material,
    put,
)


@dataclass
class Site:
    target: Target
    server: CopyServer

    def with_commands(self, **commands: tuple[str, ...]) -> Target:
        return dataclasses.replace(self.target, **commands)

    def served(self) -> str | None:
        return probe_target(self.target)[0].leaf_sha256


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    directory = tmp_path / "live"
    with copy_server(tmp_path, directory / "current") as server:
        target = Target(
            NAME,
            (NAME,),
            directory,
            test_command=("test", "-e", str(directory / "current/privkey.pem")),
            reload_command=server.reload_command,
            probe=(server.point,),
            probe_timeout=0.5,
        )
        yield Site(target, server)


def test_first_install_then_renewal(site: Site) -> None:
    first = put(site.target, 1)
    assert (first.verdict, first.error, first.changed, first.active) == (
        Verdict.SERVED,
        None,
        True,
        1,
    )
    assert first.before[0].leaf_sha256 is None
    assert first.looks[0].leaf_sha256 == material(1).leaf_sha256
    assert first.looks[0].not_after == material(1).not_after

    second = put(site.target, 2)
    assert (second.verdict, second.error, second.active) == (Verdict.SERVED, None, 2)
    assert second.before[0].leaf_sha256 == material(1).leaf_sha256
    assert second.looks[0].leaf_sha256 == material(2).leaf_sha256
    assert layout.list_generations(site.target) == (1, 2)
    assert not unfinished(site.target)
    assert verify_active(site.target).problems == ()
    assert verify_active(site.target).names == (NAME,)


def test_same_generation_again_is_only_probed(site: Site) -> None:
    put(site.target, 1)
    before = (site.target.directory / "current/privkey.pem").stat().st_ino
    report = put(site.with_commands(reload_command=("false",)), 1)
    assert (report.verdict, report.changed, report.error) == (Verdict.SERVED, False, None)
    assert (site.target.directory / "current/privkey.pem").stat().st_ino == before


def test_active_but_not_served_is_reloaded(site: Site) -> None:
    put(site.target, 1)
    (site.server.loaded / "fullchain.pem").unlink()
    assert site.served() is None
    report = put(site.target, 1)
    assert (report.verdict, report.changed, report.error) == (Verdict.SERVED, False, None)
    assert report.looks[0].leaf_sha256 == material(1).leaf_sha256


REFUSES_2 = ("sh", "-c", 'test "$RELAY_GENERATION" != 2')


def test_what_the_test_refuses_goes_back_and_is_not_tried_again_unasked(site: Site) -> None:
    put(site.target, 1)
    refuses = site.with_commands(test_command=REFUSES_2)
    report = put(refuses, 2)
    assert report.verdict is Verdict.BACK_BY_TEST
    assert isinstance(report.error, ConfigTestFailed)
    assert "sh ended with exit code 1" in report.error.what
    assert (report.active, report.changed) == (1, True)
    assert report.looks[0].leaf_sha256 == material(1).leaf_sha256 == site.served()
    assert not unfinished(site.target)
    assert layout.set_aside(refuses)[2].error_type == ConfigTestFailed.type
    assert layout.set_aside(refuses)[2].at == NOW

    link = os.lstat(refuses.directory / "current").st_ino
    again = put(site.target, 2)  # the cause is fixed, but nobody asked
    assert (again.verdict, again.changed) == (Verdict.BACK_BY_TEST, False)
    assert isinstance(again.error, ConfigTestFailed)
    assert os.lstat(refuses.directory / "current").st_ino == link

    forced = put(site.target, 2, force=True)
    assert (forced.verdict, forced.error, forced.active) == (Verdict.SERVED, None, 2)
    assert layout.set_aside(refuses) == {}


def test_a_test_that_refuses_everything_keeps_the_new_files(site: Site) -> None:
    put(site.target, 1)
    report = put(site.with_commands(test_command=("false",)), 2)
    assert isinstance(report.error, ConfigurationBrokenBefore)
    assert (report.verdict, report.active) == (Verdict.BROKEN_BEFORE, 2)
    assert site.served() == material(1).leaf_sha256
    assert layout.set_aside(site.target) == {}


def test_reload_fails_then_the_new_files_stay_and_the_old_are_served(site: Site) -> None:
    put(site.target, 1)
    report = put(site.with_commands(reload_command=("false",)), 2)
    assert isinstance(report.error, ReloadFailed)
    assert (report.verdict, report.active) == (Verdict.RELOAD_FAILED, 2)
    assert site.served() == material(1).leaf_sha256


def test_a_server_that_keeps_the_old_one_is_told_again(site: Site) -> None:
    put(site.target, 1)
    report = put(site.with_commands(reload_command=("true",)), 2)
    assert isinstance(report.error, NotTakenUp)
    assert (report.verdict, report.active, report.changed) == (Verdict.NOT_TAKEN_UP, 2, True)
    assert layout.set_aside(site.target) == {}
    [again] = engine_of(site.target).look_again([site.target])
    assert (again.verdict, again.changed) == (Verdict.SERVED, False)
    assert site.served() == material(2).leaf_sha256


def test_what_breaks_the_server_goes_back(site: Site) -> None:
    """Its reload copies 2 without its key."""
    put(site.target, 1)
    copies = " ".join(site.server.reload_command)
    broken = f'{copies}; test "$RELAY_GENERATION" != 2 || rm {site.server.loaded}/privkey.pem'
    report = put(site.with_commands(reload_command=("sh", "-c", broken)), 2)
    assert (report.verdict, report.active) == (Verdict.BACK_BY_LEAF, 1)
    assert site.served() == material(1).leaf_sha256
    assert set(layout.set_aside(site.target)) == {2}
    assert put(site.target, 3).verdict is Verdict.SERVED


def test_going_back_that_does_not_help_leaves_the_new_files(site: Site) -> None:
    put(site.target, 1)
    breaks = ("rm", "-f", str(site.server.loaded / "fullchain.pem"))
    report = put(site.with_commands(reload_command=breaks), 2)
    assert (report.verdict, report.active) == (Verdict.NOT_CAUSED, 2)
    assert not unfinished(site.target)
    assert put(site.target, 2).verdict is Verdict.SERVED


def test_a_key_store_alone_is_enough(site: Site, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("changeit\n")
    password.chmod(0o600)
    nothing = {"test_command": (), "reload_command": (), "probe": ()}
    target = dataclasses.replace(
        site.target, formats=("pkcs12",), pkcs12_password_file=password, **nothing
    )
    for generation in (1, 2):
        assert put(target, generation).error is None
    assert verify_active(target).problems == ()
    assert rolled_back(target).active == 1


def test_missing_command_is_said_before_anything_is_written(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="'/no/such/reload' does not exist"):
        put(site.with_commands(reload_command=("/no/such/reload", "now")), 1)
    assert not site.target.directory.exists()


def test_key_of_another_leaf_is_never_written(site: Site) -> None:
    wrong = dataclasses.replace(material(1), key_pem=material(2).key_pem)
    [report] = engine_of(site.target).install([Job(site.target, wrong)])
    assert isinstance(report.error, KeyMismatch)
    assert layout.list_generations(site.target) == ()


def test_material_never_shows_its_key() -> None:
    assert "PRIVATE" not in repr(material(1))


def test_operator_rolls_back_and_the_next_pull_does_not_undo_it(site: Site) -> None:
    for generation in (1, 2, 3):
        put(site.target, generation)
    report = rolled_back(site.target)
    assert (report.verdict, report.generation, report.active) == (Verdict.SERVED, 2, 2)
    assert site.served() == material(2).leaf_sha256
    assert put(site.target, 3).active == 2
    assert put(site.target, 3, force=True).active == 3

    assert rolled_back(site.target, 1).active == 1
    for to, what in ((None, "no older generation"), (7, "no generation 7")):
        error = rolled_back(site.target, to).error
        assert isinstance(error, ConfigurationError) and what in error.what


def test_damaged_generation_is_not_rolled_back_to(site: Site) -> None:
    put(site.target, 1)
    put(site.target, 2)
    (site.target.directory / "generations/1/privkey.pem").write_bytes(material(3).key_pem)
    error = rolled_back(site.target).error
    assert isinstance(error, ConfigurationError) and "not that of the certificate" in error.what
    assert layout.active_generation(site.target) == 2


def test_pruning_keeps_active_and_previous(site: Site) -> None:
    target = dataclasses.replace(site.target, keep=1)
    for generation in range(1, 5):
        put(target, generation)
    assert layout.list_generations(target) == (3, 4)
    assert put(dataclasses.replace(target, keep=3), 5).active == 5
    assert layout.list_generations(target) == (3, 4, 5)


def test_damaged_or_reconfigured_generation_is_written_beside_never_over(site: Site) -> None:
    put(site.target, 1)
    (site.target.directory / "current/cert.pem").write_bytes(b"scribbled")
    assert verify_active(site.target).problems == ("cert.pem does not agree with the other files",)
    report = put(site.target, 1)
    assert (report.verdict, report.active, report.changed) == (Verdict.SERVED, 1, True)
    assert str((site.target.directory / "current").readlink()) == "generations/1.1"
    assert verify_active(site.target).problems == ()

    combined = dataclasses.replace(site.target, formats=("fullchain", "privkey", "combined"))
    assert put(combined, 1).active == 1
    assert (site.target.directory / "current/combined.pem").exists()
    assert layout.list_generations(site.target) == (1,)


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_modes_do_not_depend_on_the_umask(site: Site, umask: int) -> None:
    earlier = os.umask(umask)
    try:
        report = put(dataclasses.replace(site.target, reload_command=(), probe=()), 1)
    finally:
        os.umask(earlier)
    assert report.error is None
    current = site.target.directory / "current"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in current.iterdir()}
    assert modes == {
        "cert.pem": 0o644,
        "chain.pem": 0o644,
        "fullchain.pem": 0o644,
        "generation.json": 0o644,
        "privkey.pem": 0o600,
    }
    for directory in (site.target.directory, site.target.directory / "generations", current):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert key_and_leaf_agree(site.target.directory)


def test_commands_get_paths_and_never_the_key(site: Site, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    command = ("sh", "-c", f"env > {seen}; cat /proc/$PPID/cmdline /proc/$PPID/environ >> {seen}")
    report = put(site.with_commands(test_command=command), 1)
    assert report.error is None
    text = seen.read_bytes()
    for line in (
        f"RELAY_CERTIFICATE={NAME}",
        "RELAY_GENERATION=1",
        f"RELAY_DIRECTORY={site.target.directory}/current",
        f"RELAY_KEY_FILE={site.target.directory}/current/privkey.pem",
    ):
        assert line.encode() in text
    key = (site.target.directory / "current/privkey.pem").read_bytes().splitlines()[1]
    assert key not in text
    assert b"PRIVATE" not in text
    assert key.decode() not in repr(report)


def test_rolling_back_to_what_is_active_never_takes_it_away(site: Site) -> None:
    put(site.target, 1)
    assert rolled_back(site.target, 1).error is None
    report = rolled_back(site.with_commands(test_command=("false",)), 1)
    assert isinstance(report.error, ConfigurationBrokenBefore)
    assert (report.active, layout.set_aside(site.target)) == (1, {})
    assert site.served() == material(1).leaf_sha256


def test_nothing_installed_is_said(site: Site) -> None:
    assert verify_active(site.target).problems == ("nothing is installed",)
    site.target.directory.mkdir()
    assert verify_active(site.target).problems == ("nothing is installed",)
    put(site.target, 1)
    shutil.rmtree(site.target.directory / "generations/1")
    assert verify_active(site.target).problems != ()
    assert put(site.target, 1).error is None


def test_hook_that_hangs_is_killed_and_reported(site: Site) -> None:
    put(site.target, 1)
    hangs = site.with_commands(reload_command=("sleep", "300"))
    report = put(dataclasses.replace(hangs, command_timeout=0.2), 2)
    assert isinstance(report.error, ReloadFailed)
    assert "did not end within 0.2 s and was killed" in report.error.what
    assert (report.verdict, report.active) == (Verdict.RELOAD_FAILED, 2)
    assert site.served() == material(1).leaf_sha256


def rolled_back(target: Target, to: int | None = None) -> Outcome:
    [outcome] = engine_of(target).roll_back([target], to)
    return outcome


def unfinished(target: Target) -> bool:
    return is_noted(target.directory.parent / "state", target)
