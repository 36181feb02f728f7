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
for words in sys.stdin.read().splitlines():
    try:
        main(["--config", sys.argv[1], *words.split()])
    except SystemExit as ended:
        assert not ended.code, words
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.lab
def test_what_commands_load(tmp_path: Path) -> None:
    commands = [
        f"init --relay-url https://relay.example.com:8443 --agree-terms --state-directory "
        f"{tmp_path / 'state'}",
        "add www.intra.example.com",
        "status",
        "events",
        "puller list",
        "serve --help",
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "agent.toml")],
        input="\n".join(commands),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"external_agent", "sqlalchemy"} <= loaded
    # Of init, which makes the tables; of the operator API, when no agent runs that could be asked.
    assert loaded & OF_SERVE <= {"alembic", "fastapi", "starlette"}
