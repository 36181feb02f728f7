"""What an attempt leaves in the notes on a certificate: when it is due, or how long it waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from internal_puller.sources.direct.record import (
    NO_MOMENT,
    CertificateFiles,
    DirectProgress,
    Issued,
)
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings
from internal_puller.state.progress import LastError
from shared.acme.ports import Clock
from shared.acme.problems import problem_code
from shared.contract.errors import (
    ClockWrong,
    IssuanceError,
    IssuanceRejected,
    RelayError,
)
from shared.contract.x509 import leaf_sha256, load_chain
from shared.issuing.ca_choice import Setback, Standing, after_failure, without_own_pauses
from shared.issuing.renewal import (
    HURRY_PERIOD,
    Advice,
    Life,
    first_look,
    pause_after,
    renewal_due,
)


class Notes:
    """
    Args:
        clock: unix seconds.
        draw: a random number in [0, 1).
    """

    def __init__(self, direct: DirectSettings, clock: Clock, draw: Callable[[], float]) -> None:
        self._direct, self._clock, self._draw = direct, clock, draw

    def failed(
        self,
        wanted: DirectCertificate,
        progress: DirectProgress,
        files: CertificateFiles,
        error: RelayError,
        url: str,
    ) -> None:
        """Record a failure at a CA with its pause."""
        setback = self._setback(wanted, progress, error, url)
        if isinstance(error, IssuanceRejected) or (setback is not None and setback.gives_way):
            files.drop_attempt()
        progress.failures += 1
        progress.paused_at = self._now()
        pause = pause_after(error, progress.failures, wanted.certificate)
        progress.paused_until = progress.paused_at + pause
        if setback is not None:
            progress.paused_until = setback.paused_until
            progress.standings[url] = asdict(setback.standing)
        progress.error = LastError(error.type, error.what, progress.paused_at)
        files.save_progress(progress)

    def _setback(
        self, wanted: DirectCertificate, progress: DirectProgress, error: RelayError, url: str
    ) -> Setback | None:
        """Return what follows where there are several CAs; ``None`` where there is one."""
        directories = self._direct.directories(wanted)
        if len(directories) < 2 or isinstance(error, ClockWrong):
            return None
        life = Life(progress.not_before, progress.not_after, progress.issued_at)
        return after_failure(
            directories,
            standings(progress),
            url,
            error,
            certificate=wanted.certificate,
            life=life if progress.generation else None,
            now=self._now(),
        )

    def issued(self, wanted: DirectCertificate, progress: DirectProgress, issued: Issued) -> None:
        """Record what the CA issued; the caller saves it."""
        leaf = load_chain(issued.chain)[0]
        progress.generation = issued.generation
        progress.not_before = int(leaf.not_valid_before_utc.timestamp())
        progress.not_after = int(leaf.not_valid_after_utc.timestamp())
        progress.issued_at = issued.issued_at
        progress.leaf_sha256 = leaf_sha256(leaf)
        progress.made_for, progress.issued_by = issued.made_for, issued.directory
        progress.renew, progress.error = "", None
        progress.failures = progress.paused_at = progress.paused_until = 0
        keep_asked(progress, self._now())
        self.due(wanted, progress, first_look(self._now(), self._draw()))

    def due(self, wanted: DirectCertificate, progress: DirectProgress, advice: Advice) -> None:
        """Record when it is to be renewed; the caller saves it."""
        life = Life(progress.not_before, progress.not_after, progress.issued_at)
        recent = [at for at in progress.hurried if at > self._now() - HURRY_PERIOD]
        due = renewal_due(
            life,
            advice,
            certificate=wanted.certificate,
            generation=progress.generation,
            hurried=len(recent),
        )
        progress.due_at, progress.reason = int(due.at), str(due.reason)
        progress.advice, progress.look_at = asdict(advice), min(advice.next_look, NO_MOMENT)

    def _now(self) -> int:
        return int(self._clock())


def is_account_gone(error: RelayError) -> bool:
    """Tell whether the CA knows our account no more."""
    code = problem_code(error.problem) if isinstance(error, IssuanceError) else None
    return code == "accountDoesNotExist"


def keep_asked(progress: DirectProgress, now: int) -> None:
    """Forget how CAs stand, but for pauses that they asked for."""
    kept = without_own_pauses(standings(progress), now)
    progress.standings = {url: asdict(one) for url, one in kept.items()}


def standings(progress: DirectProgress) -> dict[str, Standing]:
    """Return how each CA stands."""
    return {url: Standing(**members) for url, members in progress.standings.items()}
