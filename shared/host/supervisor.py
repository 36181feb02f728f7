"""Runs one command to its end or its time-out, and leaves none of its descendants after that.

Started as a script of its own (``python -I -S supervisor.py FD TIMEOUT GRACE ARGV...``) because
being the reaper of orphans is a property of a whole process. Writes one line of JSON to FD:
``{"exit": N}``, ``{"signal": N}``, ``{"timed_out": true}`` or ``{"errno": N}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522
PAUSE = 0.01
LAST_RESORT = 3.0


def descendants() -> set[int]:
    """Return the ids of all processes below this one, from /proc."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs its start-up
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    parents[int(entry)] = int(parent)
    found: set[int] = set()
    level = {os.getpid()}
    while level:
        level = {child for child, parent in parents.items() if parent in level} - found
        found |= level
    return found


def send(number: signal.Signals, processes: set[int]) -> None:
    """Signal processes, some of which may be gone."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


def reap() -> None:
    """Collect the orphans that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end(grace: float) -> None:
    """Ask all descendants to end, then make them."""
    send(signal.SIGTERM, descendants())
    deadline = time.monotonic() + grace
    while descendants() and time.monotonic() < deadline:
        reap()
        time.sleep(PAUSE)
    deadline = time.monotonic() + LAST_RESORT
    while (left := descendants()) and time.monotonic() < deadline:
        send(signal.SIGKILL, left)
        reap()
        time.sleep(PAUSE)


def give_up_capabilities() -> None:
    """What an account may do beyond others is for its own program, not for the commands it runs.

    Root has its own by being root, whatever is given up here (capabilities(7)).
    """
    if os.geteuid() == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; of 32 bits each, twice
    if libc.capset(ctypes.byref(header), ctypes.byref(none)):
        raise OSError(ctypes.get_errno(), "capset")


def start(argv: list[str], report: int) -> int:
    """Start the command in a session of its own and return its process id."""
    process = os.fork()
    if process == 0:
        try:
            os.setsid()
            # Python ignores it, and that would be inherited.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execv(argv[0], argv)  # noqa: S606
        except OSError as error:
            os.write(report, json.dumps({"errno": error.errno}).encode() + b"\n")
        finally:
            os._exit(127)
    return process


def main() -> None:
    """Run the command, write the verdict."""
    report, timeout, grace = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    os.set_inheritable(report, False)
    give_up_capabilities()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    deadline = time.monotonic() + timeout
    process = start(sys.argv[4:], report)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == process:
            code = os.waitstatus_to_exitcode(status)
            verdict = {"exit": code} if code >= 0 else {"signal": -code}
            break
        if not ended:
            time.sleep(PAUSE)
    else:
        end(grace)
        verdict = {"timed_out": True}
    os.write(report, json.dumps(verdict).encode() + b"\n")


if __name__ == "__main__":
    main()
