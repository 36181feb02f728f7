"""One pull: ask what is new, and have it installed. Lean: with nothing new, little is imported."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from internal_puller.facts.expiry import warn_of_expiry
from internal_puller.install.active import read_active
from internal_puller.install.layout import TRIED_AGAIN, active_generation, set_aside
from internal_puller.install.lock import installation_lock
from internal_puller.install.notes import has_note
from internal_puller.outbox.report import CertificateOutcome, PullReport
from internal_puller.pull.plan import InPlace, Plan, Work, make_plan
from internal_puller.pull.remembered import follow, forget, without_target
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target, load_targets
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.this_machine import this_machine
from internal_puller.sources.agent.transport import Transport
from internal_puller.state.files import sweep
from internal_puller.state.pending import PendingKeys, pending_certificates
from internal_puller.state.progress import CertificateProgress, LastError, Progress
from internal_puller.state.state import StateDirectory
from shared.contract.errors import (
    ClockWrong,
    ConfigurationError,
    InstallBusy,
    InstallError,
    PolicyError,
    RelayError,
    RequestRefused,
    TransportError,
)
from shared.contract.wire import Listing, Machine, Offer, clamp_come_back

if TYPE_CHECKING:
    from internal_puller.install.installation import Installation
    from internal_puller.pull.pace import Pace
    from internal_puller.sources.direct.installation import DirectInstallation
    from internal_puller.sources.direct.part import DirectPart

NO_CONTACT = (TransportError, ClockWrong)
WhileWaiting = Callable[[], AbstractContextManager[None]]
LOCK_WAIT = 20.0
_NEXT_CSR = 0
"""In place of a generation: what is put off is leaving a CSR."""
_SAVE_EVERY = 2.0
"""Seconds; the file tells of all certificates, so once for each would be quadratic."""
_FIRST_PAUSE = 10.0
_LONGEST_PAUSE = 3600.0


class Puller:
    """
    Args:
        settings: where state and targets are.
        clock: unix seconds.
        monotonic: seconds, for pauses between attempts.
        say: told in words what is being done.
        identify: says which machine this is.
        pace: how often each certificate may be installed; ``None`` for one pull, which somebody
            or a timer began.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: None,
        identify: Callable[[], Machine | None] = this_machine,
        pace: Pace | None = None,
    ) -> None:
        self.settings = settings
        self.state = StateDirectory.open(settings.state_directory)
        self._enrolment = self.state.enrolment()
        self._clock = clock
        self._monotonic = monotonic
        self._say = say
        self._pace = pace
        self._too_often: set[str] = set()
        self._pauses: dict[tuple[str, int], tuple[float, float]] = {}
        self._direct: DirectPart | None = None
        self._here: frozenset[str] = frozenset()
        self._client: RelayClient | None = None
        if self._enrolment is not None or not settings.direct_file.exists():
            self._client = connect(settings, self.state, clock, identify)

    @property
    def has_agent(self) -> bool:
        """Whether this machine is enrolled; without an agent there are direct certificates only."""
        return self._client is not None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def pull(
        self,
        *,
        wait: int = 0,
        retry: bool = False,
        while_waiting: WhileWaiting = nullcontext,
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
        report, self._here = PullReport(), frozenset[str]()
        try:
            self._pull(report, wait=wait, retry=retry, while_waiting=while_waiting)
        except ClockWrong:
            raise
        except ConfigurationError as fault:
            self._tell_of_fault(fault)
            raise
        return report

    def _pull(
        self, report: PullReport, *, wait: int, retry: bool, while_waiting: WhileWaiting
    ) -> None:
        targets = load_targets(self.settings.targets_file)
        self._here = frozenset(target.certificate for target in targets)
        self._direct = self._load_direct(while_waiting)
        if self._without_target(targets):
            with self._lock():
                self._forget_removed(targets)
        if has_note(self.state.path):
            with self._lock():
                self._resume(targets, report)
        if _reshaped(targets, self.state.progress()):
            with self._lock():
                self._reshape(targets, report)
        if self._client is not None:
            self._pull_from(
                self._client, targets, report, wait=wait, retry=retry, while_waiting=while_waiting
            )
        if self._direct is not None:
            self._pull_direct(self._direct, targets, report, retry=retry)
        warn_of_expiry(
            targets,
            self.state.progress(),
            report,
            now=self._clock(),
            share=self.settings.warn_below,
            reasons=self._direct.reasons() if self._direct else {},
        )
        self._write_metrics(targets, report)
        self._raise_alarm([target.certificate for target in targets], report)

    def _raise_alarm(self, here: Sequence[str], report: PullReport) -> None:
        settings = self.settings
        if not (settings.alarm_command or settings.alarm_mail):
            return
        from internal_puller.facts.alarm import raise_alarm

        try:
            raise_alarm(settings, here, self.state.progress(), report, self._clock())
        except ConfigurationError as error:
            report.warnings.append(f"{error.what} {error.do}")

    def _write_metrics(self, targets: Sequence[Target], report: PullReport) -> None:
        """A collector's file that cannot be written is a warning: certificates come first."""
        path = self.settings.metrics_file
        if path is None:
            return
        from internal_puller.facts.textfile import write_metrics

        try:
            write_metrics(path, targets, self.state.progress(), report, self._clock())
        except ConfigurationError as error:
            report.warnings.append(f"{error.what} {error.do}")

    def _pull_from(
        self,
        client: RelayClient,
        targets: Sequence[Target],
        report: PullReport,
        *,
        wait: int,
        retry: bool,
        while_waiting: WhileWaiting,
    ) -> None:
        try:
            with while_waiting():
                progress = self.state.progress()
                since = progress.version if wait else ""
                listing = client.listing(since=since, wait=self._patience(wait, progress))
        except NO_CONTACT as error:
            self._note_failure(error, report)
        else:
            report.come_back = clamp_come_back(listing.come_back)
            own = self._direct.certificates if self._direct else frozenset()
            theirs = [target for target in targets if target.certificate not in own]
            self._follow(client, listing, theirs, report, retry=retry)

    def _lock(self) -> AbstractContextManager[None]:
        return installation_lock(self.settings.lock, wait=LOCK_WAIT)

    # --- following the list -------------------------------------------------------------------

    def _plan(self, offers: Sequence[Offer], targets: Sequence[Target], *, retry: bool) -> Plan:
        if self._client is None:
            reported = {one.certificate: one.generation for one in offers}  # nobody is told
        else:
            known = self.state.progress().certificates
            reported = {name: one.reported for name, one in known.items()}
        places, unusable = _places(targets)
        self._too_often.clear()
        return make_plan(
            offers,
            self.state.floors(),
            places,
            unusable=unusable,
            reported=reported,
            now=self._clock(),
            retry=retry,
            deferred=partial(self._waits, targets),
        )

    def _follow(
        self,
        client: RelayClient,
        listing: Listing,
        targets: Sequence[Target],
        report: PullReport,
        *,
        retry: bool,
    ) -> None:
        plan = self._plan(listing.offers, targets, retry=retry)
        self._forget_pauses(plan)
        progress = self.state.progress()
        self._note_contact(client, progress, listing, targets)
        csrs = self._csrs_due(listing, targets)
        if plan.asks_for_something or csrs or progress.reports_due(self._clock()):
            with self._lock():
                progress = self.state.progress()  # another run may have changed it meanwhile
                self._note_contact(client, progress, listing, targets)
                plan = self._plan(listing.offers, targets, retry=retry)
                self._carry_out(plan, self._installation(targets), progress, report)
                self._leave_csrs(client, listing, targets, progress, report)
        else:
            self.state.save_progress(progress, durable=False)
        _note_obstacles(plan, report)
        report.warnings += [
            f"{name}: the agent offers new certificates without end; the newest is installed when "
            "a part of what is left of the one in place has passed; on the agent see: "
            "external-agent events"
            for name in sorted(self._too_often)
        ]

    def _carry_out(
        self,
        plan: Plan,
        installation: Installation,
        progress: Progress,
        report: PullReport,
    ) -> None:
        sweep(self.state.path)
        _report_standing(plan, installation, progress)
        saved = self._monotonic()
        for work in plan.work:
            outcome = self._attempt(installation, work, progress)
            if outcome is not None:
                report.outcomes.append(outcome)
                if _lost_contact(outcome.error):
                    report.contact = outcome.error
                if outcome.error is None:
                    _note_shapes(progress, work.targets)
            # What was installed and not saved is seen in place and reported by the next run; of
            # anything else only this file knows.
            done = outcome is not None and outcome.error is None
            if not done or self._monotonic() - saved >= _SAVE_EVERY:
                self.state.save_progress(progress, durable=True)
                saved = self._monotonic()
        self.state.save_progress(progress, durable=True)
        if self._client is not None and report.contact is None:
            try:
                self._deliver(self._client, progress, report)
                for certificate, floor in plan.behind.items():
                    self._client.bundle(certificate, after=floor)
            except NO_CONTACT as error:
                self._note_error(progress, error, report)
        self.state.save_progress(progress, durable=True)

    # --- what is gone, and what is wrong here -------------------------------------------------

    def _without_target(self, targets: Sequence[Target]) -> set[str]:
        """Return the certificates of which something is left here and nothing has a target."""
        here = {target.certificate for target in targets}
        left = pending_certificates(self.state.path) - here
        return left.union(without_target(self.state.progress(), here))

    def _forget_removed(self, targets: Sequence[Target]) -> None:
        """The agent is told once, by receipt; the rest of what was known goes at once."""
        progress, here = self.state.progress(), {target.certificate for target in targets}
        for certificate in without_target(progress, here):
            forget(progress, certificate, self._removed_receipt(progress, certificate))
        self.state.save_progress(progress, durable=True)
        for certificate in pending_certificates(self.state.path) - here:
            self._pending(certificate).clear()

    def _removed_receipt(self, progress: Progress, certificate: str) -> str | None:
        if self._client is None:
            return None
        mine, now = progress.of(certificate), int(self._clock())
        if not mine.direct:
            from internal_puller.outbox.receipts import removed_receipt

            return removed_receipt(certificate, mine.offered, now=now)
        from internal_puller.sources.direct.record import DirectFiles
        from internal_puller.sources.direct.reports import removed_report

        with suppress(ConfigurationError):  # what is damaged must not be told of for ever
            if issued := DirectFiles(self.state.path).of(certificate).issued():
                return removed_report(certificate, issued.names, now=now)
        return None

    def _tell_of_fault(self, fault: ConfigurationError) -> None:
        """Tell the agent, and whoever gets alarms, what on this machine ends every pull."""
        try:
            with self._lock():
                self._report_fault(fault)
        except InstallBusy:
            return  # another pull is at work, and tells
        except RelayError:  # not even the lock can be had, or more is wrong than that
            with suppress(RelayError):
                self._report_fault(fault)
        self._raise_alarm((), PullReport(fault=fault))

    def _report_fault(self, fault: ConfigurationError) -> None:
        """Write and send receipts of all that is not in place.

        Where the targets cannot be read, those of the last pull count.
        """
        progress = self.state.progress()
        known = {name for name, one in progress.certificates.items() if one.target == "here"}
        own = self._direct.certificates if self._direct else frozenset()
        offered = self._offered_now()
        for certificate in sorted(self._here or known):
            mine = progress.of(certificate)
            newest = offered.get(certificate, mine.reported)
            if certificate in own or newest != mine.reported:
                installation = self._installation((), certificate)
                installation.report_fault(certificate, newest, fault, mine)
        if self._client is not None and progress.reports_due(self._clock()):
            self._send(self._client, progress, PullReport())
        with suppress(ConfigurationError):
            self.state.save_progress(progress, durable=True)

    def _offered_now(self) -> dict[str, int]:
        """Return the newest generations, as far as the agent says and our own are known."""
        offers: list[Offer] = []
        with suppress(*NO_CONTACT, ConfigurationError):
            if self._direct is not None:
                offers += self._direct.offers()
            if self._client is not None:
                offers += self._client.listing().offers
        return {one.certificate: one.generation for one in offers}

    def _send(self, client: RelayClient, progress: Progress, report: PullReport) -> None:
        try:
            self._deliver(client, progress, report)
        except NO_CONTACT as error:
            self._note_error(progress, error, report)
        with suppress(ConfigurationError):
            self.state.save_progress(progress, durable=True)

    # --- keys made here -----------------------------------------------------------------------

    def _csrs_due(self, listing: Listing, targets: Sequence[Target]) -> list[Offer]:
        """Return the certificates for whose next generation a CSR is to be left now.

        One is also left unasked when the key of what the agent has is here no more.
        """
        here = {target.certificate for target in targets}
        return [
            offer
            for offer in listing.offers
            if offer.key_origin == "puller"
            and offer.certificate in here
            and not self._is_deferred(offer.certificate, _NEXT_CSR)
            and (offer.csr_wanted or self._pending(offer.certificate).unused is None)
        ]

    def _pending(self, certificate: str) -> PendingKeys:
        return PendingKeys(self.state.path, certificate)

    def _leave_csrs(
        self,
        client: RelayClient,
        listing: Listing,
        targets: Sequence[Target],
        progress: Progress,
        report: PullReport,
    ) -> None:
        """What was installed a moment ago has used its key: the next one's is left at once."""
        for offer in self._csrs_due(listing, targets) if report.contact is None else ():
            mine = progress.of(offer.certificate)
            try:
                self._leave_csr(client, offer, targets)
            except RelayError as error:
                if _lost_contact(error):
                    self._note_error(progress, error, report)
                    break
                mine.csr_error = error.what
                self._defer((offer.certificate, _NEXT_CSR))
                if not isinstance(error, RequestRefused):
                    reported = mine.reported  # what is in place is none the worse for it
                    self._installation(targets).report_fault(
                        offer.certificate, mine.offered, error, mine
                    )
                    mine.reported = reported
                report.outcomes.append(
                    CertificateOutcome(offer.certificate, 0, "failed", False, error)
                )
            else:
                if mine.csr_error:
                    mine.error, mine.fault, mine.reported = None, "", 0
                mine.csr_error, mine.csr_wanted = "", False
                self._pauses.pop((offer.certificate, _NEXT_CSR), None)
                report.csrs_left.append(offer.certificate)
        self.state.save_progress(progress, durable=True)
        if progress.reports_due(self._clock()) and report.contact is None:
            self._send(client, progress, report)

    def _leave_csr(self, client: RelayClient, offer: Offer, targets: Sequence[Target]) -> None:
        from internal_puller.pull.next_csr import algorithm_for, leave_next_csr

        algorithm = algorithm_for(offer.certificate, targets, self.settings.key_algorithm)
        pending = self._pending(offer.certificate)
        leave_next_csr(client, pending, offer, algorithm, say=self._say)

    # --- one certificate ----------------------------------------------------------------------

    def _attempt(
        self, installation: Installation, work: Work, progress: Progress
    ) -> CertificateOutcome | None:
        """One certificate's failure does not keep the others from being installed."""
        key = (work.certificate, work.generation)
        mine = progress.of(work.certificate)
        if self._pace is not None:
            self._pace.note(work.certificate)
        try:
            outcome = installation.carry_out(work, mine)
        except RelayError as error:
            outcome = self._failed(installation, work, mine, error)
        except Exception as fault:  # a bug in one must not stop the others
            what = f"{work.certificate}: unexpected {type(fault).__name__}: {fault}."
            ours = RelayError(what, do="Please report it: it is our fault.")
            outcome = self._failed(installation, work, mine, ours)
        if outcome is None or outcome.error is None or _lost_contact(outcome.error):
            self._pauses.pop(key, None)  # a lost connection is the caller's to wait for
        else:
            self._defer(key)
        return outcome

    def _failed(
        self,
        installation: Installation,
        work: Work,
        mine: CertificateProgress,
        error: RelayError,
    ) -> CertificateOutcome:
        """What is wrong on this machine is told to the agent; what the agent said it knows."""
        if not isinstance(error, NO_CONTACT):
            return installation.report_fault(work.certificate, work.generation, error, mine)
        mine.error = LastError(error.type, error.what, int(self._clock()))
        return CertificateOutcome(work.certificate, work.generation, "failed", False, error)

    def _defer(self, key: tuple[str, int]) -> None:
        earlier = self._pauses.get(key, (_FIRST_PAUSE / 2, 0.0))[0]
        pause = min(_LONGEST_PAUSE, 2 * earlier)
        self._pauses[key] = (pause, self._monotonic() + pause)

    def _is_deferred(self, certificate: str, generation: int) -> bool:
        return self._pauses.get((certificate, generation), (0.0, 0.0))[1] > self._monotonic()

    def _waits(self, targets: Sequence[Target], certificate: str, generation: int) -> bool:
        """Whether a generation has to wait: it failed a moment ago, or there were many before."""
        if self._is_deferred(certificate, generation):
            return True
        if self._pace is None:
            return False
        ends = [_end_of(one) for one in targets if one.certificate == certificate]
        if self._pace.permits(certificate, min(ends, default=0) - self._clock()):
            return False
        self._too_often.add(certificate)
        return True

    def _patience(self, wait: int, progress: Progress) -> int:
        """Return how long the agent may hold the question: never beyond our own next attempt."""
        now = self._monotonic()
        left = [max(0.0, until - now) for _, until in self._pauses.values()]
        if progress.reports_waiting:
            left.append(max(0.0, progress.reports_paused_until - self._clock()))
        return min([wait, *map(math.ceil, left)])

    def _forget_pauses(self, plan: Plan) -> None:
        """Drop what is over and led to no attempt: nobody wants that generation any more."""
        now, wanted = self._monotonic(), {(one.certificate, one.generation) for one in plan.work}
        self._pauses = {
            key: pause
            for key, pause in self._pauses.items()
            if key in wanted or key[1] == _NEXT_CSR or pause[1] > now
        }

    def _resume(self, targets: Sequence[Target], report: PullReport) -> None:
        progress = self.state.progress()
        for found in self._installation(targets).resume():
            installation = self._installation(targets, found.certificate)
            report.outcomes.append(installation.resumed(found, progress.of(found.certificate)))
        self.state.save_progress(progress, durable=True)

    def _reshape(self, targets: Sequence[Target], report: PullReport) -> None:
        """Once for each change: what fails now is in force with the next generation."""
        progress = self.state.progress()
        changed = _reshaped(targets, progress)
        for target in changed:
            outcome = self._installation(targets, target.certificate).reshape(target)
            if outcome is not None:
                report.outcomes.append(outcome)
        _note_shapes(progress, changed)
        here = {str(one.directory) for one in targets}
        progress.shapes = {place: one for place, one in progress.shapes.items() if place in here}
        self.state.save_progress(progress, durable=True)

    def _installation(self, targets: Sequence[Target], certificate: str = "") -> Installation:
        """Return the steps for a certificate: of its agent, or of direct mode."""
        if self._direct is not None and certificate in self._direct.certificates:
            return self._direct_installation(self._direct, targets)
        from internal_puller.install.installation import Installation

        return Installation(
            self.state,
            self._enrolment,
            self._client,
            targets,
            report_addresses=self.settings.report_addresses,
            clock=self._clock,
            say=self._say,
        )

    # --- direct certificates ------------------------------------------------------------------

    def _load_direct(self, while_waiting: WhileWaiting) -> DirectPart | None:
        if not self.settings.direct_file.exists():
            return None
        from internal_puller.sources.direct.part import DirectPart
        from internal_puller.sources.direct.settings import require_direct

        def floor(name: str) -> int:
            known = self.state.floors().get(name)
            return known.generation if known else 0

        return DirectPart(
            require_direct(self.settings.direct_file),
            self.settings,
            floors=floor,
            clock=self._clock,
            while_waiting=while_waiting,
            say=self._say,
        )

    def _pull_direct(
        self, part: DirectPart, targets: Sequence[Target], report: PullReport, *, retry: bool
    ) -> None:
        """Order what is due, and install what is new, as if an agent had offered it."""
        mine = [target for target in targets if target.certificate in part.certificates]
        part.order(mine, report)
        plan = self._own_plan(part, mine, retry=retry)
        if plan.asks_for_something or (part.failed and self._client is not None):
            with self._lock():
                progress = self.state.progress()
                installation = self._direct_installation(part, targets)
                for certificate, error in part.failed.items():
                    installation.report_failure(certificate, error, progress.of(certificate))
                plan = self._own_plan(part, mine, retry=retry)
                self._carry_out(plan, installation, progress, report)
        _note_obstacles(plan, report)
        part.note_troubles(report)
        part.warn_of_records(report)
        if self._client is None:
            report.come_back = clamp_come_back(part.come_back())

    def _own_plan(self, part: DirectPart, targets: Sequence[Target], *, retry: bool) -> Plan:
        plan = self._plan(part.offers(), targets, retry=retry)
        return dataclasses.replace(plan, behind={})  # only an agent can be behind

    def _direct_installation(
        self, part: DirectPart, targets: Sequence[Target]
    ) -> DirectInstallation:
        from internal_puller.sources.direct.installation import DirectInstallation

        return DirectInstallation(
            part.direct,
            part.files,
            state=self.state,
            enrolment=self._enrolment,
            client=self._client,
            all_targets=targets,
            report_addresses=self.settings.report_addresses,
            clock=self._clock,
            say=self._say,
        )

    # --- receipts -----------------------------------------------------------------------------

    def _deliver(self, client: RelayClient, progress: Progress, report: PullReport) -> None:
        from internal_puller.outbox.delivery import deliver

        report.warnings += deliver(client, progress, self._clock())

    def look_again(self) -> bool:
        """Probe what is served; when that changed, send a fresh receipt. Tell whether it did.

        Raises:
            TransportError: the receipt could not be delivered; it is kept.
        """
        targets = load_targets(self.settings.targets_file)
        self._direct = self._load_direct(nullcontext)
        with self._lock():
            progress = self.state.progress()
            changed = False
            for target in targets:
                one = progress.of(target.certificate)
                if one.withdrawn_at:
                    continue  # the agent takes no receipt of it
                installation = self._installation(targets, target.certificate)
                changed |= installation.report_if_changed(target, one)
            if changed:
                self.state.save_progress(progress, durable=True)
                if self._client is not None:
                    self._deliver(self._client, progress, PullReport())
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
        self._direct = self._load_direct(nullcontext)
        with self._lock():
            progress = self.state.progress()
            installation = self._installation(targets, certificate)
            for target in mine:
                one = progress.of(certificate)
                report.outcomes.append(installation.roll_back(target, to, one))
            self.state.save_progress(progress, durable=True)
            if self._client is not None:
                try:
                    self._deliver(self._client, progress, report)
                except NO_CONTACT as error:
                    self._note_error(progress, error, report)
            self.state.save_progress(progress, durable=True)
        return report

    # --- notes --------------------------------------------------------------------------------

    def _note_contact(
        self,
        client: RelayClient,
        progress: Progress,
        listing: Listing,
        targets: Sequence[Target],
    ) -> None:
        now = int(self._clock())
        progress.version = listing.version
        progress.come_back_at = now + clamp_come_back(listing.come_back)
        progress.last_contact = now
        progress.clock_difference = client.clock_difference or 0
        progress.tls_check = client.tls_check
        progress.error = None
        own = self._direct.certificates if self._direct else frozenset()
        follow(progress, listing.offers, {one.certificate for one in targets}, own, now=now)

    def _note_failure(self, error: RelayError, report: PullReport) -> None:
        progress = self.state.progress()
        self._note_error(progress, error, report)
        self.state.save_progress(progress, durable=False)

    def _note_error(self, progress: Progress, error: RelayError, report: PullReport) -> None:
        report.contact = error
        progress.error = LastError(error.type, error.what, int(self._clock()))


def connect(
    settings: Settings,
    state: StateDirectory,
    clock: Callable[[], float] = time.time,
    identify: Callable[[], Machine | None] = this_machine,
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
        machine=identify(),
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


def _note_shapes(progress: Progress, written: Sequence[Target]) -> None:
    progress.shapes |= {str(one.directory): one.shape for one in written}


def _end_of(target: Target) -> int:
    """Return when the certificate in place expires, unix seconds; 0 for none."""
    with suppress(ConfigurationError):  # said elsewhere
        active = read_active(target)
        return 0 if active is None else active.not_after
    return 0


def _lost_contact(error: RelayError | None) -> bool:
    """Whether the agent went away; a refusal is its answer."""
    return isinstance(error, NO_CONTACT) and not isinstance(error, RequestRefused)


def _report_standing(plan: Plan, installation: Installation, progress: Progress) -> None:
    """Write the receipts of what nothing is done about: it is in place, or cannot be looked at."""
    for target, fault in plan.unusable:
        mine = progress.of(target.certificate)
        if not mine.withdrawn_at:  # else the agent takes no receipt
            installation.report_fault(target.certificate, mine.offered, fault, mine)
    for target in plan.unreported:
        installation.report_again(target, progress.of(target.certificate))


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
