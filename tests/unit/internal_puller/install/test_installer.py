"""One target, a real TLS server: installed, or back to what it was."""

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
from internal_puller.install.formats import render
from internal_puller.install.generations import Generations, Unfinished
from internal_puller.install.installer import install, resume, roll_back
from internal_puller.install.presets import resolve
from internal_puller.install.probe import probe_target
from internal_puller.install.trial import Trial
from internal_puller.install.verify import verify_active
from internal_puller.settings.targets import Target
from shared.contract.errors import (
    ConfigTestFailed,
    ConfigurationError,
    KeyMismatch,
    ReloadFailed,
    RollbackFailed,
    ServedMismatch,
)
from tests.unit.internal_puller.install.helpers import (
    NAME,
    NOW,
    CopyServer,
    copy_server,
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
    assert (first.outcome, first.error, first.changed, first.active) == ("installed", None, True, 1)
    assert first.served_before[0].leaf_sha256 is None
    assert first.served[0].leaf_sha256 == material(1).leaf_sha256
    assert first.served[0].not_after == material(1).not_after

    second = put(site.target, 2)
    assert (second.outcome, second.error, second.active) == ("installed", None, 2)
    assert second.served_before[0].leaf_sha256 == material(1).leaf_sha256
    assert second.served[0].leaf_sha256 == material(2).leaf_sha256
    assert layout.list_generations(site.target) == (1, 2)
    assert not layout.unfinished(site.target)
    assert verify_active(site.target).problems == ()
    assert verify_active(site.target).names == (NAME,)


def test_same_generation_again_is_only_probed(site: Site) -> None:
    put(site.target, 1)
    before = (site.target.directory / "current/privkey.pem").stat().st_ino
    report = put(site.with_commands(reload_command=("false",)), 1)
    assert (report.outcome, report.changed, report.error) == ("installed", False, None)
    assert (site.target.directory / "current/privkey.pem").stat().st_ino == before


def test_active_but_not_served_is_reloaded(site: Site) -> None:
    put(site.target, 1)
    (site.server.loaded / "fullchain.pem").unlink()
    assert site.served() is None
    report = put(site.target, 1)
    assert (report.outcome, report.changed, report.error) == ("installed", False, None)
    assert report.served[0].leaf_sha256 == material(1).leaf_sha256


def test_config_test_fails_then_previous_stays(site: Site) -> None:
    put(site.target, 1)
    report = put(site.with_commands(test_command=("false",)), 2)
    assert report.outcome == "rolled_back"
    assert isinstance(report.error, ConfigTestFailed)
    assert "false (test) ended with exit code 1" in report.error.what
    assert report.active == 1
    assert report.served[0].leaf_sha256 == material(1).leaf_sha256 == site.served()
    assert not layout.unfinished(site.target)


def test_reload_fails_then_previous_is_served(site: Site) -> None:
    put(site.target, 1)
    report = put(site.with_commands(reload_command=("false",)), 2)
    assert isinstance(report.error, ReloadFailed)
    assert (report.outcome, report.active) == ("rolled_back", 1)
    assert site.served() == material(1).leaf_sha256


def test_server_that_keeps_the_old_one_is_rolled_back_once_without_flapping(site: Site) -> None:
    put(site.target, 1)
    keeps = site.with_commands(reload_command=("true",))
    report = put(keeps, 2)
    assert isinstance(report.error, ServedMismatch)
    assert (report.outcome, report.active, report.changed) == ("rolled_back", 1, True)
    assert layout.set_aside(keeps)[2].error_type == ServedMismatch.type
    assert layout.set_aside(keeps)[2].at == NOW

    link = os.lstat(keeps.directory / "current").st_ino
    again = put(site.target, 2)  # the cause is mended, but nobody asked
    assert (again.outcome, again.changed) == ("rolled_back", False)
    assert isinstance(again.error, ServedMismatch)
    assert os.lstat(keeps.directory / "current").st_ino == link

    forced = put(site.target, 2, force=True)
    assert (forced.outcome, forced.error, forced.active) == ("installed", None, 2)
    assert layout.set_aside(keeps) == {}


def test_newer_generation_installs_although_one_was_set_aside(site: Site) -> None:
    put(site.target, 1)
    put(site.with_commands(reload_command=("true",)), 2)
    assert put(site.target, 3).outcome == "installed"


def test_first_install_that_fails_leaves_nothing_in_place(site: Site) -> None:
    report = put(site.with_commands(test_command=("false",)), 1)
    assert (report.outcome, report.active) == ("rolled_back", None)
    assert isinstance(report.error, ConfigTestFailed)
    assert not (site.target.directory / "current").is_symlink()
    assert not layout.unfinished(site.target)


def test_roll_back_that_cannot_be_seen_wants_a_person_and_heals_later(site: Site) -> None:
    put(site.target, 1)
    breaks = ("rm", "-f", str(site.server.loaded / "fullchain.pem"))
    report = put(site.with_commands(reload_command=breaks), 2)
    assert isinstance(report.error, RollbackFailed)
    assert isinstance(report.error.__cause__, ServedMismatch)
    assert (report.outcome, report.active, report.exit_code) == ("rolled_back", 1, 12)
    assert layout.unfinished(site.target)

    healed = resume(site.target, now=NOW)
    assert healed is not None
    assert (healed.outcome, healed.active) == ("rolled_back", 1)
    assert isinstance(healed.error, ServedMismatch)
    assert site.served() == material(1).leaf_sha256
    assert resume(site.target, now=NOW) is None


def test_a_roll_back_by_hand_after_one_that_failed_keeps_the_good_one(site: Site) -> None:
    """Of 1, 2 and a 3 that broke the server, 2 is meant, and only 3 is set aside."""
    put(site.target, 1)
    put(site.target, 2)
    breaks = ("rm", "-f", str(site.server.loaded / "fullchain.pem"))
    assert put(site.with_commands(reload_command=breaks), 3).exit_code == 12
    report = roll_back(site.target, now=NOW)
    assert (report.error, report.active) == (None, 2)
    assert site.served() == material(2).leaf_sha256
    assert set(layout.set_aside(site.target)) == {3}


def test_a_configuration_that_broke_after_a_kill_is_reloaded_when_it_is_mended(site: Site) -> None:
    """The killed run had reloaded 2; going back to 1 needs a reload although the test fails."""
    put(site.target, 1)
    put(site.target, 2)
    with Generations(site.target) as generations:
        generations.begin(Unfinished("2", "1"))
    (site.server.loaded / "fullchain.pem").unlink()  # so that 2 is not confirmed by a look
    broken = resume(site.with_commands(test_command=("false",)), now=NOW)
    assert broken is not None and broken.exit_code == 12
    healed = resume(site.target, now=NOW)
    assert healed is not None and healed.active == 1
    assert site.served() == material(1).leaf_sha256


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
    assert roll_back(target, now=NOW).active == 1


def test_missing_command_is_said_before_anything_is_written(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="'/no/such/reload' does not exist"):
        put(site.with_commands(reload_command=("/no/such/reload", "now")), 1)
    assert not site.target.directory.exists()


def test_key_of_another_leaf_is_never_written(site: Site) -> None:
    wrong = dataclasses.replace(material(1), key_pem=material(2).key_pem)
    with pytest.raises(KeyMismatch):
        install(wrong, site.target, now=NOW)
    assert not site.target.directory.exists()


def test_material_never_shows_its_key() -> None:
    assert "PRIVATE" not in repr(material(1))


def test_operator_rolls_back_and_the_next_pull_does_not_undo_it(site: Site) -> None:
    for generation in (1, 2, 3):
        put(site.target, generation)
    report = roll_back(site.target, now=NOW)
    assert (report.outcome, report.generation, report.active) == ("installed", 2, 2)
    assert site.served() == material(2).leaf_sha256
    assert put(site.target, 3).active == 2
    assert put(site.target, 3, force=True).active == 3

    assert roll_back(site.target, 1, now=NOW).active == 1
    with pytest.raises(ConfigurationError, match="no older generation"):
        roll_back(site.target, now=NOW)
    with pytest.raises(ConfigurationError, match="no generation 7"):
        roll_back(site.target, 7, now=NOW)


def test_damaged_generation_is_not_rolled_back_to(site: Site) -> None:
    put(site.target, 1)
    put(site.target, 2)
    (site.target.directory / "generations/1/privkey.pem").write_bytes(material(3).key_pem)
    with pytest.raises(ConfigurationError, match="not that of the certificate"):
        roll_back(site.target, now=NOW)
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
    assert (report.outcome, report.active, report.changed) == ("installed", 1, True)
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
    assert roll_back(site.target, 1, now=NOW).error is None
    report = roll_back(site.with_commands(test_command=("false",)), 1, now=NOW)
    assert isinstance(report.error, ConfigTestFailed)
    assert (report.active, layout.set_aside(site.target)) == (1, {})
    assert site.served() == material(1).leaf_sha256


class _Killed(BaseException):
    """Caught by nothing of the product."""


@pytest.mark.lab
def test_killed_between_activation_and_verdict_goes_on_or_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Link and note say 2, the server has 1."""

    def killed(*_: object) -> None:
        raise _Killed

    for fails in (False, True):
        put(site.target, 1, force=True)
        with monkeypatch.context() as patch, pytest.raises(_Killed):
            patch.setattr(Trial, "bring", killed)
            put(site.target, 2, force=True)
        target = site.with_commands(reload_command=("true",)) if fails else site.target
        report = resume(target, now=NOW)
        assert report is not None
        assert report.generation == 2
        assert report.active == (1 if fails else 2)
        assert isinstance(report.error, ServedMismatch) is fails
        assert not layout.unfinished(target)


def test_newer_generation_over_an_unfinished_one_goes_back_to_the_last_good(site: Site) -> None:
    put(site.target, 1)
    with Generations(site.target) as generations:
        plan = resolve(site.target)
        files = render(material(2), plan.rendering)
        name = generations.stage(2, files, plan.accounts, None)
        generations.begin(Unfinished(name, "1"))
        generations.activate(name)
    report = put(site.with_commands(reload_command=("true",)), 3)
    assert isinstance(report.error, ServedMismatch)
    assert report.active == 1


def test_nothing_installed_is_said(site: Site) -> None:
    assert verify_active(site.target).problems == ("nothing is installed",)
    site.target.directory.mkdir()
    assert verify_active(site.target).problems == ("nothing is installed",)
    put(site.target, 1)
    shutil.rmtree(site.target.directory / "generations/1")
    assert verify_active(site.target).problems != ()
    assert put(site.target, 1).error is None


def test_hook_that_hangs_is_killed_rolled_back_and_reported(site: Site) -> None:
    put(site.target, 1)
    hangs = site.with_commands(reload_command=("sleep", "300"))
    report = put(dataclasses.replace(hangs, command_timeout=0.2), 2)
    assert isinstance(report.error, ReloadFailed)
    assert "sleep (reload) did not end within 0.2 s and was killed" in report.error.what
    assert (report.outcome, report.active) == ("rolled_back", 1)
    assert site.served() == material(1).leaf_sha256
