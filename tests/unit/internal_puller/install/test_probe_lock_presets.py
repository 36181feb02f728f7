"""Probing what is served, the host's lock, and what presets fill in."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from internal_puller.install.lock import installation_lock
from internal_puller.install.presets import check_target, probe_points, resolve, stand_in
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError, InstallBusy
from tests.unit.internal_puller.install.helpers import NAME, Clock

ROOT = Path(__file__).parents[4]


# --- presets ---------------------------------------------------------------------------------


def test_wildcard_is_probed_by_a_name_that_it_covers() -> None:
    assert stand_in("*.intra.example.com") == "any.intra.example.com"
    target = Target("w", ("*.a.example.com", "a.example.com"), Path("/srv/x"), preset="nginx")
    assert probe_points(target) == (
        ProbePoint("127.0.0.1", 443, "any.a.example.com"),
        ProbePoint("127.0.0.1", 443, "a.example.com"),
    )
    assert probe_points(dataclasses.replace(target, probe=())) == ()
    assert probe_points(dataclasses.replace(target, preset="none")) == ()


@pytest.mark.parametrize(
    ("preset", "extra"), [("nginx", ()), ("apache", ()), ("haproxy", ("combined",)), ("none", ())]
)
def test_presets(tmp_path: Path, preset: str, extra: tuple[str, ...]) -> None:
    commands = {"test_command": ("true",), "reload_command": ("true", "x")}
    target = Target(NAME, (NAME,), tmp_path / "live", preset=preset, **commands)
    plan = resolve(target)
    assert plan.formats == ("fullchain", "chain", "cert", "privkey", *extra)
    assert (plan.test_command, plan.reload_command) == (("true",), ("true", "x"))
    silent = dataclasses.replace(target, test_command=(), reload_command=(), formats=("combined",))
    plan = resolve(silent)
    assert (plan.test_command, plan.reload_command, plan.formats) == ((), (), ("combined",))


@pytest.mark.parametrize(
    ("preset", "able"),
    [
        *((one, True) for one in ("haproxy", "postfix", "none")),
        *((one, False) for one in ("nginx", "apache", "caddy", "dovecot", "postgresql")),
    ],
)
def test_the_one_file_is_for_presets_that_open_it_once(
    tmp_path: Path, preset: str, able: bool
) -> None:
    target = Target(
        *(NAME, (NAME,), tmp_path / "live"),
        preset=preset,
        test_command=(),
        reload_command=(),
        layout="copy",
    )
    if able:
        assert resolve(target).formats == ("combined",)
        return
    with pytest.raises(
        ConfigurationError, match=f"the preset {preset} opens certificate"
    ) as caught:
        resolve(target)
    assert "combined.pem: haproxy, postfix" in str(caught.value.do)


def test_check_target_makes_the_directory_or_says_why_not(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "a/b/live")
    check_target(target)
    assert target.directory.is_dir()
    with pytest.raises(ConfigurationError, match="no-such-command"):
        check_target(dataclasses.replace(target, reload_command=("no-such-command",)))


# --- lock ------------------------------------------------------------------------------------


def test_second_installation_leaves_politely(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with installation_lock(path):
        with pytest.raises(InstallBusy, match=str(path)), installation_lock(path):
            raise AssertionError
        clock = Clock()
        waiting = installation_lock(path, wait=3, clock=clock, sleep=clock.sleep)
        with pytest.raises(InstallBusy), waiting:
            raise AssertionError
        assert 3 <= clock.seconds < 4
    with installation_lock(path):
        pass


def test_second_installation_waits_if_it_may(tmp_path: Path) -> None:
    path, holding, order = tmp_path / "lock", threading.Event(), list[str]()

    def first() -> None:
        with installation_lock(path):
            holding.set()
            order.append("first")
            threading.Event().wait(0.2)
            order.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    assert holding.wait(10)
    with installation_lock(path, wait=10):
        order.append("second")
    thread.join()
    assert order == ["first", "first ends", "second"]


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; "
        "from internal_puller.install.lock import installation_lock as lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(300)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InstallBusy), installation_lock(path):
            raise AssertionError
        holder.kill()
    with installation_lock(path):
        pass


def test_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(ConfigurationError, match="cannot be opened"),
        installation_lock(tmp_path / "link"),
    ):
        raise AssertionError
    assert not (tmp_path / "victim").exists()
