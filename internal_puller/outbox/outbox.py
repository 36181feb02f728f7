"""The outbox: one receipt for each certificate, kept until the agent has it.

A receipt is kept in the progress of its certificate, which the caller makes durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from internal_puller.outbox.outcome import Outcome, sum_up
from internal_puller.outbox.receipts import seen
from internal_puller.state.progress import LastError, Progress
from shared.contract.errors import RelayError


class Teller(Protocol):
    """Who knows how the agent is told of a certificate: the source that it comes from."""

    @property
    def is_direct(self) -> bool:
        """Whether this machine gets its certificates by itself."""

    def receipt(self, outcome: Outcome) -> str | None:
        """Return what the agent is told; ``None`` where it is told nothing."""


class Outbox:
    """
    Args:
        progress: where receipts are kept.
        teller_of: certificate to its source; ``None`` if it has none any more.
        clock: unix seconds.
    """

    def __init__(
        self,
        progress: Progress,
        teller_of: Callable[[str], Teller | None],
        clock: Callable[[], float],
    ) -> None:
        self._progress, self._teller_of, self._clock = progress, teller_of, clock

    def keep(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Write one receipt for each certificate, of all its targets; return what each says."""
        by_certificate: dict[str, list[Outcome]] = {}
        for one in outcomes:
            by_certificate.setdefault(one.certificate, []).append(one)
        told = [sum_up(mine) for mine in by_certificate.values()]
        for outcome in told:
            self._keep(outcome)
        return told

    def _keep(self, outcome: Outcome) -> None:
        mine, error = self._progress.of(outcome.certificate), outcome.error
        mine.error = LastError(error.type, error.what, int(self._clock())) if error else None
        mine.target = "here"
        mine.served |= seen(outcome.looks)
        if outcome.word == "installed":
            mine.reported, mine.fault = outcome.generation, ""
        else:
            mine.fault = f"{outcome.generation} {error.type if error else ''}"
        self._write(outcome)

    def _write(self, outcome: Outcome) -> None:
        mine, teller = self._progress.of(outcome.certificate), self._teller_of(outcome.certificate)
        if teller is None or (mine.withdrawn_at and not teller.is_direct):
            return  # nobody takes a receipt of it
        mine.receipt, mine.direct = teller.receipt(outcome), teller.is_direct

    def keep_fault(self, certificate: str, generation: int, error: RelayError) -> Outcome:
        """Write the receipt of a fault of this machine; one for as long as it is the same.

        What is in place is reported anew as soon as it is over.
        """
        outcome = Outcome(certificate, generation, None, error)
        mine = self._progress.of(certificate)
        if mine.fault != f"{generation} {error.type}":
            self._keep(outcome)
            mine.reported = 0
        mine.error = LastError(error.type, error.what, int(self._clock()))
        return outcome

    def keep_failed_order(self, certificate: str, generation: int, error: RelayError) -> None:
        """Write the report of an order that brought nothing; what is in place stays."""
        self._progress.of(certificate).target = "here"
        self._write(Outcome(certificate, generation, None, error))
