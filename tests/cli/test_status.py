"""``external-agent status`` over many certificates: a line for each, and what needs somebody."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from external_agent.commands.status import show_overview
from external_agent.records.rows import ErrorNote
from shared.contract.errors import ConfigurationError
from shared.host.watching import watch
from tests.cli.test_external_agent import Terminal, enrol
from tests.cli.test_renew import store_of
from tests.line import ROOT
from tests.unit.external_agent.issued import claim, issue

pytestmark = pytest.mark.lab
NAMES = tuple(f"{name}.intra.example.com" for name in ("app", "erp", "mail", "vpn", "wiki"))


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    made = Terminal(tmp_path, capsys)
    assert made.init().code == 0
    for name in NAMES:
        enrol(made, made("add", name).out.strip())
    with store_of(made) as store:
        for name in NAMES[:-1]:
            issue(store, name, now=int(time.time()))
    return made


def fail(agent: Terminal, name: str) -> None:
    now = int(time.time())
    with store_of(agent) as store:
        store.record_failure(
            claim(store, name, now=now),
            ErrorNote("issuance/unavailable", "The CA is away.", now),
            failures=3,
            paused_until=now + 9000,
            now=now,
        )


def test_a_line_for_each_the_worst_first(agent: Terminal) -> None:
    fail(agent, NAMES[-1])
    said = agent("status")
    assert said.code == 13
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert lines[0][0] == "certificate"
    assert lines[1][:3] == [NAMES[-1], "warning", "-"]
    assert [line[0] for line in lines[2:6]] == list(NAMES[:-1])
    assert lines[2][2].startswith("ends in") and lines[2][3:6] == ["no", "no", "no"]
    assert f"{NAMES[-1]}: 3 attempts failed in a row: The CA is away." in said.out
    assert "to do: Mend what is named" in said.out
    assert "4 of 5 are well" in said.out


def test_one_and_all_at_length(agent: Terminal) -> None:
    assert "wanted" in agent("status", NAMES[0]).out
    assert agent("status", "--long").out.count("  wanted ") == len(NAMES)


def test_json_and_the_code_agree(agent: Terminal) -> None:
    assert agent("status", "--json").code == 0
    fail(agent, NAMES[-1])
    said = agent("status", "--json")
    assert said.code == 13
    found = json.loads(said.out)["certificates"]
    assert [one["certificate"] for one in found if one["concerns"]] == [NAMES[-1]]
    assert agent("status", NAMES[0]).code == 0


def test_a_direct_one_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    now = 1_800_000_000
    direct = {
        "certificate": "app.example.org",
        "origin": "direct",
        "generation": now - 9,
        "not_after": now + 86400 * 9,
        "next_renewal": now + 86400,
        "served": {"matches": False},
        "concerns": [{"severity": "warning", "what": "w", "do": "d"}],
    }
    show_overview({"now": now, "certificates": [], "relay": None, "direct": [direct]})
    out = capsys.readouterr().out
    assert "app.example.org\twarning\tdirect\t-\tends in 9 d\tNO\tin 1 d" in out


def test_watching_is_for_a_terminal_and_not_for_json(agent: Terminal) -> None:
    assert "for a terminal" in agent("status", "--watch").err
    both = agent("status", "--watch", "--json")
    assert both.code == 3 and "do not go together" in both.err
    with pytest.raises(ConfigurationError):
        watch(lambda: 0)


def test_watching_draws_again_and_ends_with_the_last_code(agent: Terminal) -> None:
    fail(agent, NAMES[-1])
    program = (
        "import sys\n"
        "from shared.host import watching\n"
        "turns = iter((0, 1))\n"
        "def sleep(seconds):\n"
        "    if next(turns): raise KeyboardInterrupt\n"
        "watching.watch.__kwdefaults__['sleep'] = sleep\n"
        "from external_agent.cli import main\n"
        f"main(['--config', {str(agent.config)!r}, 'status', '--watch'])\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # the other end of a terminal that was closed
        pass
    os.close(ours)
    text = seen.decode()
    assert done.wait(30) == 13, text
    assert text.count("5 certificates") == 2 and "Ctrl-C ends it" in text
