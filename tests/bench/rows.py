"""What a benchmark says: our figure, the peer's in the same run, their ratio, and the goal."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        what: what was measured.
        unit: of both figures.
        ours, peer: the figures; ``peer`` is None where there is nothing to compare with.
        peer_name: who the peer is.
        goal: e.g. ``>= 0.60`` (of the ratio) or ``<= 40`` (of our figure, without a peer).
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if not self.goal:
            return None
        sign, _, bound = self.goal.partition(" ")
        value = self.ours if self.ratio is None else self.ratio
        return value >= float(bound) if sign == ">=" else value <= float(bound)

    def cells(self) -> tuple[str, ...]:
        peer = "" if self.peer is None else f"{_figure(self.peer)} ({self.peer_name})"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        return (self.what, self.unit, _figure(self.ours), peer, ratio, self.goal, verdict)


COLUMNS = ("measured", "unit", "ours", "peer", "ratio", "goal", "")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(rows: Iterable[Row]) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def rate(work: Callable[[], object], seconds: float) -> float:
    """Return how often ``work`` is done in a second: the median of five rounds."""
    rounds = []
    for _ in range(5):
        count, begin = 0, time.perf_counter()
        while (spent := time.perf_counter() - begin) < seconds / 5:
            work()
            count += 1
        rounds.append(count / spent)
    return statistics.median(rounds)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"
