"""Direct certificates inside a pull; with nothing due, little is imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from internal_puller.install.lock import installation_lock
from internal_puller.outbox.report import CertificateOutcome, PullReport
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target
from internal_puller.sources.direct.record import DirectFiles, DirectProgress
from internal_puller.sources.direct.schedule import is_due, is_paused, next_moment, wants_look
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings
from internal_puller.state.progress import LastError
from shared.contract.errors import ConfigurationError, InstallBusy, RelayError
from shared.contract.wire import Offer

if TYPE_CHECKING:
    from internal_puller.pull.puller import WhileWaiting
    from internal_puller.sources.direct.issuing import DirectIssuing


RECORD_ENDS_SOON = 30 * 86400


class DirectPart:
    """What one pull does about direct certificates.

    Args:
        floors: certificate to the highest generation that was ever accepted here.
        clock: unix seconds.
        while_waiting: entered around every pause in an order; may raise to end it.

    Attributes:
        failed: certificates whose order failed in this pull, and why.
    """

    def __init__(
        self,
        direct: DirectSettings,
        settings: Settings,
        *,
        floors: Callable[[str], int],
        clock: Callable[[], float],
        while_waiting: WhileWaiting,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.direct = direct
        self.files = DirectFiles(settings.state_directory)
        self.failed: dict[str, RelayError] = {}
        self._settings, self._floors, self._clock = settings, floors, clock
        self._while_waiting, self._say = while_waiting, say

    @property
    def certificates(self) -> frozenset[str]:
        return frozenset(one.certificate for one in self.direct.certificates)

    def order(self, targets: Sequence[Target], report: PullReport) -> None:
        """Ask the CA for what is due, one certificate after another.

        Without a target nothing is ordered: nobody could use it.
        """
        installed = {target.certificate for target in targets}
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
                self._work(todo)
        except InstallBusy:
            self._say("another pull is at work with the CA")

    def _work(self, todo: Sequence[DirectCertificate]) -> None:
        try:
            issuing = self._issuing()
        except RelayError as error:
            self.failed |= {one.certificate: error for one in todo}
            return
        for one in todo:
            try:
                progress = issuing.settle(one)
                if wants_look(progress, self._clock()) and not self._is_due(one):
                    issuing.look(one, progress)
            except RelayError as error:
                self.failed[one.certificate] = error
                continue
            self._order(issuing, one, progress)

    def _order(
        self, issuing: DirectIssuing, one: DirectCertificate, progress: DirectProgress
    ) -> None:
        """Ask one CA after another, as long as one may be asked at once."""
        for _ in self.direct.directories(one):
            if not self._is_due(one):
                return
            try:
                issuing.order(one, progress)
                self.failed.pop(one.certificate, None)
            except RelayError as error:
                self.failed[one.certificate] = error

    def _issuing(self) -> DirectIssuing:
        try:
            from internal_puller.sources.direct.connection import DirectConnection
            from internal_puller.sources.direct.issuing import DirectIssuing
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        connection = DirectConnection(
            self.direct, self._settings, self.files, clock=self._clock, sleep=self._sleep
        )
        return DirectIssuing(
            self.direct,
            self.files,
            connection,
            floors=self._floors,
            clock=self._clock,
            sleep=self._sleep,
            say=self._say,
        )

    def _sleep(self, seconds: float) -> None:
        with self._while_waiting():
            time.sleep(seconds)

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

    # --- for the report -----------------------------------------------------------------------

    def note_troubles(self, report: PullReport) -> None:
        """Say of every certificate whose last order failed why, and when the next one is made."""
        for one in self.direct.certificates:
            known = self._progress(one.certificate) or DirectProgress()
            error = self.failed.get(one.certificate)
            if error is None and known.error is not None and is_paused(known, self._clock()):
                error = restored(known.error)
            if error is not None:
                error = _with_next_attempt(one.certificate, error, known)
                report.outcomes.append(
                    CertificateOutcome(one.certificate, known.generation, "failed", False, error)
                )

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


def missing_extra(error: ModuleNotFoundError) -> ConfigurationError:
    """Return what to say where direct mode's libraries are not installed.

    Raises:
        ModuleNotFoundError: the one given, if it is one of our own modules that is missing.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("shared", "internal_puller", ""):
        raise error
    return ConfigurationError(
        f"Direct mode needs the Python package {package}, which is not installed.",
        do="Install split-horizon-relay with the extras puller and direct: "
        "split-horizon-relay[puller,direct].",
    )


def _with_next_attempt(certificate: str, error: RelayError, known: DirectProgress) -> RelayError:
    what = f"{certificate}: {error.what}"
    if known.paused_until:
        moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(known.paused_until))
        what += f" The next attempt is made from {moment} UTC on."
    return type(error)(what, do=error.do)
