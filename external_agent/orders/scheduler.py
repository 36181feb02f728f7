"""Finds what is due, has it issued by several workers at once, and waits for the next moment."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from external_agent.clock import Clock, system_clock
from external_agent.orders.certificate_authority import Connector
from external_agent.orders.issuance import Issuance, Observe, Outcome, Tools, unobserved
from external_agent.orders.keymaker import KeyMaker
from external_agent.orders.persist_watch import PersistWatch, Watches
from external_agent.orders.renewal_info import WindowWatch
from external_agent.orders.solvers.http01 import Board
from external_agent.records.rows import CertificateRow, Claim, PreparedKey
from external_agent.store.housekeeping import Housekeeping
from external_agent.store.interface import Store
from shared.acme.dns01 import Dns01Settings
from shared.acme.dns_persist_use import persist_lookup
from shared.contract.errors import IssuanceUnfinished, RelayError, StoreError
from shared.contract.signing import SigningKey

LEASE_SECONDS = 900
POLL_SECONDS = 5.0
ORDER_SECONDS = 300.0
"""Deadline for one run over one order; well within a lease."""
HELD_SECONDS = 60
"""How long a CA, or a certificate that could not be recorded, is left alone; in memory only."""

_log = structlog.get_logger(__name__)


class Work(Protocol):
    """What is done with a claim."""

    def run(self, claim: Claim) -> Outcome: ...


class Watch(Protocol):
    """Finds out when CAs suggest to renew."""

    def look(self) -> int: ...


def _ignore(_certificate: str) -> None:
    return None


@dataclass(frozen=True)
class _Hold:
    """Something left alone for a while; void when the clock was set back since."""

    since: int
    until: int

    def stands(self, now: int) -> bool:
        return self.since - 300 <= now < self.until


class Scheduler:
    """Worker threads over the store's leases.

    Args:
        work: called from the worker threads.
        watch: called from a thread of its own.
        owner: name of this agent, the same at every start: leases of a run that was killed are
            taken back at once.
        on_published: called from a worker thread with the certificate's id.
    """

    def __init__(
        self,
        store: Store,
        work: Work,
        *,
        clock: Clock = system_clock,
        workers: int = 4,
        owner: str = "",
        on_published: Callable[[str], None] = _ignore,
        watch: Watch | None = None,
        stopping: threading.Event | None = None,
        lease_seconds: int = LEASE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store, self._work, self._clock = store, work, clock
        self._workers, self._owner = workers, owner or socket.gethostname()
        self._on_published, self._watch = on_published, watch
        self._lease_seconds, self._poll_seconds = lease_seconds, poll_seconds
        self._stopping = stopping or threading.Event()
        self._changed = threading.Condition()
        self._claiming = threading.Lock()
        self._queue: deque[Claim] = deque()
        self._running: set[str] = set()
        self._held: dict[str, _Hold] = {}
        self._csrs_looked_at: int | None = None
        self._threads: list[threading.Thread] = []

    # --- the running agent -------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers; they run until :meth:`stop`."""
        self._forget_leases()
        self._threads = [
            threading.Thread(target=self._serve, name=f"issuing-{number}", daemon=True)
            for number in range(self._workers)
        ]
        if self._watch is not None:
            self._threads.append(
                threading.Thread(target=self._keep_looking, name="renewal-windows", daemon=True)
            )
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> int:
        """How many orders are worked on now."""
        return len(self._running)

    def wake(self) -> None:
        """Look at once whether something is due."""
        with self._changed:
            self._changed.notify_all()

    def stop(self, timeout: float) -> None:
        """Begin nothing more; let what runs reach its next commit, ``timeout`` seconds at most."""
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._release_queue()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                claim = self._next_claim()
            except StoreError as error:
                _log.error("the store is not available", error=error.what)
                claim = None
            except Exception:  # a worker that ends would be missed by nobody
                _log.exception("unexpected error in the scheduler")
                claim = None
            if claim is not None:
                self._run(claim)
                continue
            with self._changed:
                if not self._stopping.is_set():
                    self._changed.wait(self._poll_seconds)

    def _keep_looking(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except RelayError as error:
                _log.error("no look at renewal windows", error=error.what)
            except Exception:
                # A thread that died of one answer would never look again.
                _log.exception("unexpected error in a look at renewal windows")
            self._stopping.wait(self._poll_seconds)

    # --- one pass ----------------------------------------------------------------------------

    def run_until_idle(self) -> int:
        """Issue everything that is due now, with all workers; return how many claims were run.

        For tests, demonstrations and measurements; not beside :meth:`start`.

        Raises:
            StoreUnavailable: what is due could not be found out.
        """
        self._forget_leases()
        counts: list[int] = []
        errors: list[StoreError] = []

        def work() -> None:
            done = 0
            try:
                while not self._stopping.is_set() and (claim := self._next_claim()) is not None:
                    self._run(claim)
                    done += 1
            except StoreError as error:
                errors.append(error)
            counts.append(done)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return sum(counts)

    def look(self) -> int:
        """Ask CAs when to renew, as far as they permit it now; return how many looks were made.

        Raises:
            StoreUnavailable: see :meth:`run_until_idle`.
        """
        if self._watch is None:
            return 0
        looks = self._watch.look()
        if looks:
            self.wake()
        return looks

    def _next_claim(self) -> Claim | None:
        with self._claiming:
            if not self._queue:
                self._claim_more()
            if not self._queue:
                return None
            claim = self._queue.popleft()
            self._running.add(claim.certificate)
            more = bool(self._queue)
        if more:
            self.wake()
        return claim

    def _claim_more(self) -> None:
        """Lease no more than there are idle workers for: a lease runs from when it is made."""
        now = self._clock()
        self._note_awaited_csrs(now)
        self._held = {name: hold for name, hold in self._held.items() if hold.stands(now)}
        self._queue.extend(
            self._store.claim_due(
                self._owner,
                now=now,
                lease_seconds=self._lease_seconds,
                limit=max(1, self._workers - len(self._running)),
                exclude=sorted(self._running | self._held.keys()),
                skip_directories=sorted(self._held),
            )
        )

    def _note_awaited_csrs(self, now: int) -> None:
        """Warn of what is due and waits for its puller; once a minute is often enough."""
        if self._csrs_looked_at is not None and 0 <= now - self._csrs_looked_at < HELD_SECONDS:
            return
        self._csrs_looked_at = now
        for one in self._store.note_awaited_csrs(now=now):
            log = _log.error if one.urgent else _log.warning
            log(
                "renewal waits for a CSR from its puller",
                certificate=one.certificate,
                host=one.host,
                expires=one.not_after,
            )

    def _run(self, claim: Claim) -> None:
        try:
            outcome = self._work.run(claim)
            if outcome is Outcome.ISSUED:
                self._on_published(claim.certificate)
            elif outcome is Outcome.CLOCK_WRONG:
                self._hold_directory(claim.certificate)
        except RelayError as error:
            _log.error("not recorded", certificate=claim.certificate, error=error.what)
            self._hold(claim.certificate)
        except Exception:
            _log.exception("unexpected error, not recorded", certificate=claim.certificate)
            self._hold(claim.certificate)
        finally:
            with self._claiming:
                self._running.discard(claim.certificate)

    def _hold_directory(self, certificate: str) -> None:
        """A wrong clock concerns every certificate of that CA: one finds out for all."""
        row = self._store.certificate(certificate)
        if row is not None:
            self._hold(row.directory_url)
        self._release_queue()

    def _hold(self, name: str) -> None:
        now = self._clock()
        with self._claiming:
            self._held[name] = _Hold(now, now + HELD_SECONDS)

    def _release_queue(self) -> None:
        with self._claiming:
            unused, self._queue = list(self._queue), deque()
        for claim in unused:
            self._store.release(claim)

    def _forget_leases(self) -> None:
        try:
            self._store.forget_leases(self._owner)
        except StoreError as error:
            _log.error("the store is not available", error=error.what)


def make_scheduler(
    store: Store,
    *,
    signing_key: SigningKey,
    authorities: Connector,
    key_maker: KeyMaker,
    board: Board,
    workers: int = 4,
    clock: Clock = system_clock,
    owner: str = "",
    on_published: Callable[[str], None] = _ignore,
    poll_seconds: float = POLL_SECONDS,
    order_seconds: float = ORDER_SECONDS,
    dns01: Callable[[], Dns01Settings] = Dns01Settings,
    observe: Observe = unobserved,
    relay_key: Callable[[CertificateRow], PreparedKey] | None = None,
    keep_days: Callable[[], int] = lambda: 0,
) -> Scheduler:
    """Put the issuing side of the agent together; the caller closes ``key_maker`` and store."""
    stopping = threading.Event()

    def sleep(seconds: float) -> None:
        if stopping.wait(seconds):
            raise IssuanceUnfinished("The agent is stopping; the order is resumed at its start.")

    tools = Tools(
        store=store,
        authorities=authorities,
        key_maker=key_maker,
        board=board,
        signing_key=signing_key,
        clock=clock,
        order_seconds=order_seconds,
        dns01=dns01,
        observe=observe,
        relay_key=relay_key,
    )
    issuance = Issuance(replace(tools, sleep=sleep, is_stopping=stopping.is_set))
    watch = Watches(
        WindowWatch(store, authorities, clock=clock, sleep=sleep, is_stopping=stopping.is_set),
        PersistWatch(store, lambda: persist_lookup(dns01()), clock=clock),
        Housekeeping(store, keep_days, clock=clock),
    )
    return Scheduler(
        store,
        issuance,
        clock=clock,
        workers=workers,
        owner=owner,
        on_published=on_published,
        watch=watch,
        stopping=stopping,
        poll_seconds=poll_seconds,
    )
