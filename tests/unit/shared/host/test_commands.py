"""Commands: no shell, a fixed environment, an end that leaves nothing running."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.contract.errors import ConfigurationError
from shared.host import commands


def script(path: Path, body: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return (str(path),)


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text().strip()):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{path} was never written")


def alive(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_exit_code_and_output(tmp_path: Path) -> None:
    assert commands.run(("true",), 5, {}).ok
    result = commands.run(script(tmp_path / "x", "echo one; echo two >&2; exit 3"), 5, {})
    assert not result.ok
    assert result.describe() == "ended with exit code 3: one | two"


def test_ended_by_a_signal(tmp_path: Path) -> None:
    result = commands.run(script(tmp_path / "x", "kill -9 $$"), 5, {})
    assert result.describe() == "was ended by signal KILL"


def test_metacharacters_are_only_characters(tmp_path: Path) -> None:
    nasty = ("$(touch x)", "; touch x", "`touch x`", "a b", "*", "--", "\n", "")
    result = commands.run(("printf", "<%s>", *nasty), 5, {})
    assert result.tail == "".join(f"<{each}>" for each in nasty)
    assert list(tmp_path.iterdir()) == []


def test_environment_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("SECRET", "canary")
    result = commands.run(("env",), 5, {"RELAY_CERTIFICATE": "a"})
    assert sorted(result.tail.split()) == [
        "LANG=C.UTF-8",
        f"PATH={commands.SEARCH_PATH}",
        "RELAY_CERTIFICATE=a",
    ]


_CAPABLE = """
import pathlib
from shared.host import commands
print(pathlib.Path("/proc/self/status").read_text())
print("---", commands.run(("grep", "^Cap", "/proc/self/status"), 20, {}).tail, sep="\\n")
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="lets an account hold something"
)
def test_a_command_gets_none_of_an_accounts_capabilities() -> None:
    """As the unit has them: ambient, so that a program inherits them."""
    held = "-all,+chown,+dac_override"
    account = ("setpriv", "--reuid=65534", f"--inh-caps={held}", f"--ambient-caps={held}")
    done = subprocess.run(
        [*account, sys.executable, "-c", _CAPABLE], capture_output=True, text=True, check=True
    )
    mine, _, its = done.stdout.partition("---")
    assert re.search(r"^CapEff:\s+0+3$", mine, re.MULTILINE)
    values = dict(re.findall(r"^(Cap\w+):\s+(\w+)$", its, re.MULTILINE))
    assert {values[one].strip("0") for one in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {""}


def test_no_file_of_ours_is_open_and_nothing_to_read(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w"):
        result = commands.run(script(tmp_path / "x", "ls /proc/self/fd; pwd; cat"), 5, {})
    assert result.tail.split() == ["0", "1", "2", "3", "/"]  # 3 is ls reading the directory


@pytest.mark.parametrize("argv0", ["/no/such/program", "no-such-program", "./relative", "/etc"])
def test_program_that_does_not_exist(argv0: str) -> None:
    with pytest.raises(ConfigurationError, match="does not exist") as caught:
        commands.run((argv0, "x"), 5, {})
    assert repr(argv0) in caught.value.what


def test_file_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("#!/no/such/interpreter\n")
    (tmp_path / "x").chmod(0o755)
    assert "could not start" in commands.run((str(tmp_path / "x"),), 5, {}).how


HANGING = {
    "hangs": "echo $$ > {pids}; sleep 300",
    "ignores TERM": "trap '' TERM; echo $$ > {pids}; while :; do sleep 300; done",
    "hangs with children": "sleep 300 & echo $! > {pids}; wait",
    "daemonises and hangs": (
        "setsid sh -c 'trap \"\" TERM HUP; echo $$ > {pids}; while :; do sleep 300; done' "
        "</dev/null >/dev/null 2>&1 & sleep 300"
    ),
    "daemonises twice and hangs": (
        "(setsid sh -c '(setsid sh -c \"echo \\$\\$ > {pids}; sleep 300\" &)' &) ; sleep 300"
    ),
}


@pytest.mark.lab
def test_hooks_that_do_not_end_are_killed_with_all_their_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "GRACE_SECONDS", 0.3)

    def run(kind: str) -> commands.CommandResult:
        body = HANGING[kind].format(pids=tmp_path / f"{kind} pids".replace(" ", "-"))
        return commands.run(script(tmp_path / kind, body), 2, {})

    begun = time.monotonic()
    with ThreadPoolExecutor(len(HANGING)) as pool:
        results = dict(zip(HANGING, pool.map(run, HANGING), strict=True))
    assert time.monotonic() - begun < 12
    for kind, result in results.items():
        assert (kind, result.ok) == (kind, False)
        assert result.how == "did not end within 2 s and was killed"
        pid = wait_for(tmp_path / f"{kind} pids".replace(" ", "-"))
        assert not alive(pid), kind


@pytest.mark.parametrize("value", ["x" * 200_000, "a\0b"])
def test_an_environment_that_cannot_be_given(value: str) -> None:
    result = commands.run(("true",), 5, {"TEXT": value})
    assert not result.ok and result.how.startswith("could not start: ")


def test_daemon_of_a_hook_that_succeeds_goes_on(tmp_path: Path) -> None:
    """``apachectl graceful`` starts a server that is not running; that is no leak."""
    pids = tmp_path / "pids"
    body = f"setsid sleep 300 & echo $! > {pids}"
    begun = time.monotonic()
    assert commands.run(script(tmp_path / "hook", body), 5, {}).ok  # its output stays open
    assert time.monotonic() - begun < 4
    pid = wait_for(pids)
    assert alive(pid)
    os.kill(int(pid), 9)


def test_endless_output_is_bounded(tmp_path: Path) -> None:
    result = commands.run(script(tmp_path / "x", "yes | head -c 30000000; echo end"), 20, {})
    assert result.ok
    assert len(result.tail) <= commands.TAIL_BYTES
    assert result.tail.endswith("end\n")


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    result = commands.run(script(tmp_path / "x", "printf '\\033[31mred\\007\\r'; exit 1"), 5, {})
    assert result.describe() == "ended with exit code 1: ?[31mred?"
