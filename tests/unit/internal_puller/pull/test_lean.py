"""What the quiet path of ``pull`` may load, and that it is quick and small."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from internal_puller.sources.direct.record import DirectFiles, DirectProgress, fingerprint
from internal_puller.sources.direct.settings import DirectCertificate
from internal_puller.state.floor import Floor
from internal_puller.state.progress import Standing
from shared.contract.errors import NotTakenUp
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

ROOT = Path(__file__).resolve().parents[4]

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
# Of our own, all that there is: by side and folder.
OF_OURS = {
    "internal_puller": "cli",
    "internal_puller.facts": "expiry",
    "internal_puller.install": "active layout lock notes",
    "internal_puller.outbox": "outcome report verdict",
    "internal_puller.settings": (
        "account config nearest probe_point protocols proxies targets targets_file toml_file"
    ),
    "internal_puller.settings.presets": "catalogue file preset",
    "internal_puller.pull": (
        "concluding deciding lean_pull pauses plan puller remembered standing turn"
    ),
    "internal_puller.sources": "source",
    "internal_puller.sources.agent": (
        "client contact lean_httpx network peer_key source this_machine transport"
    ),
    "internal_puller.state": "files floor pending progress state",
    "shared.contract": (
        "bundle enrolment_token errors http_signatures identifiers outside_validity plain_text "
        "sealing signing strict_json wire"
    ),
    "shared.host": "boot terminal trusted_file whole_file",
}
WITH_DIRECT = {"internal_puller.sources.direct": "record schedule settings source"}

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


def quiet_pull(machine: Machine, says: str = "") -> tuple[int, int, set[str]]:
    """Return exit code, peak memory in KiB, and the modules that were loaded.

    Args:
        says: all that is to be on standard error.
    """
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | machine.environment
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == says
    code, memory, modules = done.stdout.splitlines()
    return int(code), int(memory), set(modules.split())


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] in ("internal_puller", "shared")}


def permitted(folders: dict[str, str]) -> set[str]:
    """The modules of a table like OF_OURS, with the packages that they are in."""
    modules = {f"{folder}.{name}" for folder, names in folders.items() for name in names.split()}
    above = {name.rsplit(".", cut)[0] for name in modules for cut in range(1, name.count(".") + 1)}
    return modules | above


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
    assert ours(modules) - permitted(OF_OURS) == set()
    assert "httpx._main" not in modules
    assert memory <= 40 * 1024


def test_modules_with_a_direct_certificate_that_is_not_due(
    agent: FakeAgent, machine: Machine
) -> None:
    other = "app.example.org"
    machine.target(agent)
    machine.target(agent, other)
    agent.issue(NAME)
    machine.settings.direct_file.write_text(
        'directory = "https://ca.example.com/dir"\n'
        f'[[certificate]]\nnames = ["{other}"]\nchallenge = "dns-01"\n'
        '[dns01.rfc2136]\nserver = "192.0.2.53"\nkey_file = "/nowhere"\n'
    )
    machine.settings.direct_file.chmod(0o600)
    files = DirectFiles(machine.settings.state_directory)
    files.create()
    wanted = DirectCertificate(other, (other,), "dns-01")
    made_for = fingerprint(wanted, "https://ca.example.com/dir")
    later = int(time.time()) + 86400
    files.of(other).save_progress(
        DirectProgress(1, 1, later, 1, "0" * 64, made_for, due_at=later, look_at=later)
    )
    floor = Floor(1, "0" * 64)
    machine.state.raise_floor(other, floor)
    target = machine.targets()[1]
    generation = target.directory / "generations" / "1"
    generation.mkdir(parents=True)
    (target.directory / "current").symlink_to("generations/1")
    progress = machine.progress
    progress.of(other).reported = 1
    machine.state.save_progress(progress, durable=False)
    machine.pull()
    code, memory, modules = quiet_pull(machine)
    assert code == 0
    packages = {name.partition(".")[0] for name in modules}
    outside = {name for name in packages if name not in sys.stdlib_module_names}
    assert outside - ALLOWED == set()
    assert packages & FORBIDDEN == set()
    assert ours(modules) - permitted(OF_OURS | WITH_DIRECT) == set()
    assert memory <= 40 * 1024


def test_what_was_not_seen_to_be_served_is_said_in_one_line_until_it_is_looked_at(
    agent: FakeAgent, machine: Machine
) -> None:
    target = machine.target(agent)
    issued = agent.issue(NAME)
    machine.pull()
    progress, later = machine.progress, int(time.time()) + 3600
    what = f"{NAME}, generation {issued.generation}: nginx goes on showing the one before."
    progress.standing[str(target.directory)] = Standing("not-taken-up", 1, later, what)
    machine.state.save_progress(progress, durable=False)
    receipts = len(agent.receipts)
    code, memory, modules = quiet_pull(machine, says=f"{what}\n")
    assert code == NotTakenUp.exit_code
    assert ours(modules) - permitted(OF_OURS) == set()
    assert memory <= 40 * 1024
    assert len(agent.receipts) == receipts
