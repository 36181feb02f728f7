"""A `pull` with nothing new, over TLS, against `certbot renew` with nothing due."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.issuance import agent_environment, run, want_certbot
from tests.bench.rows import Row
from tests.lab.ports import free_port
from tests.pebble import ChallTestSrv, Pebble, wait_for_port

NAME = "www.intra.example.com"


def measure(*, quick: bool) -> list[Row]:
    for program in ("pebble", "pebble-challtestsrv", "certbot"):
        if shutil.which(program) is None:
            raise FileNotFoundError(2, "not installed", program)
    rounds = 3 if quick else 15
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        dns = stack.enter_context(ChallTestSrv(serve_http=False))
        pebble = stack.enter_context(Pebble(dns=dns.dns, http_port=port))
        want_certbot(directory, pebble, port, 0)
        pull, variables = stack.enter_context(_installed(directory, pebble, port))
        renew = ["certbot", "renew", "--no-random-sleep-on-renew"]
        for option in ("config", "work", "logs"):
            renew += [f"--{option}-dir", str(directory / "certbot" / option)]
        ours, peer = [], []
        for _ in range(rounds):  # by turns, so that neither has the machine at its best
            ours.append(_seconds(pull, variables))
            peer.append(_seconds(renew, variables))
        memory = int(run([sys.executable, "-c", _MEMORY], variables)) / 1024
    medians = [1000 * statistics.median(each) for each in (ours, peer)]
    return [
        Row(
            "pull, nothing new, over TLS",
            "ms",
            *medians,
            "certbot renew, nothing due",
            "<= 0.6",
        ),
        Row("pull, nothing new: largest resident set", "MiB", memory, goal="<= 40"),
    ]


@contextmanager
def _installed(
    directory: Path, pebble: Pebble, port: int
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """A running agent, and a puller that has installed all that there is."""
    variables = agent_environment(directory, pebble, port)
    agent, puller = ([sys.executable, "-m", side] for side in ("external_agent", "internal_puller"))
    said = run([*agent, "add", NAME], variables)
    token = next(word for word in said.split() if word.startswith("shr1_"))
    settings = directory / "puller.toml"
    settings.write_text(
        f'state_directory = "{directory / "puller"}"\nproxy = "none"\n'
        f'lock_file = "{directory / "lock"}"\n'
    )
    root = directory / "root.pem"
    root.write_bytes(pebble.issuing_root())
    variables |= {"RELAY_PULLER_CONFIG": str(settings)}
    with (directory / "agent.log").open("wb") as log:
        process = subprocess.Popen(
            [*agent, "serve"], env=variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            wait_for_port(port, process, directory / "agent.log")
            run([*puller, "enroll"], variables, given=token)
            target = ["--directory", str(directory / "live"), "--root", str(root)]
            run([*puller, "target", "add", NAME, "--probe", "none", *target], variables)
            deadline = time.monotonic() + 60
            while not (directory / "live" / "current").exists():
                if time.monotonic() > deadline:
                    raise RuntimeError("nothing was installed within 60 s")
                run([*puller, "pull"], variables)
            yield [*puller, "pull"], variables
        finally:
            process.terminate()
            process.wait(30)


# VmHWM, not ru_maxrss: the latter begins with the size of the process that started this one.
_MEMORY = """
import atexit, sys
sys.argv[1:] = ["pull"]
@atexit.register
def say():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            print(line.split()[1])
from internal_puller.cli import main
main()
"""


def _seconds(command: list[str], variables: dict[str, str]) -> float:
    begin = time.perf_counter()
    run(command, variables)
    return time.perf_counter() - begin
