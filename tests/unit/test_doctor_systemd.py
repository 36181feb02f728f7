"""What the puller's doctor makes of what systemd says, by a systemctl that says what it should."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from internal_puller.doctor import systemd
from internal_puller.doctor.machine import reload_findings, timer_findings
from internal_puller.install.presets import Plan, resolve
from internal_puller.targets import Target
from shared.diagnosis import Verdict

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
            "is-active on"*) echo active;;
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
    monkeypatch.setattr(systemd, "RUNS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Systemctl(tmp_path)


@pytest.mark.parametrize(
    ("command", "verdict", "words"),
    [
        ("systemctl reload on", Verdict.OK, "on runs"),
        ("systemctl reload on --no-block", Verdict.OK, "on runs"),
        ("/usr/bin/systemctl --no-block reload off", Verdict.PROBLEM, "off is inactive"),
        ("systemctl reload-or-restart off", Verdict.OK, "is there"),
        ("systemctl restart off", Verdict.OK, "is there"),
        ("systemctl start off.service", Verdict.OK, "is there"),
        ("nginx -s reload", Verdict.OK, "is there"),
    ],
)
def test_only_a_reload_needs_a_unit_that_runs(
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
        monkeypatch.setattr(systemd, "SECONDS", 0.05)
    else:
        monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    found = [*reload_findings(plan(tmp_path, "systemctl reload on"), "it"), *timer_findings()]
    assert [one.verdict for one in found] == [Verdict.UNKNOWN] * 2
    assert all(one.do for one in found)


def plan(base: Path, command: str) -> Plan:
    """A plan whose command need not exist on the machine of the test."""
    target = Target(NAME, (NAME,), base / "tls", test_command=(), reload_command=())
    return dataclasses.replace(resolve(target), reload_command=tuple(command.split()))
