"""One pull: ask what is new, and have it installed. Lean: with nothing new, little is imported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from internal_puller.client import RelayClient
from internal_puller.config import Settings
from internal_puller.expiry import warn_of_expiry
from internal_puller.files import sweep
from internal_puller.install.layout import TRIED_AGAIN, active_generation, set_aside, unfinished
from internal_puller.install.lock import default_lock_path, installation_lock
from internal_puller.plan import InPlace, Plan, Work, make_plan
from internal_puller.progress import CertificateProgress, LastError, Progress
from internal_puller.report import CertificateOutcome, PullReport
from internal_puller.state import StateDirectory
from internal_puller.targets import Target, load_targets
from internal_puller.transport import Transport
from shared.errors import (
    ClockWrong,
    ConfigurationError,
    InstallError,
    PolicyError,
    RelayError,
    RequestRefused,
    TransportError,
)
from shared.wire import Listing, clamp_come_back

if TYPE_CHECKING:
    from internal_puller.installation import Installation

NO_CONTACT = (TransportError, ClockWrong)
LOCK_WAIT = 20.0
_PASSING_REFUSALS = (
    "internal",
    "puller-suspended",
    "quota",
    "replayed-nonce",
    "store-unavailable",
)
_FIRST_PAUSE = 10.0
_LONGEST_PAUSE = 3600.0


class Puller:
    """
    Args:
        settings: where state and targets are.
        clock: unix seconds.
        monotonic: seconds, for pauses between attempts.
        say: told in words what is being done.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.settings = settings
        self.state = StateDirectory.open(settings.state_directory)
        self._enrolment = self.state.require_enrolment()
        self._clock = clock
        self._monotonic = monotonic
        self._say = say
        self._pauses: dict[tuple[str, int], tuple[float, float]] = {}
        self._client = connect(settings, self.state, clock)

    def close(self) -> None:
        self._client.close()

    def pull(
        self,
        *,
        wait: int = 0,
        retry: bool = False,
        while_waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> PullReport:
        """Ask, install what is new, and send receipts.

        Args:
            wait: seconds for the agent to hold the question until something is new.
            retry: try generations again that failed here before.
            while_waiting: entered around the question, and around nothing that changes anything.

        Raises:
            ConfigurationError: settings, state or targets are wrong.
            InstallBusy: another pull is at work on this machine.
        """
        report = PullReport()
        targets = load_targets(self.settings.targets_file)
        if any(unfinished(target) for target in targets):
            with self._lock():
                self._resume(targets, report)
        if _reshaped(targets, self.state.progress()):
            with self._lock():
                self._reshape(targets, report)
        try:
            with while_waiting():
                since = self.state.progress().version if wait else ""
                listing = self._client.listing(since=since, wait=self._patience(wait))
        except NO_CONTACT as error:
            self._note_failure(error, report)
        else:
            report.come_back = clamp_come_back(listing.come_back)
            self._follow(listing, targets, report, retry=retry)
        now = self._clock()
        share = self.settings.warn_below
        warn_of_expiry(targets, self.state.progress(), report, now=now, share=share)
        return report

    def _lock(self) -> AbstractContextManager[None]:
        path = self.settings.lock_file or default_lock_path(self.settings.state_directory)
        return installation_lock(path, wait=LOCK_WAIT)

    # --- following the list -------------------------------------------------------------------

    def _plan(self, listing: Listing, targets: Sequence[Target], *, retry: bool) -> Plan:
        progress = self.state.progress()
        places, unusable = _places(targets)
        return make_plan(
            listing.offers,
            self.state.floors(),
            places,
            unusable=unusable,
            reported={name: one.reported for name, one in progress.certificates.items()},
            now=self._clock(),
            retry=retry,
            deferred=self._is_deferred,
        )

    def _follow(
        self, listing: Listing, targets: Sequence[Target], report: PullReport, *, retry: bool
    ) -> None:
        plan = self._plan(listing, targets, retry=retry)
        self._forget_pauses(plan)
        progress = self.state.progress()
        self._note_contact(progress, listing)
        if plan.asks_for_something or _receipts(progress):
            with self._lock():
                progress = self.state.progress()  # another run may have changed it meanwhile
                self._note_contact(progress, listing)
                plan = self._plan(listing, targets, retry=retry)
                self._carry_out(plan, targets, progress, report)
        else:
            self.state.save_progress(progress, durable=False)
        _note_obstacles(plan, report)

    def _carry_out(
        self,
        plan: Plan,
        targets: Sequence[Target],
        progress: Progress,
        report: PullReport,
    ) -> None:
        sweep(self.state.path)
        if plan.work or plan.unreported:
            installation = self._installation(targets)
            for target in plan.unreported:
                installation.report_again(target, progress.of(target.certificate))
            for work in plan.work:
                outcome = self._attempt(installation, work, progress)
                if outcome is not None:
                    report.outcomes.append(outcome)
                    if _lost_contact(outcome.error):
                        report.contact = outcome.error
                    if outcome.error is None:
                        _note_shapes(progress, work.targets, targets)
                self.state.save_progress(progress, durable=True)
        try:
            self._deliver(progress, report)
            for certificate, floor in plan.behind.items():
                self._client.bundle(certificate, after=floor)
        except NO_CONTACT as error:
            self._note_error(progress, error, report)
        self.state.save_progress(progress, durable=True)

    def _attempt(
        self, installation: Installation, work: Work, progress: Progress
    ) -> CertificateOutcome | None:
        """One certificate's failure does not keep the others from being installed."""
        key = (work.certificate, work.generation)
        mine = progress.of(work.certificate)
        try:
            outcome = installation.carry_out(work, mine)
        except RelayError as error:
            mine.error = LastError(error.type, error.what, int(self._clock()))
            outcome = CertificateOutcome(*key, "failed", False, error)
        if outcome is None or outcome.error is None or _lost_contact(outcome.error):
            self._pauses.pop(key, None)  # a lost connection is the caller's to wait for
        else:
            earlier = self._pauses.get(key, (_FIRST_PAUSE / 2, 0.0))[0]
            pause = min(_LONGEST_PAUSE, 2 * earlier)
            self._pauses[key] = (pause, self._monotonic() + pause)
        return outcome

    def _is_deferred(self, certificate: str, generation: int) -> bool:
        return self._pauses.get((certificate, generation), (0.0, 0.0))[1] > self._monotonic()

    def _patience(self, wait: int) -> int:
        """Return how long the agent may hold the question: never beyond our own next attempt."""
        now = self._monotonic()
        left = [math.ceil(max(0.0, until - now)) for _, until in self._pauses.values()]
        return min([wait, *left])

    def _forget_pauses(self, plan: Plan) -> None:
        """Drop what is over and led to no attempt: nobody wants that generation any more."""
        now, wanted = self._monotonic(), {(one.certificate, one.generation) for one in plan.work}
        self._pauses = {
            key: pause for key, pause in self._pauses.items() if key in wanted or pause[1] > now
        }

    def _resume(self, targets: Sequence[Target], report: PullReport) -> None:
        progress = self.state.progress()
        installation = self._installation(targets)
        for target in targets:
            outcome = installation.resume(target, progress.of(target.certificate))
            if outcome is not None:
                report.outcomes.append(outcome)
        self.state.save_progress(progress, durable=True)

    def _reshape(self, targets: Sequence[Target], report: PullReport) -> None:
        """Once for each change: what fails now is in force with the next generation."""
        progress = self.state.progress()
        installation = self._installation(targets)
        changed = _reshaped(targets, progress)
        for target in changed:
            outcome = installation.reshape(target)
            if outcome is not None:
                report.outcomes.append(outcome)
        _note_shapes(progress, changed, targets)
        self.state.save_progress(progress, durable=True)

    def _installation(self, targets: Sequence[Target]) -> Installation:
        from internal_puller.installation import Installation

        return Installation(
            self.state,
            self._enrolment,
            self._client,
            targets,
            self.settings.targets_file,
            report_addresses=self.settings.report_addresses,
            clock=self._clock,
            say=self._say,
        )

    # --- receipts -----------------------------------------------------------------------------

    def _deliver(self, progress: Progress, report: PullReport) -> None:
        """Send what is still to be delivered; what the agent refuses for good is dropped."""
        for certificate, one in progress.certificates.items():
            if one.receipt is None:
                continue
            try:
                self._client.send_receipt(one.receipt.encode())
            except RequestRefused as error:
                if error.problem_type in _PASSING_REFUSALS or not error.problem_type:
                    raise
                report.warnings.append(f"{certificate}: the receipt was not taken: {error.what}")
            one.receipt = None

    def look_again(self) -> bool:
        """Probe what is served; when that changed, send a fresh receipt. Tell whether it did.

        Raises:
            TransportError: the receipt could not be delivered; it is kept.
        """
        targets = load_targets(self.settings.targets_file)
        with self._lock():
            progress = self.state.progress()
            installation = self._installation(targets)
            changed = False
            for target in targets:
                one = progress.of(target.certificate)
                changed |= installation.report_if_changed(target, one)
            if changed:
                self.state.save_progress(progress, durable=True)
                self._deliver(progress, PullReport())
                self.state.save_progress(progress, durable=True)
        return changed

    def roll_back(self, certificate: str, to: int | None) -> PullReport:
        """Activate an earlier generation at every target of a certificate, and report it.

        Raises:
            ConfigurationError: no such target, or no such generation on disk.
            InstallBusy: another pull is at work on this machine.
        """
        targets = load_targets(self.settings.targets_file)
        mine = [target for target in targets if target.certificate == certificate]
        if not mine:
            raise ConfigurationError(f"There is no target for {certificate!r:.200}.")
        report = PullReport()
        with self._lock():
            progress = self.state.progress()
            installation = self._installation(targets)
            for target in mine:
                one = progress.of(certificate)
                report.outcomes.append(installation.roll_back(target, to, one))
            self.state.save_progress(progress, durable=True)
            try:
                self._deliver(progress, report)
            except NO_CONTACT as error:
                self._note_error(progress, error, report)
            self.state.save_progress(progress, durable=True)
        return report

    # --- notes --------------------------------------------------------------------------------

    def _note_contact(self, progress: Progress, listing: Listing) -> None:
        now = int(self._clock())
        progress.version = listing.version
        progress.come_back_at = now + clamp_come_back(listing.come_back)
        progress.last_contact = now
        progress.clock_difference = self._client.clock_difference or 0
        progress.tls_check = self._client.tls_check
        progress.error = None
        offered = {offer.certificate: offer.generation for offer in listing.offers}
        # What was offered once and never installed is forgotten: an agent can think of names
        # without end.
        for certificate, one in list(progress.certificates.items()):
            if certificate not in offered and one == CertificateProgress(offered=one.offered):
                del progress.certificates[certificate]
        for certificate, generation in offered.items():
            progress.of(certificate).offered = generation

    def _note_failure(self, error: RelayError, report: PullReport) -> None:
        progress = self.state.progress()
        self._note_error(progress, error, report)
        self.state.save_progress(progress, durable=False)

    def _note_error(self, progress: Progress, error: RelayError, report: PullReport) -> None:
        report.contact = error
        progress.error = LastError(error.type, error.what, int(self._clock()))


def connect(
    settings: Settings, state: StateDirectory, clock: Callable[[], float] = time.time
) -> RelayClient:
    """Return a client for the agent that this machine is enrolled with."""
    enrolment = state.require_enrolment()
    transport = Transport(
        enrolment.relay_url,
        enrolment.tls_pin,
        proxy=settings.proxy,
        roots_file=settings.roots_file,
        prefer=state.progress().tls_check,
    )
    return RelayClient(
        enrolment.relay_url,
        enrolment.agent,
        state.signing_key(),
        transport,
        timeout=settings.timeout,
        clock=clock,
    )


def _places(
    targets: Sequence[Target],
) -> tuple[list[InPlace], list[tuple[Target, RelayError]]]:
    """One target that cannot be looked at must not keep the others from being served."""
    places: list[InPlace] = []
    unusable: list[tuple[Target, RelayError]] = []
    for target in targets:
        try:
            places.append(InPlace(target, active_generation(target), set_aside(target)))
        except ConfigurationError as error:
            unusable.append((target, error))
    return places, unusable


def _reshaped(targets: Sequence[Target], progress: Progress) -> list[Target]:
    """Return the targets whose files in place were written for other formats, owners or modes."""
    found = []
    for target in targets:
        if progress.shapes.get(str(target.directory)) == target.shape:
            continue
        with suppress(ConfigurationError):  # said elsewhere
            if active_generation(target) is not None:
                found.append(target)
    return found


def _note_shapes(progress: Progress, written: Sequence[Target], targets: Sequence[Target]) -> None:
    progress.shapes |= {str(one.directory): one.shape for one in written}
    here = {str(one.directory) for one in targets}
    progress.shapes = {place: one for place, one in progress.shapes.items() if place in here}


def _lost_contact(error: RelayError | None) -> bool:
    """Whether the agent went away; a refusal is its answer."""
    return isinstance(error, NO_CONTACT) and not isinstance(error, RequestRefused)


def _receipts(progress: Progress) -> bool:
    return any(one.receipt for one in progress.certificates.values())


def _note_obstacles(plan: Plan, report: PullReport) -> None:
    for target, reason in plan.unusable:
        report.outcomes.append(CertificateOutcome(target.certificate, 0, "failed", False, reason))
    for certificate, generation, failed in plan.failed:
        error = InstallError(
            f"{certificate}: generation {generation} failed here: {failed.what}",
            do=TRIED_AGAIN,
        )
        report.outcomes.append(
            CertificateOutcome(certificate, generation, "rolled_back", False, error)
        )
    for certificate in plan.not_granted:
        denied = PolicyError(
            f"{certificate}: there is a target for it, but the agent does not grant it (any more).",
            do="Grant it there, or remove it here: internal-puller target remove.",
        )
        report.outcomes.append(CertificateOutcome(certificate, 0, "failed", False, denied))
