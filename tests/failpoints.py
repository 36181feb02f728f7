"""Failure points put around an agent from outside: its code knows nothing of them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from external_agent.orders.keymaker import KeyMaker
from external_agent.orders.keymaker_messages import KeyRequest
from external_agent.records.rows import PreparedKey
from external_agent.store.interface import Store

Failpoint = Callable[[str], None]

COMMITS = (
    "save_account",
    "claim_due",
    "commit_prepared",
    "commit_order",
    "put_challenge",
    "commit_state",
    "publish",
)


OF_OWN_KEYS = ("leave_csr",)
"""What is committed besides where a puller makes the key."""


class StoreWithFailpoints:
    """Calls a failure point before and after each commit of an issuance."""

    def __init__(self, store: Store, failpoint: Failpoint) -> None:
        self._store, self._failpoint = store, failpoint

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._store, name)
        if name not in (*COMMITS, *OF_OWN_KEYS):
            return inner

        def around(*args: Any, **named: Any) -> Any:
            self._failpoint(f"store.{name}.before")
            result = inner(*args, **named)
            self._failpoint(f"store.{name}.after")
            return result

        return around


def with_failpoints(store: Store, failpoint: Failpoint) -> Store:
    return cast(Store, StoreWithFailpoints(store, failpoint))


class KeyMakerWithFailpoints:
    def __init__(self, inner: KeyMaker, failpoint: Failpoint) -> None:
        self._inner, self._failpoint = inner, failpoint

    def make(self, request: KeyRequest) -> PreparedKey:
        self._failpoint("key.make.before")
        prepared = self._inner.make(request)
        self._failpoint("key.make.after")
        return prepared


class Recorder:
    """Remembers every point passed, as (name, how many times so far)."""

    def __init__(self) -> None:
        self.passed: list[tuple[str, int]] = []
        self._counts: Counter[str] = Counter()

    def __call__(self, name: str) -> None:
        self._counts[name] += 1
        self.passed.append((name, self._counts[name]))


class Killer:
    """Ends this process as a power cut would, at the ``occurrence``-th passing of one point."""

    def __init__(self, name: str, occurrence: int) -> None:
        self._name, self._left = name, occurrence

    def __call__(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()
