"""Direct mode as a source of certificates; with nothing due, little is imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from internal_puller.install.lock import installation_lock
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.report import PullReport
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target
from internal_puller.sources.direct.record import DirectFiles, DirectProgress
from internal_puller.sources.direct.schedule import is_due, is_paused, next_moment, wants_look
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings
from internal_puller.sources.source import WhileWaiting, Work
from internal_puller.state.progress import CertificateProgress, LastError
from internal_puller.state.state import StateDirectory
from shared.contract.errors import BundleError, InstallBusy, RelayError
from shared.contract.wire import Offer

if TYPE_CHECKING:
    from internal_puller.install.material import Material
    from internal_puller.sources.acceptance import Acceptance

RECORD_ENDS_SOON = 30 * 86400


class DirectSource:
    """What this machine gets from CAs by itself.

    Args:
        targets: of this machine.
        is_told: whether there is an agent that is told of it.
        clock: unix seconds.
        while_waiting: entered around every pause in an order; may raise to end it.
        say: told in words what is being done.

    Attributes:
        failed: certificates whose order failed in this pull, and why.
    """

    is_direct = True

    def __init__(
        self,
        direct: DirectSettings,
        settings: Settings,
        state: StateDirectory,
        targets: Sequence[Target],
        *,
        is_told: bool,
        clock: Callable[[], float],
        while_waiting: WhileWaiting,
        say: Callable[[str], None],
    ) -> None:
        self.direct = direct
        self.files = DirectFiles(settings.state_directory)
        self.failed: dict[str, RelayError] = {}
        self._settings, self._state, self._targets = settings, state, targets
        self._is_told, self._clock = is_told, clock
        self._while_waiting, self._say = while_waiting, say

    @cached_property
    def certificates(self) -> frozenset[str]:
        return frozenset(one.certificate for one in self.direct.certificates)

    def order(self, report: PullReport) -> None:
        """Ask the CA for what is due, one certificate after another.

        Without a target nothing is ordered: nobody could use it.
        """
        installed = {target.certificate for target in self._targets}
        wanted = []
        for one in self.direct.certificates:
            if one.certificate in installed:
                wanted.append(one)
            else:
                report.warnings.append(
                    f"{one.certificate}: nothing is ordered, for there is no target: "
                    f"internal-puller target add {one.certificate}"
                )
        todo = [one for one in wanted if self._is_due(one) or self._wants_look(one)]
        if not todo:
            return
        self.files.create()
        try:
            with installation_lock(self.files.lock_path):
                self._ask(todo)
        except InstallBusy:
            self._say("another pull is at work with the CA")

    def _ask(self, todo: Sequence[DirectCertificate]) -> None:
        from internal_puller.sources.direct.ordering import Ordering

        ordering = Ordering(
            self.direct,
            self._settings,
            self.files,
            floors=self._floor,
            is_due=self._is_due,
            clock=self._clock,
            while_waiting=self._while_waiting,
            say=self._say,
        )
        ordering.order(todo)
        self.failed |= ordering.failed

    def _floor(self, certificate: str) -> int:
        known = self._state.floors().get(certificate)
        return known.generation if known else 0

    def _progress(self, certificate: str) -> DirectProgress | None:
        return self.files.of(certificate).progress()

    def _is_due(self, one: DirectCertificate) -> bool:
        unfinished = self.files.of(one.certificate).has_attempt()
        progress = self._progress(one.certificate)
        directories = self.direct.directories(one)
        return is_due(progress, one, directories, self._clock(), unfinished=unfinished)

    def _wants_look(self, one: DirectCertificate) -> bool:
        return wants_look(self._progress(one.certificate), self._clock())

    def warn_of_records(self, report: PullReport) -> None:
        """Warn of dns-persist-01 records that end soon: without them nothing is renewed."""
        now = self._clock()
        for one in self.direct.certificates:
            known = self._progress(one.certificate) or DirectProgress()
            for name, until in sorted(known.persist_until.items()):
                if one.challenge == "dns-persist-01" and until - now < RECORD_ENDS_SOON:
                    day = time.strftime("%Y-%m-%d", time.gmtime(until))
                    report.warnings.append(
                        f"{one.certificate}: the dns-persist-01 record of {name} ends at {day}: "
                        f"internal-puller direct dns-persist record {name}"
                    )

    # --- for the plan -------------------------------------------------------------------------

    def offers(self) -> list[Offer]:
        """Return what is here to be installed, as an agent's list would say it."""
        offers = []
        for one in self.direct.certificates:
            known = self._progress(one.certificate) or DirectProgress()
            offers.append(
                Offer(
                    one.certificate, one.names, known.generation, known.not_after, "puller", False
                )
            )
        return offers

    def come_back(self) -> int:
        """Return the seconds until something is to be done."""
        now = self._clock()
        moments = [next_moment(self._progress(one), now) for one in self.certificates]
        return int(min(moments, default=now + 86400) - now)

    # --- one generation -----------------------------------------------------------------------

    def fetch(self, work: Work) -> Material | Outcome | None:
        """Take the newest generation; ``None`` if it is not here any more.

        Raises:
            ConfigurationError: its file is damaged.
        """
        from internal_puller.sources.direct.own import accept_own

        issued = self.files.of(work.certificate).issued()
        if issued is None or issued.generation != work.generation:
            return None
        floor = self._state.floors().get(work.certificate)
        wanted = self._acceptance.wanted(work.certificate)
        try:
            accepted = accept_own(issued, wanted, floor, self._clock())
        except BundleError as error:
            return Outcome(work.certificate, work.generation, None, error)
        return self._acceptance.keep(accepted)

    @cached_property
    def _acceptance(self) -> Acceptance:
        from internal_puller.sources.acceptance import Acceptance

        return Acceptance(self._state, self._targets)

    def in_place(self, material: Material, progress: CertificateProgress) -> None:
        """See :class:`internal_puller.sources.source.Source`."""
        self._acceptance.in_place(material, progress)

    def receipt(self, outcome: Outcome) -> str | None:
        """Return the encoded report (docs/FORMAT.md), if there is an agent that is told."""
        if not self._is_told:
            return None
        from internal_puller.sources.direct.reports import make_report

        return make_report(
            outcome,
            self.direct,
            self.files.of(outcome.certificate),
            self._targets,
            report_addresses=self._settings.report_addresses,
            now=int(self._clock()),
        )

    # --- for the report -----------------------------------------------------------------------

    def failures(self) -> list[tuple[str, int, RelayError]]:
        """Return of each order that failed: certificate, generation in place of it, and why."""
        return [
            (one, (self._progress(one) or DirectProgress()).generation, error)
            for one, error in self.failed.items()
        ]

    def note_troubles(self, report: PullReport) -> None:
        """Say of every certificate whose last order failed why, and when the next one is made."""
        for one in self.direct.certificates:
            known = self._progress(one.certificate) or DirectProgress()
            error = self.failed.get(one.certificate)
            if error is None and known.error is not None and is_paused(known, self._clock()):
                error = restored(known.error)
            if error is not None:
                error = _with_next_attempt(one.certificate, error, known)
                report.outcomes.append(Outcome(one.certificate, known.generation, None, error))

    def reasons(self) -> dict[str, str]:
        """Return, for a warning, why each certificate was not renewed."""
        found = {}
        for one in self.certificates:
            known = self._progress(one)
            if known is not None and known.error is not None:
                found[one] = f"the last order failed: {known.error.what}"
            else:
                found[one] = "no order has been made yet"
        return found


def restored(error: LastError) -> RelayError:
    """Return an error as it was kept: its class decides the exit code."""
    kinds: list[type[RelayError]] = [RelayError]
    for kind in kinds:  # grows while it is walked
        if kind.type == error.type:
            break
        kinds += kind.__subclasses__()
    else:
        kind = RelayError
    return kind(error.what)


def _with_next_attempt(certificate: str, error: RelayError, known: DirectProgress) -> RelayError:
    what = f"{certificate}: {error.what}"
    if known.paused_until:
        moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(known.paused_until))
        what += f" The next attempt is made from {moment} UTC on."
    return type(error)(what, do=error.do)
