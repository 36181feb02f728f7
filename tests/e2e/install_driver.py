"""Forks one installing process for each line it reads, so that a test can trace and kill it.

A line ``DIRECTORY GENERATION TEST`` makes a child, whose id is printed; it installs once it gets
SIGUSR1 and prints what came of it as JSON; then the driver prints how the child ended. TEST is a
program, or ``none`` for no commands at all.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from internal_puller.install import layout
from internal_puller.install.engine import Engine, Job
from internal_puller.install.mounts import Mounted
from internal_puller.install.verify import verify_active
from internal_puller.settings.targets import Target
from tests.unit.internal_puller.install.helpers import NAME, NOW, is_noted, material


def target_at(directory: str, test_program: str) -> Target:
    commands = {} if test_program == "none" else _commands(test_program)
    return Target(NAME, (NAME,), Path(directory), keep=2, **commands)


def _commands(test_program: str) -> dict[str, Any]:
    return {"test_command": (test_program,), "reload_command": ("true",)}


def run_once(directory: str, generation: int, test_program: str) -> None:
    state = Path(directory).with_name("state")
    state.mkdir(mode=0o700, exist_ok=True)
    signal.sigwait({signal.SIGUSR1})
    target = target_at(directory, test_program)
    engine = Engine(
        [target],
        state,
        clock=lambda: float(NOW),
        sleep=lambda seconds: None,
        mounted=lambda: Mounted(frozenset(), complete=True),  # else each process here is a call
    )
    engine.resume()
    [report] = engine.install([Job(target, material(generation))])
    active = layout.active_generation(target)
    problems = verify_active(target).problems if active is not None else ()
    result = {
        "verdict": report.verdict,
        "error": report.error.type if report.error else None,
        "active": active,
        "unfinished": is_noted(state, target),
        "set_aside": sorted(layout.set_aside(target)),
        "generations": layout.list_generations(target),
        "problems": problems,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for generation in (1, 2, 3):
        material(generation)  # made here, so that every child installs the same
    for line in sys.stdin:
        directory, generation, test_program = line.split()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run_once(directory, int(generation), test_program)
                code = 0
            finally:
                os._exit(code)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"ended {status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
