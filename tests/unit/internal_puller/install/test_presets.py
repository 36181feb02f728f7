"""What presets fill in: commands, files and points, for this machine and for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from internal_puller.install import presets, servers
from internal_puller.install.presets import resolve
from internal_puller.settings.targets import ProbePoint, Target
from shared.contract.errors import ConfigurationError

NAME = "www.intra.example.com"


@pytest.fixture(autouse=True)
def every_program_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets.commands, "find_program", lambda argv: argv[0])
    monkeypatch.setattr(servers.systemctl, "is_there", lambda: True)


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

    monkeypatch.setattr(presets.commands, "find_program", missing)
    with pytest.raises(ConfigurationError, match="The preset dovecot needs it") as refused:
        resolve(Target(NAME, (NAME,), tmp_path, preset="dovecot"))
    assert "Install dovecot" in refused.value.do
