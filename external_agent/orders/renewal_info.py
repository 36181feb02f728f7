"""Asks CAs when to renew (RFC 9773), when they permit it; whatever fails here blocks nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter
from typing import Protocol

import structlog

from external_agent.clock import Clock
from external_agent.records.rows import Look
from external_agent.store.interface import IssuingStore
from shared.acme.client import AcmeClient
from shared.acme.ports import Sleep
from shared.contract.errors import RelayError, StoreError
from shared.issuing.renewal import Advice, after_failed_look, after_look, renewal_due

LOOKS_AT_ONCE = 200
CAS_AT_ONCE = 4
PASS_SECONDS = 20.0
"""A slow CA gives way to the others after so long; what it has not answered comes up again."""

_log = structlog.get_logger(__name__)


class Visitor(Protocol):
    """Gives a client that asks without an account; the caller closes it."""

    def visit(self, directory_url: str, sleep: Sleep) -> AcmeClient: ...


class WindowWatch:
    """Looks at what CAs suggest about the newest generations.

    Args:
        draw: a random number in [0, 1).
        elapsed: seconds, going forward.
        is_stopping: ends a pass early.
    """

    def __init__(
        self,
        store: IssuingStore,
        authorities: Visitor,
        *,
        clock: Clock,
        sleep: Sleep = time.sleep,
        draw: Callable[[], float] = random.random,
        elapsed: Callable[[], float] = time.monotonic,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._authorities, self._clock = store, authorities, clock
        self._sleep, self._draw, self._elapsed = sleep, draw, elapsed
        self._is_stopping = is_stopping

    def look(self) -> int:
        """Make the looks that are permitted now; return how many were made, failed ones too.

        Raises:
            StoreUnavailable: what is permitted could not be found out.
        """
        looks = self._store.claim_looks(now=self._clock(), limit=LOOKS_AT_ONCE)
        if not looks:
            return 0
        by_ca = attrgetter("directory_url")
        groups = [list(group) for _, group in groupby(sorted(looks, key=by_ca), key=by_ca)]
        with ThreadPoolExecutor(min(CAS_AT_ONCE, len(groups)), "renewal-window") as pool:
            return sum(pool.map(self._look_at_one_ca, groups))

    def _look_at_one_ca(self, looks: Sequence[Look]) -> int:
        done, end = 0, self._elapsed() + PASS_SECONDS
        try:
            with self._authorities.visit(looks[0].directory_url, self._sleep) as client:
                client.check_clock()
                for look in looks:
                    if self._is_stopping() or self._elapsed() > end:
                        break
                    self._look(client, look)
                    done += 1
        except StoreError as error:
            _log.error("not recorded", what=error.what)
        except RelayError as error:
            return done + self._all_failed(looks[done:], error)
        return done

    def _look(self, client: AcmeClient, look: Look) -> None:
        try:
            window = client.renewal_info(look.chain.encode("ascii"))
        except RelayError as error:
            self._failed(look, error)
        except Exception as error:
            _log.exception("unexpected error in a look", certificate=look.certificate)
            self._failed(look, RelayError(f"Unexpected {type(error).__name__}: {error}"))
        else:
            self._record(look, after_look(look.advice, window, self._clock(), self._draw()))

    def _all_failed(self, looks: Sequence[Look], error: RelayError) -> int:
        """The CA is away, or its clock and ours differ: that concerns all its certificates."""
        try:
            for look in looks:
                self._failed(look, error)
        except StoreError as lost:
            _log.error("not recorded", what=lost.what)
        return len(looks)

    def _failed(self, look: Look, error: RelayError) -> None:
        _log.info("no renewal information", certificate=look.certificate, error=error.what)
        self._record(look, after_failed_look(look.advice, error, self._clock(), self._draw()))

    def _record(self, look: Look, advice: Advice) -> None:
        due = renewal_due(
            look.life,
            advice,
            certificate=look.certificate,
            generation=look.generation,
            hurried=look.hurried,
        )
        self._store.record_look(look, advice, due, now=self._clock())
