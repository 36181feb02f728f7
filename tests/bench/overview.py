"""Ten thousand certificates and pullers: the first screen and the list, and reading them all."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

from tests.bench.rows import Row
from tests.big_store import fill
from tests.unit.external_agent.harness import START, FakeClock, running_agent

COUNT = 10_000
GOAL = "<= 300"


def measure(*, quick: bool) -> list[Row]:
    turns = 5 if quick else 25
    with tempfile.TemporaryDirectory(prefix="bench-overview-") as scratch:
        base = Path(scratch)
        (base / "state").mkdir(mode=0o700)
        database = base / "state" / "relay.db"
        fill(database, COUNT, now=START)
        database.chmod(0o600)
        with running_agent(base, clock=FakeClock(START)) as running:
            url = f"http://127.0.0.1:{running.port('operator')}"
            began = time.perf_counter()
            running.store.status(START)
            everything = 1000 * (time.perf_counter() - began)
            _milliseconds(lambda: _get(f"{url}/"), 1)  # waits for the first judgement, if need be
            screen = _milliseconds(lambda: _get(f"{url}/"), turns)
            found = _milliseconds(lambda: _get(f"{url}/?q=host09"), turns)
            listed = _milliseconds(lambda: _get(f"{url}/v1/certificates?limit=50"), turns)
    about = f"{COUNT:,} certificates and pullers"
    return [
        Row(f"first screen, {about}", "ms", screen, goal=GOAL),
        Row("the same, searched", "ms", found, goal=GOAL),
        Row("list call, 50 of them", "ms", listed, goal=GOAL),
        Row("reading all of them, for comparison", "ms", everything),
    ]


def _get(url: str) -> None:
    with urlopen(url, timeout=60) as answer:
        assert answer.status == 200
        answer.read()


def _milliseconds(work: Callable[[], None], turns: int) -> float:
    """Return the median of so many turns."""
    spent = []
    for _ in range(turns):
        began = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent)
