"""Drives one order from any status to a checked chain (RFC 8555 section 7.1.6)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.acme.authorizations import Authorizer, StillPending
from shared.acme.chain import check_issued_chain
from shared.acme.ports import (
    ChallengeSolver,
    Clock,
    IssuedChain,
    OrderClient,
    OrderJournal,
    OrderState,
    Sleep,
)
from shared.acme.problems import describe, problem_code
from shared.acme.waiting import Deadline, Pauses
from shared.contract.errors import (
    IssuanceError,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    IssuanceUnfinished,
    ValidationFailed,
)

MOST_FAILURES_IN_A_ROW = 5


def _ignore(_error: IssuanceRejected) -> None:
    return None


def drive_order(
    client: OrderClient,
    *,
    names: Sequence[str],
    csr_pem: bytes,
    order_url: str | None,
    adopt_unfinished: bool,
    solvers: Mapping[str, ChallengeSolver],
    journal: OrderJournal,
    clock: Clock = time.monotonic,
    sleep: Sleep = time.sleep,
    deadline_seconds: float = 300.0,
    profile: str | None = None,
    replaces: str | None = None,
    preferred_chain: str | None = None,
    on_replaces_refused: Callable[[IssuanceRejected], None] = _ignore,
) -> IssuedChain:
    """Bring one order to its certificate; resume it if `order_url` is given.

    Challenges are cleaned up whatever happens. Short failures of the CA are waited out within
    the deadline.

    Args:
        names: A-labels, lower case, wildcards as ``*.``; the CSR's and the leaf's whole set.
        order_url: an order of an earlier run, at any status; None for a new one.
        adopt_unfinished: without `order_url`, look first for an order that an earlier run may
            have made and did not record: it died, or the answer to newOrder was lost. Only then:
            this fetches each order of the account, and asking Caddy 2.6 for an empty list breaks
            the account for good.
        solvers: by challenge type, the preferred first.
        journal: told what must be durable before the next step.
        clock: for the deadline; any that goes forward.
        deadline_seconds: for the whole run.
        replaces: RFC 9773 certificate id. If the CA refuses the order with it, for whatever
            reason, it is ordered again without.
        on_replaces_refused: told of that refusal, before the other order is made.

    Raises:
        ClockWrong: our clock and the CA's differ by more than 300 s; nothing was ordered.
        OrderGone: the CA no longer has the order.
        IssuanceRejected: the order is over; the CA's problem documents are in the message.
        IssuanceRateLimited, IssuanceUnavailable, IssuanceUnfinished: resume the same order later.
        ConfigurationError: a profile that the CA does not offer.
        RelayError: whatever a solver or the journal raises.
    """
    client.check_clock()
    resumed = order_url is not None
    if order_url is None:
        found = client.find_unfinished_order(names) if adopt_unfinished else None
        order = found or _create(client, names, profile, replaces, on_replaces_refused)
        journal.order_created(order.url, order.expires)
        order_url = order.url
    authorizer = Authorizer(client, frozenset(names), solvers)
    deadline = Deadline(clock, deadline_seconds)
    drive = _Drive(client, names, csr_pem, journal, authorizer, deadline, sleep, resumed)
    try:
        return drive.to_the_end(order_url, preferred_chain)
    finally:
        authorizer.clean_up()


def _create(
    client: OrderClient,
    names: Sequence[str],
    profile: str | None,
    replaces: str | None,
    on_replaces_refused: Callable[[IssuanceRejected], None],
) -> OrderState:
    """Return a new order; a refused `replaces` never blocks it (RFC 9773 section 5)."""
    if replaces is not None:
        try:
            return client.new_order(names, profile=profile, replaces=replaces)
        except IssuanceRejected as error:
            on_replaces_refused(error)
    return client.new_order(names, profile=profile)


@dataclass
class _Drive:
    """One run over one order: a step for each status, repeated until the chain is here.

    A step that does not end the run returns what is waited for; only the head of the loop sleeps.
    So there is a pause between two steps, and the deadline ends the run, whatever the CA shows.
    """

    client: OrderClient
    names: Sequence[str]
    csr_pem: bytes
    journal: OrderJournal
    authorizer: Authorizer
    deadline: Deadline
    sleep: Sleep
    resumed: bool
    pauses: Pauses = field(default_factory=Pauses)
    entered: set[str] = field(default_factory=set)
    finalized: bool = False

    def to_the_end(self, order_url: str, preferred_chain: str | None) -> IssuedChain:
        failures = 0
        unfinished: IssuanceError | None = None
        while True:
            if unfinished is not None:
                self._pause(unfinished)
            try:
                found = self._advance(self.client.fetch_order(order_url))
                if isinstance(found, OrderState):
                    return self._download(found, preferred_chain)
                failures = 0
                unfinished = IssuanceUnfinished(f"{found.what}.", retry_after=found.retry_after)
            except (IssuanceUnavailable, IssuanceRateLimited) as error:
                failures += 1
                endless = isinstance(error, IssuanceRateLimited) and error.retry_after is None
                if endless or failures > MOST_FAILURES_IN_A_ROW:
                    raise
                unfinished = error

    def _pause(self, unfinished: IssuanceError) -> None:
        """Wait before the next step; raise what was not finished if the deadline is too close."""
        pause = self.pauses.take(unfinished.retry_after)
        if not self.deadline.allows(pause):
            raise unfinished
        self.sleep(pause)

    def _advance(self, order: OrderState) -> OrderState | StillPending:
        """Do what the status asks for; return the order once its certificate can be fetched."""
        if order.names != frozenset(self.names):
            raise IssuanceRejected(f"The order {order.url} is for other names than ours.")
        if self.resumed:
            self.resumed = False
            self.authorizer.take_over(order.authorizations)
        return self._step(order)

    def _step(self, order: OrderState) -> OrderState | StillPending:
        self._enter(order.status)
        if order.status == "pending":
            return self._authorize(order)
        if order.status == "ready" and not self.finalized:
            return self._finalize(order)
        if order.status == "invalid":
            raise self._over(order)
        if order.status == "valid" and order.certificate is not None:
            return order
        what = f"The CA is still processing the order {order.url}"
        if order.status == "ready":
            what = f"The CA accepted the CSR, but still shows the order {order.url} as ready"
        return StillPending(what, order.retry_after)

    def _enter(self, status: str) -> None:
        """Begin with short pauses again when the order has moved on, but not when it goes back."""
        if status not in self.entered:
            self.entered.add(status)
            self.pauses = Pauses()

    def _authorize(self, order: OrderState) -> StillPending:
        return self.authorizer.advance(order.authorizations) or StillPending(
            f"The CA has not made the order {order.url} ready", order.retry_after
        )

    def _finalize(self, order: OrderState) -> OrderState | StillPending:
        """Send the CSR, once in a run if the CA accepts it.

        Some CAs go on showing `ready` for a while (golang/go#52597). If one has lost the CSR, the
        next run sends it again (RFC 8555 section 7.4).
        """
        self.authorizer.clean_up()
        self.journal.finalizing()
        try:
            answered = self.client.finalize(order, self.csr_pem)
        except IssuanceRejected as error:
            if problem_code(error.problem) != "orderNotReady":
                raise
            what = f"The CA says the order {order.url} is not ready"
            return StillPending(what, error.retry_after)
        self.finalized = True
        return self._step(answered)

    def _over(self, order: OrderState) -> IssuanceRejected:
        """Return the end of an order that will give no certificate, in the CA's words."""
        failures = self.authorizer.failures(order.authorizations)
        reasons = [describe(order.problem)] if order.problem else []
        reasons += [one.what.rstrip(".") for one in failures]
        words = "; ".join(reasons) or "no reason given"
        kind = ValidationFailed if failures else IssuanceRejected
        return kind(
            f"The CA ended the order for {', '.join(self.names):.200}: {words}.",
            problem=_together([order.problem, *(one.problem for one in failures)]),
        )

    def _download(self, order: OrderState, preferred_chain: str | None) -> IssuedChain:
        url = order.certificate or ""
        self.journal.certificate_url(url)
        pem = self._fetch_chain(url, preferred_chain)
        chain = check_issued_chain(pem, self.csr_pem, self.names)
        return IssuedChain(chain_pem=chain, order_url=order.url, certificate_url=url)

    def _fetch_chain(self, url: str, preferred_chain: str | None) -> bytes:
        """Fetch what the CA has issued: a refusal here is no end of the order, which is valid."""
        try:
            return self.client.download_chain(url, preferred_chain)
        except IssuanceRejected as error:
            if error.problem is None:
                raise
            raise IssuanceUnavailable(
                f"The certificate is issued, but not handed out. {error.what}",
                retry_after=error.retry_after,
                problem=error.problem,
            ) from error


def _together(problems: Sequence[dict[str, object] | None]) -> dict[str, object] | None:
    """Return several problems as one: the first, with the others as its subproblems."""
    known = [one for one in problems if one]
    if len(known) < 2:
        return known[0] if known else None
    first, *others = known
    own = first.get("subproblems")
    return {**first, "subproblems": [*(own if isinstance(own, list) else []), *others]}
