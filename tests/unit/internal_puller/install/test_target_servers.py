"""Which servers read a target's files, and which targets share one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from internal_puller.install.server import Server
from internal_puller.install.target_servers import servers_of
from internal_puller.settings.presets.catalogue import NAMES
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError
from shared.host import systemctl

NAME = "www.intra.example.com"


def target(directory: str = "/srv/a", **members: Any) -> Target:
    return Target(NAME, (NAME,), Path(directory), **members)


@pytest.fixture(autouse=True)
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd whose units are here."""
    monkeypatch.setattr(systemctl, "is_there", lambda: True)
    monkeypatch.setattr(systemctl, "UNIT_DIRECTORIES", (tmp_path / "etc", tmp_path / "lib"))
    (tmp_path / "lib").mkdir()
    return tmp_path / "lib"


@pytest.fixture
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemctl, "is_there", lambda: False)


def one(of: Target) -> Server:
    (server,) = servers_of(of)
    return server


def test_targets_of_one_preset_share_its_server() -> None:
    first, second = one(target(preset="nginx")), one(target("/srv/b", preset="nginx"))
    assert first == second
    assert first == Server(
        "nginx", "", ("nginx", "-t"), ("systemctl", "reload", "nginx"), "nginx.service"
    )


def test_a_target_may_be_read_by_several() -> None:
    both = servers_of(target(preset=("nginx", "postfix")))
    assert [server.name for server in both] == ["nginx", "postfix"]
    assert both[0] == one(target("/srv/b", preset="nginx"))


def test_another_machine_is_another_server() -> None:
    there = one(target(preset="nginx", ssh="relay@10.0.0.7"))
    assert there.machine == "relay@10.0.0.7:22"
    assert there != one(target(preset="nginx"))
    assert one(target(preset="nginx", ssh="relay@[fd00::7]:2222")).machine == "relay@[fd00::7]:2222"


def test_commands_of_its_own_are_alone_unless_it_says_which_server() -> None:
    own: dict[str, Any] = {"test_command": ("t",), "reload_command": ("r",)}
    assert one(target(**own)) != one(target("/srv/b", **own))
    assert one(target(**own, server="web")) == one(target("/srv/b", **own, server="web"))
    assert one(target(preset="nginx", test_command=())) != one(target(preset="nginx"))
    in_full = target("/srv/b", preset="nginx", reload_command=("systemctl", "reload", "nginx"))
    assert one(in_full) == one(target(preset="nginx"))


def test_what_runs_nothing_has_no_server() -> None:
    assert servers_of(target()) == ()
    assert servers_of(target(preset="nginx", test_command=(), reload_command=())) == ()


@pytest.mark.parametrize(
    ("argv", "unit", "restarts"),
    [
        ("systemctl reload x", "x.service", False),
        ("systemctl try-restart x.service", "x.service", True),
        ("sudo -n /usr/bin/systemctl try-reload-or-restart x", "x.service", True),
        ("x reload", None, False),
        ("systemctl daemon-reload", None, False),
    ],
)
def test_a_unit_is_known_by_its_command(argv: str, unit: str | None, restarts: bool) -> None:
    server = one(target(reload_command=tuple(argv.split())))
    assert (server.unit, server.restarts) == (unit, restarts)


def test_the_unit_that_is_here(units: Path) -> None:
    assert one(target(preset="apache")).reload == ("systemctl", "reload", "apache2")
    (units / "httpd.service").touch()
    server = one(target(preset="apache"))
    assert (server.reload, server.unit) == (("systemctl", "reload", "httpd"), "httpd.service")
    assert (
        one(target(preset="apache", ssh="a@b")).unit == "apache2.service"
    )  # what is here says nothing


def test_the_unit_that_a_target_names() -> None:
    server = one(target(preset="postgresql", unit="postgresql@15-main.service"))
    assert server.reload == ("systemctl", "reload", "postgresql@15-main.service")
    assert server != one(target("/srv/b", preset="postgresql"))


def test_a_server_that_restarts_has_time(tmp_path: Path) -> None:
    server = one(target(preset="tomcat", pkcs12_password_file=tmp_path / "password"))
    assert server.restarts
    assert server.patience >= 60


@pytest.mark.usefixtures("no_systemd")
def test_without_systemd() -> None:
    assert one(target(preset="nginx")).reload == ("nginx", "-s", "reload")
    assert one(target(preset="nginx")).unit is None
    with pytest.raises(ConfigurationError, match="reloaded without it is not known") as refused:
        servers_of(target(preset="openldap"))
    assert "--reload-command" in (refused.value.do or "")
    assert one(target(preset="openldap", reload_command=("x",))).reload == ("x",)
    assert servers_of(target(preset="vsftpd", reload_command=())) == ()


def test_no_preset_starts_what_somebody_stopped() -> None:
    """On real programs: tests/e2e/test_stopped_servers.py."""
    starting = {"restart", "start", "reload-or-restart", "force-reload", "graceful"}
    for name in NAMES:
        preset = Target(NAME, (NAME,), Path("/a"), preset="none").catalogue.find(name)
        assert not starting & {*preset.reload, *preset.without_systemd}, name
