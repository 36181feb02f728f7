"""What tests/preloaded.py starts behaves as what is started truly."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import preloaded
from tests.lab.peers import clean_environment
from tests.lab.ports import free_port
from tests.line import Agent, Done, Program, Puller, Running

pytestmark = pytest.mark.lab


class Truly(Program):
    """Started as a program is."""

    def argv(self, *arguments: str) -> list[str]:
        return super().argv(*arguments)


def truly(program: Program, *arguments: str, stdin: str) -> Done:
    one = Truly(program.base, program.module, program.config_variable)
    assert program.may_be_preloaded and not one.may_be_preloaded
    return one.call(*arguments, stdin=stdin, expect=None)


@pytest.mark.parametrize(
    ("side", "line", "code"),
    [
        (Agent, "--help", 0),
        (Agent, "add --nonsense", 2),
        (Agent, "status", 3),
        (Puller, "pull", 3),
        (Puller, "pull --json", 3),
        (Puller, "enroll", 5),
        (Puller, "target list", 0),
    ],
)
def test_the_same_words_and_the_same_end(
    side: type[Agent | Puller], line: str, code: int, tmp_path: Path
) -> None:
    program = side(tmp_path / "base")
    words = line.split()
    here = program.call(*words, stdin="shr1_no-token\n", expect=code)
    there = truly(program, *words, stdin="shr1_no-token\n")
    assert (here.code, here.out, here.err) == (there.code, there.out, there.err)


def test_a_program_that_stays(tmp_path: Path) -> None:
    """Its own process group, its own files, and the end that it was brought to."""
    agent = Agent(tmp_path)
    ports = ("challenge", "relay", "operator")
    listen = [word for one in ports for word in (f"--{one}-listen", f"127.0.0.1:{free_port()}")]
    agent.call(
        *("init", "--ca", "https://127.0.0.1:1/directory", "--contact", "mailto:a@example.com"),
        *("--agree-terms", "--relay-url", "https://relay.example.com", *listen),
        *("--state-directory", str(agent.state)),
    )
    serving = Running(agent, ["serve"])
    try:
        agent.await_listening(serving)
        assert os.getpgid(serving.pid) == serving.pid
        opened = {str(one.readlink()) for one in Path(f"/proc/{serving.pid}/fd").iterdir()}
        assert str(serving.log) in opened
        serving.kill()
        assert serving.ended == -signal.SIGKILL
        serving.start()
        agent.await_listening(serving)
        assert serving.stop() == 0
    finally:
        serving.kill()


def test_whoever_waits_too_long_is_told(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        process = preloaded.start(
            "internal_puller",
            ["enroll"],
            environment=clean_environment(),
            directory=tmp_path,
            streams=(read, 1, 2),
            session=True,
        )
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    finally:
        os.close(read)
        os.close(write)
