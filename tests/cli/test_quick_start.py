"""A command that only asks the database loads no web server, no ACME, no structured logs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OF_SERVE = {
    *("acme", "alembic", "dns", "fastapi", "josepy", "prometheus_client", "requests"),
    *("starlette", "structlog", "uvicorn", "uvloop"),
}
PROGRAM = """
import sys
from external_agent.cli import main
try:
    main()
except SystemExit as ended:
    print("ended", ended.code)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def run(config: Path, *arguments: str) -> tuple[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--config", str(config), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *said, loaded = done.stdout.splitlines()
    assert said[-1] == "ended 0", done.stderr
    return done.stderr, set(loaded.split())


def test_what_commands_load(tmp_path: Path) -> None:
    config, state = tmp_path / "agent.toml", tmp_path / "state"
    made = ("--relay-url", "https://relay.example.com:8443", "--agree-terms")
    _, loaded = run(config, "init", *made, "--state-directory", str(state))
    assert loaded & OF_SERVE <= {"alembic"}  # the first one makes the tables
    for words in (["add", "www.intra.example.com"], ["status"], ["events"], ["puller", "list"]):
        _, loaded = run(config, *words)
        assert not loaded & OF_SERVE, words


@pytest.mark.parametrize("command", ["add", "serve"])
def test_help_loads_as_little(tmp_path: Path, command: str) -> None:
    _, loaded = run(tmp_path / "agent.toml", command, "--help")
    assert not loaded & OF_SERVE
