"""The pullers' halves, as they were left last, in memory: they are soon old; and ours for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from shared.contract.diagnosis import Finding, Half, Verdict

SpokenOf = Callable[[str], Collection[str]]
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

    def all(self) -> list[tuple[str, Half]]:
        """Return the puller and its half, the oldest first."""
        with self._lock:
            return list(self._halves.items())


def heard(halves: Halves, about: Collection[str], spoken_of: SpokenOf) -> list[Half]:
    """Return what pullers say of some names; may block.

    Who may speak is decided now and not when it was said: a half is gone at once when its puller
    is revoked or suspended, and says nothing of a name that was withdrawn from it.

    Args:
        spoken_of: gives the names of which a puller may speak now.
    """
    found = []
    for puller, half in halves.all():
        if any(one.name in about for one in half.names):
            permitted = spoken_of(puller)
            names = tuple(one for one in half.names if one.name in permitted)
            if any(one.name in about for one in names):
                found.append(replace(half, names=names))
    return found
