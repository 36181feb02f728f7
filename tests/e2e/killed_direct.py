"""Runs one direct pull in a process that ends at a failure point; forks warm, so each is quick.

Reads one JSON object a line from standard input and answers each with how the run ended.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from internal_puller.install.engine import Engine
from internal_puller.pull.puller import Puller
from internal_puller.settings.config import Settings
from internal_puller.sources.direct import connection, issuing, record
from internal_puller.sources.direct.record import CertificateFiles
from internal_puller.state.state import StateDirectory
from tests.failpoints import Failpoint, Killer

WRITES = (
    (record.DirectFiles, "save_account_url"),
    (CertificateFiles, "save_attempt"),
    (CertificateFiles, "save_issued"),
    (CertificateFiles, "save_progress"),
    (CertificateFiles, "drop_attempt"),
    (StateDirectory, "raise_floor"),
    (StateDirectory, "save_progress"),
    (Engine, "install"),
)
assert issuing


def put_failpoints(failpoint: Failpoint) -> Callable[[], None]:
    """Put a point before and after every write and every call; return what takes them away."""
    undo: list[Callable[[], None]] = []
    plain = connection.DirectConnection

    def around(owner: type, name: str) -> None:
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def wrapped(*args: Any, **named: Any) -> Any:
            failpoint(f"{owner.__name__}.{name}.before")
            result = inner(*args, **named)
            failpoint(f"{owner.__name__}.{name}.after")
            return result

        setattr(owner, name, wrapped)
        undo.append(lambda: setattr(owner, name, inner))

    for owner, name in WRITES:
        around(owner, name)
    connection.DirectConnection = functools.partial(plain, failpoint=failpoint)  # type: ignore

    def take_away() -> None:
        connection.DirectConnection = plain  # type: ignore[misc]
        for one in undo:
            one()

    return take_away


def pull(base: Path) -> int:
    """Pull once as the machine below ``base``; return the exit code."""
    settings = Settings(
        state_directory=base / "state",
        targets_file=base / "targets.toml",
        direct_file=base / "direct.toml",
        lock_file=base / "lock",
        proxy="none",
    )
    puller = Puller(settings)
    try:
        return puller.pull().exit_code
    finally:
        puller.close()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(2, 1)  # standard output is for the answers
                case = json.loads(line)
                put_failpoints(Killer(case["name"], case["occurrence"]))
                pull(Path(case["base"]))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        print(
            json.dumps({"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}), flush=True
        )


if __name__ == "__main__":
    main()
