"""Our programs, started from a process that has imported them: in milliseconds, not half a second.

The tests of whole programs start hundreds of them. One process for each program and each process
of tests imports it once, and forks a child for every start. The child gets arguments, environment,
directory and descriptors as a new program does, in a process group of its own where that is
wanted, and runs the same ``main``. What only a true start shows (the interpreter's options, a
preloaded library, another host) is started truly: tests/line.py decides.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.lab.peers import clean_environment

ROOT = Path(__file__).resolve().parents[1]
IMPORTS: Final = {
    "external_agent": ("external_agent.composition.process",),
    "internal_puller": ("internal_puller.pull.puller", "internal_puller.commands.app"),
}
_MOST = 1 << 20


# --- on the side of the tests ----------------------------------------------------------------


class Started:
    """A child of the starter; as much of ``subprocess.Popen`` as the tests use."""

    def __init__(self, argv: Sequence[str], pid: int, end: socket.socket) -> None:
        self.args, self.pid, self._end = list(argv), pid, end
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._read(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
            told = self._end.recv(64)
            self._end.close()
            self.returncode = os.waitstatus_to_exitcode(int(told)) if told else -signal.SIGKILL
        return self.returncode


def start(
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    streams: tuple[int, int, int],
    session: bool = False,
) -> Started:
    """Start a program.

    Args:
        streams: descriptors for its standard input, output and error.
        session: in a session, and so a process group, of its own.
    """
    control = _starter(module, os.getpid())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    order = {
        "arguments": list(arguments),
        "environment": dict(environment),
        "directory": str(directory),
        "session": session,
        "umask": _umask(),
    }
    with theirs:
        socket.send_fds(control, [json.dumps(order).encode()], [theirs.fileno(), *streams])
    pid = int(ours.recv(64))
    return Started([module, *arguments], pid, ours)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@functools.cache
def _starter(module: str, tests: int) -> socket.socket:
    """The starter of a program for one process of tests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.preloaded", module, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            env=clean_environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1"),
            cwd="/",
            pass_fds=(theirs.fileno(),),
        )

    def end() -> None:
        if os.getpid() == tests:
            ours.close()
            process.wait(30)

    atexit.register(end)
    return ours


# --- the starter -----------------------------------------------------------------------------


def _serve(module: str, control: socket.socket) -> None:
    """Fork a child for each order, and tell how each one ended."""
    main = importlib.import_module(f"{module}.cli").main
    for name in IMPORTS[module]:
        importlib.import_module(name)
    gc.freeze()
    os.register_at_fork(after_in_child=random.seed)
    wakes, waker = socket.socketpair()
    for end in (wakes, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, wakes], [], [])
        if wakes in ready:
            wakes.recv(4096)
            _tell(children)
        if control not in ready:
            continue
        order, descriptors, _, _ = socket.recv_fds(control, _MOST, 64)
        if not order:
            return
        end = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            _become(module, json.loads(order), descriptors, main)
        children[pid] = end
        end.send(str(pid).encode())
        for descriptor in descriptors[1:]:
            os.close(descriptor)


def _tell(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(BrokenPipeError), children.pop(pid) as end:  # nobody asks more
            end.send(str(status).encode())


def _become(module: str, order: dict[str, Any], descriptors: list[int], main: Any) -> None:
    """Be the program; never returns."""
    code = 70
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if order["session"]:
            os.setsid()
        for number, given in enumerate(descriptors[1:]):  # they are above these
            os.dup2(given, number)
        os.closerange(3, _MOST)
        os.umask(order["umask"])
        os.chdir(order["directory"])
        os.environ.clear()
        os.environ.update(order["environment"])
        time.tzset()
        sys.argv = [str(ROOT / module / "__main__.py"), *order["arguments"]]
        sys.modules["__main__"].__package__ = module
        code = _run(main)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(main: Any) -> int:
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return ended.code or 0
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
