"""What the quiet path of ``pull`` may load, and that it is quick and small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

ROOT = Path(__file__).resolve().parents[3]

# Packages outside the standard library that a pull with nothing new may import, and nothing else.
ALLOWED = frozenset(
    (
        "_cffi_backend",
        "_sodium",
        "anyio",  # httpcore looks for it; its own modules are loaded late
        "certifi",
        "h11",
        "httpcore",
        "httpx",
        "idna",
        "internal_puller",
        "nacl",
        "shared",
    )
)
# Of the standard library, what would show that something heavy has crept in.
FORBIDDEN = frozenset(
    ("asyncio", "cryptography", "multiprocessing", "sqlite3", "subprocess", "tkinter", "unittest")
)
OF_OURS = frozenset(
    (
        "installation",
        "roots",
        "receipts",
        "trust",
        "enrolment",
        "daemon",
        "status",
        "commands",
        "targets_file.save",
        "next_csr",
    )
)

PROGRAM = """
import sys
before = set(sys.modules)
sys.argv = ["internal-puller", "pull"]
from internal_puller.cli import main
try:
    main()
except SystemExit as ended:
    print(ended.code)
# Not getrusage: that also counts the process that this one was forked from.
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
print(*sorted(set(sys.modules) - before))
"""


def quiet_pull(machine: Machine) -> tuple[int, int, set[str]]:
    """Return exit code, peak memory in KiB, and the modules that were loaded."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | machine.environment
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    code, memory, modules = done.stdout.splitlines()
    return int(code), int(memory), set(modules.split())


@pytest.mark.parametrize("key_origin", ["agent", "puller"])
def test_modules_and_memory(agent: FakeAgent, machine: Machine, key_origin: str) -> None:
    if key_origin == "puller":
        agent.own_keys.add(NAME)
    machine.target(agent)
    machine.pull()
    agent.issue(NAME)
    machine.pull()
    code, memory, modules = quiet_pull(machine)
    assert code == 0
    packages = {name.partition(".")[0] for name in modules}
    outside = {name for name in packages if name not in sys.stdlib_module_names}
    assert outside - ALLOWED == set()
    assert packages & FORBIDDEN == set()
    ours = {name.split(".")[1] for name in modules if name.startswith("internal_puller.")}
    assert ours & OF_OURS == set()
    assert {name for name in modules if name.startswith("internal_puller.install.")} <= {
        "internal_puller.install.layout",
        "internal_puller.install.lock",
    }
    assert "shared.x509" not in modules
    assert "httpx._main" not in modules
    assert memory <= 40 * 1024
