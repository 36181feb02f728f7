"""What presets fill in: commands, files and points, for this machine and for another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from internal_puller.install.presets import resolve
from internal_puller.settings.presets.catalogue import Catalogue
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError
from shared.host import commands, systemctl

NAME = "www.intra.example.com"


@pytest.fixture(autouse=True)
def every_program_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "find_program", lambda argv: shutil.which(argv[0]) or "/")
    monkeypatch.setattr(systemctl, "is_there", lambda: True)


def test_any_unit_by_its_name(tmp_path: Path) -> None:
    plan = resolve(Target(NAME, (NAME,), tmp_path, preset="systemd", unit="gitea.service"))
    assert plan.reload_command == ("systemctl", "try-reload-or-restart", "gitea.service")
    assert (plan.test_command, plan.probe) == ((), ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "systemd"}, "the preset systemd needs unit"),
        ({"preset": "systemd", "unit": "a b.service"}, "no name of a systemd unit"),
        ({"preset": "systemd", "unit": "x; reboot"}, "no name of a systemd unit"),
        ({"preset": "tomcat"}, "preset tomcat needs pkcs12_password_file"),
        ({"preset": "nginxx"}, "There is no preset 'nginxx'; the nearest is 'nginx'"),
        ({"preset": ("nginx", "nginx")}, "each once"),
        ({"preset": ()}, "each once"),
        ({"preset": ("nginx", "none")}, "the preset none does not go with others"),
        ({"preset": ("nginx", "postfix"), "reload_command": ("x",)}, "reload_command is of one"),
        ({"preset": ("nginx", "postfix"), "unit": "x.service"}, "unit is of one server"),
        ({"server": "web"}, "server goes with test_command and reload_command"),
        ({"server": "a b", "reload_command": ("x",)}, "server 'a b' is not a name"),
    ],
)
def test_what_cannot_be(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Target(NAME, (NAME,), tmp_path, **changes)


def test_where_each_is_looked_at(tmp_path: Path) -> None:
    points = {
        preset: resolve(Target(NAME, (NAME, f"*.{NAME}"), tmp_path, preset=preset)).probe
        for preset in ("nginx", "postfix", "postgresql", "dovecot")
    }
    assert points["postfix"][0] == ProbePoint("127.0.0.1", 25, NAME, "smtp")
    assert points["postgresql"][0] == ProbePoint("127.0.0.1", 5432, NAME, "postgresql")
    assert [one.port for one in points["dovecot"]] == [993, 993]
    assert points["nginx"][1].sni == f"any.{NAME}"


def test_another_machine_is_looked_at_where_it_is(tmp_path: Path) -> None:
    plan = resolve(Target(NAME, (NAME,), tmp_path, preset="nginx", ssh="relay@10.0.0.7:2222"))
    assert plan.probe == (ProbePoint("10.0.0.7", 443, NAME),)
    assert plan.reload_command == ("systemctl", "reload", "nginx")
    assert plan.remote is not None
    assert (plan.remote.user, plan.remote.port) == ("relay", 2222)
    assert str(plan.remote.directory) == str(tmp_path)


def test_a_missing_program_is_named_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(argv: tuple[str, ...]) -> str:
        raise ConfigurationError(f"The command {argv[0]!r} does not exist.")

    monkeypatch.setattr(commands, "find_program", missing)
    with pytest.raises(ConfigurationError, match="The preset dovecot needs it") as refused:
        resolve(Target(NAME, (NAME,), tmp_path, preset="dovecot"))
    assert "Install dovecot" in refused.value.do


def two(tmp_path: Path, first: str) -> Target:
    """A target that two servers read; both commands of each leave a trace."""
    own = tmp_path / "presets.d"
    own.mkdir()
    for name, ends in (("one", first), ("two", "true")):
        scripts = (f"echo {name} {step} >>{tmp_path}/ran; {ends}" for step in STEPS)
        argv = [json.dumps(["sh", "-c", script]) for script in scripts]
        port = 25 if name == "one" else 587
        (own / f"{name}.toml").write_text(
            f"title = '{name}'\nprograms = []\nunits = []\ntest = {argv[0]}\nreload = {argv[1]}\n"
            f"without_systemd = {argv[1]}\nrestarts = false\npatience = 5\ncombined = []\n"
            f"formats = ['combined']\nprobe = ['tls:443', 'smtp:{port}']\n"
            "reads_as = ''\nhints.any = ['{current}']\n"
        )
    return Target(NAME, (NAME,), tmp_path, preset=("one", "two"), catalogue=Catalogue(own))


STEPS = ("test", "reload")


@pytest.mark.parametrize("step", STEPS)
def test_every_server_that_reads_the_files_is_told(tmp_path: Path, step: str) -> None:
    plan = resolve(two(tmp_path, "true"))
    assert plan.run_step(step, 1).ok
    assert (tmp_path / "ran").read_text() == f"one {step}\ntwo {step}\n"
    assert [(one.protocol, one.port) for one in plan.probe] == [
        ("tls", 443),
        ("smtp", 25),
        ("smtp", 587),
    ]


def test_what_one_server_refuses_is_not_told_to_the_next(tmp_path: Path) -> None:
    assert not resolve(two(tmp_path, "false")).run_step("test", 1).ok
    assert (tmp_path / "ran").read_text() == "one test\n"
