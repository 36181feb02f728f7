"""A puller that is cut off warns by itself: once, and once that it is over."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from internal_puller.facts import alarm
from internal_puller.facts.status import read_status
from internal_puller.settings.config import load_settings
from internal_puller.state.progress import LastError
from shared.contract.errors import ConfigurationError
from tests.fake_agent import FakeAgent
from tests.machine import NAME, REFUSES, Machine

DAY = 86400


class Ear:
    """A command that keeps what it is told."""

    def __init__(self, base: Path) -> None:
        self.file, self.script = base / "told", base / "tell"
        self.script.write_text(
            f'#!/bin/sh\nprintf "%s|%s|%s\\n" "$RELAY_ALARM" "$RELAY_ALARM_TITLE" '
            f'"$RELAY_ALARM_TEXT" >>{self.file}\ntest ! -e {base}/broken\n'
        )
        self.script.chmod(0o755)
        self.broken = base / "broken"

    @property
    def told(self) -> list[tuple[str, str]]:
        """State and title of each, and forget them."""
        if not self.file.exists():
            return []
        lines = [line.split("|") for line in self.file.read_text().splitlines() if "|" in line]
        self.file.unlink()
        return [(line[0], line[1]) for line in lines]


@pytest.fixture
def ear(tmp_path: Path, machine: Machine) -> Ear:
    ear = Ear(tmp_path)
    machine.settings = replace(machine.settings, alarm_command=(str(ear.script),))
    return ear


def test_nothing_is_told_while_all_is_well(agent: FakeAgent, machine: Machine, ear: Ear) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    machine.pull()
    assert ear.told == []


def test_a_certificate_near_its_end_is_told_once_and_its_successor_ends_it(
    agent: FakeAgent, machine: Machine, ear: Ear
) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    machine.settings = replace(machine.settings, warn_below=0.999999)
    machine.pull()
    ((state, title),) = ear.told
    assert state == "begun" and "needs attention" in title and f"{NAME}: the certificate" in title
    machine.pull()
    assert ear.told == [], "a timer repeats nothing"
    machine.settings = replace(machine.settings, warn_below=0.2)
    machine.pull()
    ((state, title),) = ear.told
    assert state == "over" and "is over" in title
    machine.pull()
    assert ear.told == []


def test_an_agent_out_of_reach_is_told_after_a_day(
    agent: FakeAgent, machine: Machine, ear: Ear
) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    agent.stop()
    assert machine.pull().contact is not None
    assert ear.told == [], "a short absence is nobody's business"
    progress = machine.progress
    progress.last_contact -= DAY + 60
    machine.state.save_progress(progress, durable=False)
    machine.pull()
    ((state, title),) = ear.told
    assert state == "begun" and "the agent has not answered since" in title


def test_a_rolled_back_generation_is_told(agent: FakeAgent, machine: Machine, ear: Ear) -> None:
    machine.target(agent, test_command=REFUSES)
    agent.issue(NAME)
    machine.pull()
    ((state, title),) = ear.told
    assert state == "begun" and f"{NAME}: " in title


def test_what_could_not_be_told_is_a_warning_and_tried_again(
    agent: FakeAgent, machine: Machine, ear: Ear
) -> None:
    machine.target(agent, reload_command=("/bin/false",))
    agent.issue(NAME)
    ear.broken.touch()
    report = machine.pull()
    assert any("alarm_command" in one and "exit code 1" in one for one in report.warnings)
    assert len(ear.told) == 1
    ear.broken.unlink()
    machine.pull()
    assert len(ear.told) == 1
    machine.pull()
    assert ear.told == []


def test_a_command_that_is_not_there_is_a_warning(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent, reload_command=("/bin/false",))
    machine.settings = replace(machine.settings, alarm_command=("/nonexistent/tell",))
    agent.issue(NAME)
    report = machine.pull()
    assert any("does not exist" in one for one in report.warnings)


def test_a_text_that_no_environment_takes_is_cut(tmp_path: Path) -> None:
    tell, heard = tmp_path / "tell", tmp_path / "heard"
    tell.write_text(f'#!/bin/sh\nprintf %s "$RELAY_ALARM_TEXT" > {heard}\n')
    tell.chmod(0o755)
    many = "".join(f"{number}: {'x' * 1000}\n" for number in range(200))
    assert alarm._command((str(tell),), "begun", "title", many) == ""
    said = heard.read_text()
    assert len(said) < alarm.MOST_TEXT + 100
    *lines, last = said.splitlines()
    assert last == f"… and {200 - len(lines)} more: status says all."


def test_mail_goes_through_sendmail(
    agent: FakeAgent, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "sbin"
    place.mkdir()
    (place / "sendmail").write_text(
        f'#!{shutil.which("sh")}\necho "$@" >{tmp_path}/arguments\n'
        f"{shutil.which('cat')} >{tmp_path}/mail\n"
    )
    (place / "sendmail").chmod(0o755)
    monkeypatch.setattr(alarm, "_SENDMAIL_PATH", str(place))
    machine.settings = replace(machine.settings, alarm_mail="ops@example.com")
    machine.target(agent, reload_command=("/bin/false",))
    agent.issue(NAME)
    assert not any("alarm_mail" in one for one in machine.pull().warnings)
    assert (tmp_path / "arguments").read_text() == "-t -oi\n"
    mail = (tmp_path / "mail").read_text()
    assert (
        "To: ops@example.com" in mail and "Subject: [split-horizon-relay]" in mail and NAME in mail
    )


def test_without_a_sendmail_it_says_so(
    agent: FakeAgent, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm, "_SENDMAIL_PATH", str(tmp_path))
    machine.settings = replace(machine.settings, alarm_mail="ops@example.com")
    machine.target(agent, reload_command=("/bin/false",))
    agent.issue(NAME)
    assert any("there is no sendmail" in one for one in machine.pull().warnings)


def test_a_damaged_memory_tells_twice_rather_than_never(
    agent: FakeAgent, machine: Machine, ear: Ear
) -> None:
    machine.target(agent, reload_command=("/bin/false",))
    agent.issue(NAME)
    machine.pull()
    assert len(ear.told) == 1
    for junk in (b"no json", b"[]"):
        (machine.state.path / alarm.FILE).write_bytes(junk)
        machine.pull()
        assert len(ear.told) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('alarm_command = "tell ops"', "no list of arguments"),
        ('alarm_mail = "nobody"', "no mail address"),
        ('alarm_mail = "a@example.com\\nBcc: b@example.com"', "no mail address"),
        ("alarm_hours = 0", "no number of hours"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "puller.toml"
    file.write_text(line + "\n")
    with pytest.raises(ConfigurationError, match=said):
        load_settings(file, environment={})


def test_settings_from_the_environment(tmp_path: Path) -> None:
    given = {**os.environ, "RELAY_PULLER_ALARM_COMMAND": json.dumps(["/bin/tell", "ops"])}
    given["RELAY_PULLER_ALARM_HOURS"] = "6"
    settings = load_settings(None, environment=given)
    assert settings.alarm_command == ("/bin/tell", "ops") and settings.alarm_hours == 6


def test_status_says_the_same(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    assert read_status(machine.settings).attention == ()
    machine.settings = replace(machine.settings, warn_below=0.999999)
    (one,) = read_status(machine.settings).attention
    assert one.startswith(f"{NAME}: the certificate in") and "ends in" in one
    machine.settings = replace(machine.settings, warn_below=0.0)
    progress = machine.progress
    progress.error = LastError("transport", "No route.", 1)
    progress.last_contact = 1
    machine.state.save_progress(progress, durable=False)
    assert read_status(machine.settings).attention == ("the agent does not answer: No route.",)
