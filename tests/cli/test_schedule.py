"""What ``enroll`` and ``status`` say of who pulls next, by a systemctl that says what it should."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from internal_puller.facts import schedule as schedule_module
from internal_puller.facts.schedule import ENABLE, STAYS, TIMER
from shared.host import systemctl as systemctl_module
from tests.cli.conftest import Run
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine


class Systemd:
    """Units are active or enabled when there is a file of that name."""

    def __init__(self, base: Path) -> None:
        self.base = base
        for name in ("is-active", "is-enabled"):
            (base / name).mkdir()
        program = base / "systemctl"
        program.write_text(
            f"""#!/bin/sh
            cd {base}
            echo "$@" >>said
            case "$1" in
            enable) test -e broken && {{ echo "Access denied" >&2; exit 1; }}
                touch "is-active/$3" "is-enabled/$3";;
            *) test -e "$1/$2" && echo "${{1#is-}}" || {{ echo inactive; exit 3; }};;
            esac\n"""
        )
        program.chmod(0o755)

    def set(self, unit: str, *, active: bool = False, enabled: bool = False) -> None:
        for name, is_so in (("is-active", active), ("is-enabled", enabled)):
            if is_so:
                (self.base / name / unit).touch()


@pytest.fixture
def systemd(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """The machine's own puller is the one that the units know."""
    base = tmp_path / "systemd"
    base.mkdir()
    monkeypatch.setattr(systemctl_module, "RUNS", base)
    monkeypatch.setattr(schedule_module, "SERVICE_STATE", machine.settings.state_directory)
    monkeypatch.setenv("PATH", f"{base}:{os.environ['PATH']}")
    return Systemd(base)


def enrolled(run: Run, agent: FakeAgent, *more: str) -> str:
    code, out, error = run("enroll", *more, stdin=agent.token(NAME) + "\n")
    assert (code, error) == (0, "")
    return out


def test_without_a_terminal_it_is_told_what_to_type(
    agent: FakeAgent, run: Run, systemd: Systemd
) -> None:
    assert enrolled(run, agent).endswith(f"so that it pulls by itself: {ENABLE}\n")
    code, out, _ = run("status")
    assert code == 13
    assert f"needs attention: nothing will pull again: neither {TIMER} nor {STAYS}" in out
    assert f": {ENABLE}\n" in out


def test_the_timer_by_an_option(agent: FakeAgent, run: Run, systemd: Systemd) -> None:
    assert f"{TIMER} is enabled" in enrolled(run, agent, "--enable-timer")
    assert f"enable --now {TIMER}" in (systemd.base / "said").read_text()
    facts = json.loads(run("status", "--json")[1])
    assert facts["schedule"] == {"pulls": True, "what": f"{TIMER} is active", "do": ""}
    assert not any("will pull" in one for one in facts["attention"])


def test_or_not(agent: FakeAgent, run: Run, systemd: Systemd) -> None:
    assert ENABLE in enrolled(run, agent, "--no-enable-timer")
    assert "enable --now" not in (systemd.base / "said").read_text()


@pytest.mark.parametrize(("typed", "is_enabled"), [("\n", True), ("y\n", True), ("n\n", False)])
def test_on_a_terminal_it_is_asked(
    agent: FakeAgent,
    run: Run,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    is_enabled: bool,
) -> None:
    monkeypatch.setattr("internal_puller.commands.enrolling.can_ask", lambda: True)
    code, out, error = run("enroll", stdin=f"{agent.token(NAME)}\n{typed}")
    assert code == 0
    assert f"Enable {TIMER}, which pulls every hour? [Y/n]: " in error
    assert (f"{TIMER} is enabled" in out) is is_enabled
    assert (systemd.base / "is-active" / TIMER).exists() is is_enabled


def test_a_timer_that_cannot_be_enabled(agent: FakeAgent, run: Run, systemd: Systemd) -> None:
    (systemd.base / "broken").touch()
    code, _, error = run("enroll", "--enable-timer", stdin=agent.token(NAME))
    assert code == 3
    assert "The machine is enrolled, but" in error and "Access denied" in error
    assert error.endswith(f"{ENABLE}\n")


def test_what_runs_already_is_left_alone(agent: FakeAgent, run: Run, systemd: Systemd) -> None:
    systemd.set(STAYS, active=True, enabled=True)
    assert enrolled(run, agent).endswith(f"Pulls by itself: {STAYS} is active.\n")


def test_what_is_gone_after_the_next_boot(agent: FakeAgent, run: Run, systemd: Systemd) -> None:
    systemd.set(TIMER, active=True)
    enrolled(run, agent, "--no-enable-timer")
    out = run("status")[1]
    assert f"nothing will pull after the next boot: {TIMER} is active and not enabled" in out
    assert f"systemctl enable {TIMER}\n" in out


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("no systemd", "this machine has no systemd"),
        ("no answer", "systemctl does not say whether"),
        ("another's", "the units pull with /var/lib/split-horizon-relay/puller"),
    ],
)
def test_what_is_not_known_is_said_so(
    agent: FakeAgent,
    run: Run,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
    words: str,
) -> None:
    if why == "no systemd":
        monkeypatch.setattr(systemctl_module, "RUNS", systemd.base / "nowhere")
    elif why == "no answer":
        (systemd.base / "systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
        monkeypatch.setattr(systemctl_module, "SECONDS", 0.05)
    else:
        state = Path("/var/lib/split-horizon-relay/puller")
        monkeypatch.setattr(schedule_module, "SERVICE_STATE", state)
    assert words in enrolled(run, agent)
    out = run("status")[1]
    assert f"whether anything pulls again is not known: {words}" in out
    assert "nothing will pull" not in out
    assert json.loads(run("status", "--json")[1])["schedule"]["pulls"] is None


def test_a_root_is_named_from_where_one_stands(
    agent: FakeAgent, machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.base / "staging-root.pem").write_bytes(agent.ca.root_pem)
    monkeypatch.chdir(machine.base)
    preset = ("--preset", "none", "--root", "staging-root.pem")
    enrolled(run, agent, *preset)
    assert machine.targets()[0].roots == machine.base / "staging-root.pem"
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    code, _, error = run("enroll", "--preset", "none", "--root", "missing.pem", stdin="")
    assert (code, f"{machine.base}/missing.pem" in error) == (3, True)
