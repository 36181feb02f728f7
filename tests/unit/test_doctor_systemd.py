"""What doctors make of what systemd says, by a systemctl that says what it should."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from external_agent.doctor.machine import listener_findings
from internal_puller.doctor.doctor import diagnose
from internal_puller.doctor.machine import reload_findings, timer_findings
from internal_puller.doctor.service import Service, find_service, service_findings, setting_findings
from internal_puller.facts.schedule import SERVICE_STATE
from internal_puller.install.presets import Plan, resolve
from internal_puller.install.target_servers import servers_of
from internal_puller.settings.config import load_settings
from internal_puller.settings.targets import Target, save_targets
from shared.contract.diagnosis import Verdict
from shared.host import systemctl as systemctl_module
from tests.machine import Machine

ROOT = Path(__file__).parents[2]
NAME = "www.intra.example.com"


class Systemctl:
    """`is-active` knows the units in `active`, `show` says what is in `shown`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.program = base / "systemctl"
        (base / "shown").write_text("")
        self.answer(
            f"""case "$1 $2" in
            show*) cat {base}/shown;;
            "is-active on"*|"is-active woken.socket") echo active;;
            *) echo inactive; exit 3;;
            esac"""
        )

    def answer(self, script: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)

    def show(self, **members: str) -> None:
        text = "".join(f"{key}={value}\n" for key, value in members.items())
        (self.base / "shown").write_text(text)


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    monkeypatch.setattr(systemctl_module, "RUNS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Systemctl(tmp_path)


@pytest.mark.parametrize(
    ("command", "verdict", "words"),
    [
        ("systemctl reload on", Verdict.OK, "on.service runs"),
        ("systemctl reload on --no-block", Verdict.OK, "on.service runs"),
        ("/usr/bin/systemctl --no-block reload off", Verdict.PROBLEM, "off.service is inactive"),
        ("systemctl try-restart off", Verdict.PROBLEM, "off.service is inactive"),
        ("systemctl try-restart woken", Verdict.OK, "started when a client connects"),
        ("systemctl reload-or-restart off", Verdict.OK, "is there"),
        ("systemctl restart off", Verdict.OK, "is there"),
        ("systemctl start off.service", Verdict.OK, "is there"),
        ("nginx -s reload", Verdict.OK, "is there"),
    ],
)
def test_what_leaves_a_stopped_unit_needs_one_that_runs(
    systemctl: Systemctl, tmp_path: Path, command: str, verdict: Verdict, words: str
) -> None:
    (found,) = reload_findings(plan(tmp_path, command), "it")
    assert found.verdict is verdict and words in found.what


@pytest.mark.parametrize("fault", ["hangs", "is missing"])
def test_a_systemctl_that_gives_no_answer_leaves_it_unknown(
    systemctl: Systemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "hangs":
        systemctl.answer("exec sleep 60")
        monkeypatch.setattr(systemctl_module, "SECONDS", 0.05)
    else:
        monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    system = load_settings(environment={"RELAY_PULLER_STATE_DIRECTORY": str(SERVICE_STATE)})
    found = [*reload_findings(plan(tmp_path, "systemctl reload on"), "it"), *timer_findings(system)]
    assert [one.verdict for one in found] == [Verdict.UNKNOWN] * 2
    assert all(one.do for one in found)


def test_the_units_do_not_pull_for_another_users_puller(
    systemctl: Systemctl, tmp_path: Path
) -> None:
    """To enable them is no advice for it."""
    for state, verdict, words in (
        (SERVICE_STATE, Verdict.WARNING, "systemctl enable --now internal-puller.timer"),
        (tmp_path, Verdict.NOTE, "run internal-puller pull every hour"),
    ):
        settings = load_settings(environment={"RELAY_PULLER_STATE_DIRECTORY": str(state)})
        (found,) = timer_findings(settings)
        assert (found.verdict, found.do) == (verdict, words)


SHIPPED = {
    "LoadState": "loaded",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ReadWritePaths": "-/etc/split-horizon-relay/tls -/var/lib/split-horizon-relay/metrics",
    "StateDirectory": "split-horizon-relay/puller",
    "Environment": "XDG_CONFIG_HOME=/etc XDG_STATE_HOME=/var/lib",
}
KEPT = Path("/etc/split-horizon-relay")
STATE = Path("/var/lib/split-horizon-relay/puller")


@pytest.mark.parametrize(
    ("members", "shown", "verdict", "words"),
    [
        ({}, {}, None, ""),
        ({"directory": "/var/lib/split-horizon-relay/puller/tls"}, {}, None, ""),
        ({"directory": "/etc/nginx/tls"}, {}, Verdict.PROBLEM, "may not write to /etc/nginx/tls"),
        (  # a mount of its own, which no rename leaves
            {"directory": "/etc/nginx/tls"},
            {"ReadWritePaths": "/etc/nginx/tls"},
            *(Verdict.PROBLEM, "may not write to /etc/nginx/tls and beside it"),
        ),
        ({"directory": "/etc/nginx/tls/x"}, {"ReadWritePaths": "/etc/nginx/tls"}, None, ""),
        (
            {"directory": "/etc/nginx/tls"},
            {"ReadWritePaths": '-/etc/split-horizon-relay/tls "+/etc/nginx"'},
            *(None, ""),
        ),
        ({"directory": "/etc/nginx/tls"}, {"ProtectSystem": "no"}, None, ""),
        ({"directory": "/etc/nginx/tls"}, {"LoadState": "not-found"}, None, ""),
        ({"roots": "/root/ca.pem"}, {}, Verdict.WARNING, "roots is /root/ca.pem"),
        (
            {"roots": "/root/ca.pem"},
            {"ProtectHome": "no", "PrivateTmp": "no"},
            *(None, ""),
        ),
        ({"ssh": "relay@10.0.0.7"}, {}, Verdict.WARNING, "ssh_key and ssh_known_hosts of this"),
        (
            {"ssh": "relay@10.0.0.7", "ssh_key": "/etc/k", "ssh_known_hosts": "/etc/h"},
            *({}, None, ""),
        ),
    ],
)
def test_what_the_service_may_is_told_from_what_root_may(
    systemctl: Systemctl,
    members: dict[str, str],
    shown: dict[str, str],
    verdict: Verdict | None,
    words: str,
) -> None:
    systemctl.show(**SHIPPED | shown)
    service = find_service()
    assert (service is None) == ("LoadState" in shown)
    paths = {key: text if key == "ssh" else Path(text) for key, text in members.items()}
    target = Target(NAME, (NAME,), **{"directory": KEPT / "tls" / NAME} | paths)  # type: ignore[arg-type]
    found = [] if service is None else list(service_findings(service, target, "it"))
    assert [one.verdict for one in found] == ([] if verdict is None else [verdict])
    assert all(words in one.what and one.do for one in found)


def test_roots_own_ssh_configuration_is_not_the_services(
    systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of where it says something of that machine, and none is named."""
    systemctl.show(**SHIPPED)
    service = find_service()
    assert service is not None
    files = {"ssh_key": Path("/etc/k"), "ssh_known_hosts": Path("/etc/h")}
    asked = Target(NAME, (NAME,), KEPT / "tls" / NAME, ssh="relay@app", **files)

    def told(target: Target) -> list[str]:
        return [one.what for one in service_findings(service, target, "it")]

    for says_something in (False, True):
        monkeypatch.setattr(
            "internal_puller.doctor.service.has_own_settings",
            lambda machine, found=says_something: found and machine.config is None,
        )
        (said,) = told(asked) or [""]
        assert said.startswith("ssh_config of this user") == says_something
        assert told(dataclasses.replace(asked, ssh_config=Path("/etc/c"))) == []


def test_a_diagnosis_by_root_asks_for_the_service(systemctl: Systemctl, tmp_path: Path) -> None:
    systemctl.show(**SHIPPED)
    machine = Machine(tmp_path)
    target = Target(NAME, (NAME,), tmp_path / "tls", probe=())
    save_targets(machine.settings.targets_file, [target])
    said = [one.what for one in diagnose(machine.settings).puller.findings]
    assert any("internal-puller.service may not write to" in what for what in said), said


def test_the_lines_of_the_shipped_units_are_those_of_this_test() -> None:
    text = (ROOT / "deploy/systemd/internal-puller.service").read_text()
    for key, value in SHIPPED.items():
        assert key == "LoadState" or f"\n{key}={value}\n" in text


def test_a_proxy_of_this_users_environment_is_not_the_services(
    systemctl: Systemctl, tmp_path: Path
) -> None:
    machine, proxy = Machine(tmp_path), "http://proxy.example.com:3128"
    machine.change(state_directory=STATE, lock_file=None)
    for mine, shown, expected in (
        ("", {}, [Verdict.WARNING]),
        (proxy, {}, []),
        ("", {"Environment": f"HTTPS_PROXY={proxy}"}, []),
    ):
        systemctl.show(**SHIPPED | shown)
        service = find_service()
        assert service is not None
        machine.change(proxy=mine)
        found = list(setting_findings(service, machine.settings, proxy))
        assert [one.verdict for one in found] == expected
    machine.change(roots_file=Path("/root/me/roots.pem"))
    (found_roots,) = setting_findings(service, machine.settings, None)
    assert found_roots.verdict is Verdict.WARNING and "/root/me/roots.pem" in found_roots.what


def test_a_state_directory_that_the_service_cannot_write_is_named(
    systemctl: Systemctl, tmp_path: Path
) -> None:
    systemctl.show(**SHIPPED)
    service, machine = find_service(), Machine(tmp_path)
    assert service is not None
    for state, lock, places in (
        (STATE, None, []),
        (Path("/srv/relay"), None, ["/srv/relay"]),
        (STATE, Path("/run/lock/relay"), ["/run/lock"]),
    ):
        machine.change(state_directory=state, lock_file=lock)
        found = list(setting_findings(service, machine.settings, None))
        assert [one.verdict for one in found] == [Verdict.PROBLEM] * len(places)
        said = [f"{one.what} {one.do}" for one in found]
        assert all(
            f"ReadWritePaths={place}" in what for place, what in zip(places, said, strict=True)
        )


def test_a_port_that_systemd_holds_for_the_agent_is_no_other_programs(
    systemctl: Systemctl,
) -> None:
    """Nor is it knocked at: that would start the agent."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        held.setblocking(False)
        port = held.getsockname()[1]
        address = f"127.0.0.1:{port}"
        systemctl.show(ActiveState="active", Listen=f"0.0.0.0:{port} (Stream)")
        (found,) = listener_findings([address], "challenge", running=False)
        assert found.verdict is Verdict.OK and "external-agent-challenge.socket" in found.what
        with pytest.raises(BlockingIOError):
            held.accept()
        for shown in ({"ActiveState": "inactive"}, {"Listen": f"0.0.0.0:1{port} (Stream)"}):
            systemctl.show(
                **{"ActiveState": "active", "Listen": f"0.0.0.0:{port} (Stream)"} | shown
            )
            (found,) = listener_findings([address], "challenge", running=False)
            assert found.verdict is Verdict.PROBLEM


def plan(base: Path, command: str) -> Plan:
    """A plan whose command need not exist on the machine of the test."""
    target = Target(NAME, (NAME,), base / "tls", test_command=(), reload_command=())
    told = dataclasses.replace(target, reload_command=tuple(command.split()))
    return dataclasses.replace(resolve(target), servers=servers_of(told))


def test_files_of_roots_are_the_services_only_by_group_and_mode() -> None:
    service = Service("it.service", None, False, frozenset(), "nobody")
    shadow = Target(NAME, (NAME,), Path("/etc"), roots=Path("/etc/shadow"))
    said = [one.what for one in service_findings(service, shadow, "it")]
    assert any("/etc does not belong to nobody" in what for what in said)
    assert any("roots is /etc/shadow, which it.service may not read" in what for what in said)
    known = Target(NAME, (NAME,), Path("/etc/not-there"), roots=Path("/etc/passwd"))
    assert list(service_findings(service, known, "it")) == []
