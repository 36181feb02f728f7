"""What the calls of the operator API work with; made by the running agent or by a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from external_agent.doctor.halves import Halves
from external_agent.facts.issues import Thresholds
from external_agent.relay.enrolment import TokenMaker
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.contract.diagnosis import Half

if TYPE_CHECKING:
    from external_agent.orders.certificate_authority import Connector

Run = Callable[..., Awaitable[Any]]


def _nobody(outcome: object) -> None:
    return None


@dataclass(frozen=True)
class Services:
    """
    Attributes:
        clock: unix seconds.
        run: calls a function that may block.
        settings: as they are now.
        token_maker: makes enrolment tokens; raises ConfigurationError if keys are missing.
        authorities: connections to CAs.
        random: gives so many random bytes.
        examine: makes a diagnosis of some certificates, or of all.
        halves: what pullers found in theirs.
        observe_access: told how each attempt with an access token ended.
        unexpected: told of an error of ours, after the caller was.
        allowed_hosts: further host names under which the listener is known.
        open_read: whether loopback may read without a token.
    """

    store: Store
    clock: Callable[[], float]
    run: Run
    settings: Callable[[], Settings]
    token_maker: Callable[[], TokenMaker]
    authorities: Callable[[], Connector]
    random: Callable[[int], bytes]
    examine: Callable[[Sequence[str]], Awaitable[Half]] | None = None
    halves: Halves = field(default_factory=Halves)
    observe_access: Callable[[str], None] = _nobody
    unexpected: Callable[[Exception], None] = _nobody
    allowed_hosts: Collection[str] = ()
    open_read: bool = False

    @property
    def limits(self) -> Thresholds:
        return self.settings().attention.thresholds

    @property
    def now(self) -> int:
        return int(self.clock())
