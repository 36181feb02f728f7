"""Things that are to go wrong: how often, how likely, and under which condition."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Predicate = Callable[[Any], bool]


@dataclass
class Fault:
    """One thing that is to go wrong.

    Attributes:
        kind: what goes wrong.
        resource: the ACME resource it happens to; None means any.
        times: how often it still happens; None means always.
        share: the chance that it happens when it could, 0 to 1.
        when: further condition on the exchange.
        fired: how often it has happened.
    """

    kind: str
    resource: str | None = None
    times: int | None = 1
    share: float = 1.0
    when: Predicate | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    fired: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]


class FaultBox:
    """The faults that wait to happen. Safe to change from any thread at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._random = random.Random(8555)

    def add(
        self,
        kind: str,
        *,
        resource: str | None = None,
        times: int | None = 1,
        share: float = 1.0,
        when: Predicate | None = None,
        **parameters: Any,
    ) -> Fault:
        """Let `kind` happen; see `Fault` for the arguments."""
        fault = Fault(kind, resource, times, share, when, parameters)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, kind: str, resource: str | None = None, exchange: Any = None) -> Fault | None:
        """Return the fault that happens now, counted, or None."""
        with self._lock:
            for fault in self._faults:
                if fault.kind != kind or fault.times == 0:
                    continue
                if fault.resource not in (None, resource):
                    continue
                if fault.share < 1 and self._random.random() >= fault.share:
                    continue
                if fault.when is not None and not fault.when(exchange):
                    continue
                fault.fired += 1
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def waiting(self, kind: str) -> bool:
        """Whether a fault of this kind may still happen."""
        with self._lock:
            return any(fault.kind == kind and fault.times != 0 for fault in self._faults)

    def remove(self, fault: Fault) -> None:
        """Let `fault` happen no more."""
        with self._lock:
            self._faults = [other for other in self._faults if other is not fault]

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()
