"""The agent as a source of certificates; with nothing new, little is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from internal_puller.settings.targets import Target
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.source import Work
from internal_puller.state.state import Enrolment, StateDirectory
from shared.contract.errors import BundleError
from shared.contract.wire import Listing, Offer

if TYPE_CHECKING:
    from internal_puller.install.material import Material
    from internal_puller.outbox.outcome import Outcome
    from internal_puller.sources.acceptance import Acceptance
    from internal_puller.state.progress import CertificateProgress


class AgentSource:
    """What the agent hands out to this machine.

    Args:
        targets: of this machine.
        clock: unix seconds.
        say: told in words what is being done.

    Attributes:
        listing: what it has for this machine; ``None`` until it was asked in this pull.
    """

    is_direct = False

    def __init__(
        self,
        client: RelayClient,
        enrolment: Enrolment,
        state: StateDirectory,
        targets: Sequence[Target],
        *,
        report_addresses: bool,
        clock: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self.client = client
        self.listing: Listing | None = None
        self._agent, self._state, self._targets = enrolment.agent, state, targets
        self._report_addresses, self._clock, self._say = report_addresses, clock, say

    def ask(self, *, since: str = "", wait: int = 0) -> Listing:
        """Ask what there is. Raises as :meth:`RelayClient.listing`."""
        self.listing = self.client.listing(since=since, wait=wait)
        return self.listing

    def offers(self) -> Sequence[Offer]:
        """Return what was last answered; nothing before the first answer."""
        return self.listing.offers if self.listing else ()

    def fetch(self, work: Work) -> Material | Outcome | None:
        """See :class:`internal_puller.sources.source.Source`."""
        self._say(f"{work.certificate}: fetching generation {work.generation}")
        answer = self.client.bundle(work.certificate, after=work.after)
        if answer.envelope is None:
            return None
        try:
            return self._accepted(answer.envelope, work)
        except BundleError as error:
            return self._refused(answer.envelope, work, error)

    def _accepted(self, envelope: bytes, work: Work) -> Material:
        from internal_puller import trust
        from internal_puller.state.pending import PendingKeys

        accepted = trust.accept(
            envelope,
            agent=self._agent,
            identity=self._state.identity(),
            wanted=self._acceptance.wanted(work.certificate),
            floor=self._state.floors().get(work.certificate),
            pending_keys=PendingKeys(self._state.path, work.certificate).by_spki(),
            now=self._clock(),
        )
        return self._acceptance.keep(accepted)

    def _refused(self, envelope: bytes, work: Work, error: BundleError) -> Outcome:
        from internal_puller import trust
        from internal_puller.outbox.outcome import Outcome

        digest, generation = trust.describe(envelope, self._agent)
        return Outcome(work.certificate, generation or work.generation, None, error, digest=digest)

    @cached_property
    def _acceptance(self) -> Acceptance:
        from internal_puller.sources.acceptance import Acceptance

        return Acceptance(self._state, self._targets)

    def in_place(self, material: Material, progress: CertificateProgress) -> None:
        """See :class:`internal_puller.sources.source.Source`."""
        self._acceptance.in_place(material, progress)

    def receipt(self, outcome: Outcome) -> str | None:
        """Return the encoded receipt (docs/FORMAT.md section 8)."""
        from internal_puller.outbox.receipts import make_receipt

        now = int(self._clock())
        return make_receipt(outcome, report_addresses=self._report_addresses, now=now)
