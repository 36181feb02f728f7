"""Escapes in every text that a peer controls, and what whole command lines print of it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from external_agent.records.rows import ErrorNote
from shared.acme.problems import read_problem, refusal
from shared.contract.wire import Problem
from tests.cli.conftest import Run
from tests.cli.test_external_agent import Terminal, enrol
from tests.cli.test_renew import store_of
from tests.fake_agent import FakeAgent
from tests.line import ROOT
from tests.machine import NAME, Machine
from tests.unit.external_agent.issued import claim

FORGED = "needs attention: none"
EVIL = f"x\x1b[2J\x1b[1;1H{FORGED}\x9b2K\r{FORGED}\n{FORGED}\u2028{FORGED}\u202e\u200b\x07\x7f"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def check(text: str) -> None:
    """Nothing steers, and no line of a peer's own stands where ours begin."""
    for line in text.replace("\r\n", "\n").split("\n"):
        assert line.replace("\t", "").isprintable(), ascii(line)
        assert "\u200b" not in line
        assert not line.startswith(FORGED)


def script(path: Path, octets: bytes) -> str:
    """A command that writes octets and fails."""
    path.write_bytes(octets)
    program = path.with_suffix(".sh")
    program.write_text(f"#!/bin/sh\ncat '{path}'\nexit 1\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    "slug", ["refused", "puller-revoked", "clock", "csr-refused", "token-expired"]
)
@pytest.mark.parametrize("command", ["pull", "pull --json", "rehearse", "target add", "enroll"])
def test_a_refusal_of_an_agent(
    agent: FakeAgent, machine: Machine, run: Run, slug: str, command: str
) -> None:
    machine.enrol(agent)
    machine.target(agent)
    agent.refuse = Problem(slug, EVIL, 403, EVIL)
    more = {"rehearse": [NAME], "target add": ["new.example.org"]}.get(command, [])
    code, out, error = run(*command.split(), *more, stdin=agent.token(NAME))
    assert code != 0
    check(out)
    check(error)
    for again in (("status",), ("status", "--json")):
        _, out, error = run(*again)
        check(out + error)
        if "--json" in again:
            json.loads(out)


@pytest.mark.parametrize(
    "names", [(EVIL,), ("www.Intra.example.com",), ("a b.example.org",), ("",)]
)
@pytest.mark.parametrize("command", ["enroll", "pull", "target add"])
def test_names_from_an_agent_are_names_or_nothing(
    agent: FakeAgent, machine: Machine, run: Run, names: tuple[str, ...], command: str
) -> None:
    machine.enrol(agent)
    line = agent.token(NAME)
    agent.certificates[NAME] = names
    before = machine.state.require_enrolment().granted
    more = ["new.example.org"] if command == "target add" else []
    code, out, error = run(*command.split(), *more, stdin=line)
    assert code == (4 if more else 7)
    told = "Whether there is more is not known" if more else "is not a name in A-labels"
    assert told in error
    check(out + error)
    assert machine.state.require_enrolment().granted == before
    assert machine.targets() == ()


@pytest.mark.parametrize("octets", [EVIL.encode(), b"\x9b2J\xff\xfe\x80" + EVIL.encode("utf-16")])
@pytest.mark.parametrize("which", ["test_command", "reload_command"])
def test_what_a_command_writes(
    agent: FakeAgent, machine: Machine, run: Run, octets: bytes, which: str
) -> None:
    machine.enrol(agent)
    command = (script(machine.base / "said", octets),)
    if which == "test_command":
        machine.target(agent, test_command=command)
    else:
        machine.target(agent, reload_command=command)
    agent.issue(NAME)
    code, out, error = run("pull")
    assert code in (9, 12)
    check(out + error)
    for again in (("status",), ("pull", "--retry"), ("status", "--json")):
        _, out, error = run(*again)
        check(out + error)


# --- the agent's side ----------------------------------------------------------------------------


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """An agent to which a puller and a CA have said everything that they can."""
    made = Terminal(tmp_path, capsys)
    assert made.init().code == 0
    enrol(made, made("add", NAME).out.strip(), host=EVIL)
    now = int(time.time())
    refused = refusal(f"The CA at {EVIL}", read_problem({"type": EVIL, "detail": EVIL}, 403))
    with store_of(made) as store:
        store.record_failure(
            claim(store, NAME, now=now),
            ErrorNote("issuance/rejected", refused.what, now),
            failures=3,
            paused_until=now + 9000,
            now=now,
        )
        store.append_event(
            "puller-diagnosis", now=now, actor="puller", details={EVIL: EVIL, "list": [EVIL]}
        )
    return made


COMMANDS = (
    ("status",),
    ("status", "--long"),
    ("status", NAME),
    ("status", "--json"),
    ("puller", "list"),
    ("puller", "list", "--json"),
    ("puller", "suspend", "no such\x1b[2J"),
    ("events",),
    ("events", "--json"),
    ("events", "export"),
)


@pytest.mark.lab
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_a_puller_and_a_ca_said(told: Terminal, command: tuple[str, ...]) -> None:
    said = told(*command)
    assert said.out or said.err
    check(said.out)
    check(said.err)
    if "--json" in command:
        json.loads(said.out)


def on_a_terminal(*argv: str, **environment: str) -> tuple[int, str]:
    """Return exit code and everything that a terminal is given."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **environment},
    ) as running:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how a pty ends
            pass
    os.close(ours)
    return running.returncode, shown.decode(environment.get("PYTHONIOENCODING", "utf-8"))


@pytest.mark.lab
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_on_a_terminal_there_are_colours_and_nothing_else(told: Terminal, encoding: str) -> None:
    for command in (("status",), ("status", NAME), ("puller", "list"), ("events",)):
        argv = ("-m", "external_agent", "--config", str(told.config), *command)
        code, shown = on_a_terminal(sys.executable, *argv, PYTHONIOENCODING=encoding)
        assert code in (0, 13)
        assert "Traceback" not in shown
        assert "\x1b[" in shown
        check(_COLOURS.sub("", shown))


@pytest.mark.lab
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_the_puller_on_a_terminal(agent: FakeAgent, machine: Machine, encoding: str) -> None:
    machine.enrol(agent)
    machine.target(agent)
    agent.refuse = Problem("refused", EVIL, 403, EVIL)
    commands = [("pull",), ("status",), ("target", "list"), ("--help",)]
    for command in [*commands, *([("doctor",)] if encoding == "ascii" else [])]:
        argv = (sys.executable, "-m", "internal_puller", *command)
        _, shown = on_a_terminal(*argv, **machine.environment, PYTHONIOENCODING=encoding)
        assert "Traceback" not in shown
        shown = re.sub(r"\r\x1b\[K", "\n", shown)  # the progress of `pull`, in one line
        check(_COLOURS.sub("", shown))
