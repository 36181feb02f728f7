"""The pullers' halves, as they were left last, in memory: they are soon old; and ours for them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

from shared.contract.diagnosis import Finding, Half, Verdict

MOST = 1000
"""So many pullers; each has one half."""
_OF_THE_OPERATOR = frozenset({"files", "disk", "database", "listeners", "dns-01"})
"""Checks whose words tell of this machine: paths, the database's address, programs."""


def for_a_puller(half: Half) -> Half:
    """Return the agent's half without what only its operator should read.

    That something is wrong on this machine is left in: it is why nothing comes.
    """
    return replace(half, findings=tuple(_without_details(half.findings)))


def _without_details(findings: Iterable[Finding]) -> Iterator[Finding]:
    for one in findings:
        if one.check not in _OF_THE_OPERATOR:
            yield one
        elif one.verdict is Verdict.OK:
            yield Finding(one.check, one.verdict, "agent", "Nothing is wrong on its machine.")
        elif not one.verdict.is_good:
            yield Finding(
                one.check,
                one.verdict,
                "agent",
                "Something is not well on the agent's machine; its operator is told what.",
                "On the VM: external-agent doctor",
            )


class Halves:
    """May be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._halves: dict[str, Half] = {}

    def keep(self, puller: str, half: Half) -> None:
        """Keep it in place of the one before; the oldest gives way when there are too many."""
        with self._lock:
            self._halves.pop(puller, None)
            self._halves[puller] = half
            while len(self._halves) > MOST:
                del self._halves[next(iter(self._halves))]

    def about(self, names: Iterable[str]) -> list[Half]:
        """Return those that speak of one of these names."""
        wanted = set(names)
        with self._lock:
            halves = list(self._halves.values())
        return [half for half in halves if any(one.name in wanted for one in half.names)]
