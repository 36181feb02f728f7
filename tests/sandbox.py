"""Runs a command in a unit's sandbox, without systemd: its capabilities and its system calls.

``python -m tests.sandbox UNIT COMMAND...`` as root. What a unit says of files is not done here.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
_ALLOW, _ERRNO_EPERM, _EQUAL = 0x7FFF0000, 0x00050000 | 1, 4
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class _Compare(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def settings(unit: Path) -> dict[str, list[str]]:
    """Every value of every setting, in their order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def permitted(filters: list[str]) -> set[str]:
    """The system calls that a unit's SystemCallFilter lines leave."""
    left: set[str] = set()
    for line in filters:
        for word in line.removeprefix("~").split():
            left = left - _calls(word) if line.startswith("~") else left | _calls(word)
    return left | _calls("@default")


def _calls(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    listing = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
    ).stdout
    words = [line.strip() for line in listing.splitlines()[1:]]
    return set().union(*(_calls(one) for one in words if one and not one.startswith("#")))


def confine(unit: Path) -> None:
    """Give up what the unit denies; for this process and all that it starts."""
    said = settings(unit)
    libc = ctypes.CDLL(None, use_errno=True)
    if said["NoNewPrivileges"] == ["yes"]:
        assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if said.get("MemoryDenyWriteExecute") == ["yes"]:  # since Linux 6.3; without it, less is tested
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_ERRNO_EPERM))
    for name in permitted(said["SystemCallFilter"]) - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add(context, _ALLOW, number, 0) == 0, name
    socket = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in said["RestrictAddressFamilies"][0].split():
        wanted = _Compare(0, _EQUAL, _FAMILIES[family], 0)
        assert seccomp.seccomp_rule_add_array(context, _ALLOW, socket, 1, ctypes.byref(wanted)) == 0
    assert seccomp.seccomp_load(context) == 0


def argv(unit: Path, *command: str) -> list[str]:
    """The command line that runs a command in the unit's sandbox."""
    names = [
        name.lower().removeprefix("cap_")
        for line in settings(unit)["CapabilityBoundingSet"]
        for name in line.split()
    ]
    kept = ",".join(("-all", *(f"+{name}" for name in names)))
    return [
        "setpriv",
        "--bounding-set",
        kept,
        sys.executable,
        "-m",
        "tests.sandbox",
        str(unit),
        *command,
    ]


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
