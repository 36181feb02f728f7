"""What lies in memory and is asked for at each scrape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Gauges:
    """What is asked for at each scrape; all of it lies in memory.

    Attributes:
        challenges_answered: requests that the challenge listener has answered.
        challenges_known: those of them for a token that was pending.
        parked: polls held now.
        running: orders worked on now.
    """

    challenges_answered: Callable[[], int] = lambda: 0
    challenges_known: Callable[[], int] = lambda: 0
    parked: Callable[[], int] = lambda: 0
    running: Callable[[], int] = lambda: 0
