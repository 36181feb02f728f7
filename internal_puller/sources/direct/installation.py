"""Installs what direct mode got, by the same rules and steps as what an agent hands out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from internal_puller import trust
from internal_puller.install.active import read_active
from internal_puller.install.installation import Installation
from internal_puller.outbox.look import Look
from internal_puller.outbox.receipts import served_entries
from internal_puller.outbox.report import CertificateOutcome
from internal_puller.pull.plan import Work
from internal_puller.settings.targets import Target
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.direct.record import DirectFiles, DirectProgress, Issued
from internal_puller.sources.direct.settings import DirectSettings
from internal_puller.state.progress import CertificateProgress
from internal_puller.state.state import Enrolment, StateDirectory
from shared.contract import wire
from shared.contract.bundle import Manifest
from shared.contract.errors import BundleError, RelayError
from shared.contract.key_policy import load_pem_key
from shared.contract.x509 import load_chain, spki_sha256

_NOBODY = wire.NO_DIGEST


class DirectInstallation(Installation):
    """The steps for direct certificates; reports go to the agent only if there is one."""

    def __init__(
        self,
        direct: DirectSettings,
        files: DirectFiles,
        *,
        state: StateDirectory,
        enrolment: Enrolment | None,
        client: RelayClient | None,
        all_targets: Sequence[Target],
        report_addresses: bool,
        clock: Callable[[], float],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(
            state,
            enrolment,
            client,
            all_targets,
            report_addresses=report_addresses,
            clock=clock,
            say=say,
        )
        self._direct, self._files = direct, files

    def carry_out(self, work: Work, progress: CertificateProgress) -> CertificateOutcome | None:
        """Install the newest generation; ``None`` if it is not here any more.

        Raises:
            ConfigurationError: its file is damaged.
        """
        issued = self._files.of(work.certificate).issued()
        if issued is None or issued.generation != work.generation:
            return None
        try:
            accepted = self._accept_own(issued, work.certificate)
        except BundleError as error:
            outcome = CertificateOutcome(work.certificate, work.generation, "refused", False, error)
            self._keep(progress, outcome, _NOBODY, ())
            return outcome
        return self._take_up(accepted, work, progress)

    def _accept_own(self, issued: Issued, certificate: str) -> trust.Accepted:
        leaf = load_chain(issued.chain)[0]
        key = load_pem_key(issued.key)
        manifest = Manifest(
            agent=_NOBODY,
            recipient=_NOBODY,
            certificate=certificate,
            names=issued.names,
            generation=issued.generation,
            issued_at=issued.issued_at,
            not_after=int(leaf.not_valid_after_utc.timestamp()),
            key_origin="puller",
            spki_sha256=spki_sha256(leaf),
            chain=issued.chain,
            sealed_key=None,
        )
        return trust.accept_own(
            manifest,
            key,
            wanted=self._wanted(certificate),
            floor=self._state.floors().get(certificate),
            now=self._clock(),
        )

    # --- reports ------------------------------------------------------------------------------

    def _receipt(
        self, outcome: CertificateOutcome, digest: str, served: tuple[Look, ...]
    ) -> str | None:
        return self._report(
            outcome.certificate,
            outcome.generation,
            outcome.outcome,
            outcome.error,
            served,
        )

    def _keep(
        self,
        progress: CertificateProgress,
        outcome: CertificateOutcome,
        digest: str,
        served: tuple[Look, ...],
    ) -> None:
        super()._keep(progress, outcome, digest, served)
        progress.direct = True

    def report_failure(
        self, certificate: str, error: RelayError, progress: CertificateProgress
    ) -> None:
        """Write the report of an order that brought nothing; what is in place stays."""
        generation = (self._progress(certificate)).generation
        progress.receipt = self._report(certificate, generation, "failed", error, ())
        progress.direct, progress.target = True, "here"

    def _report(
        self,
        certificate: str,
        generation: int,
        outcome: str,
        error: RelayError | None,
        served: tuple[Look, ...],
    ) -> str | None:
        if self._enrolment is None:
            return None
        known = self._progress(certificate)
        leaf, not_after = self._leaf(certificate, generation, known)
        report = wire.DirectReport(
            certificate=certificate,
            names=self._names(certificate),
            generation=generation,
            not_after=not_after,
            leaf_sha256=leaf,
            next_renewal=known.due_at,
            outcome=outcome,
            error="none" if error is None else error.type,
            served=served_entries(served, report_addresses=self._report_addresses),
            at=int(self._clock()),
        )
        return report.encode().decode()

    def _progress(self, certificate: str) -> DirectProgress:
        return self._files.of(certificate).progress() or DirectProgress()

    def _names(self, certificate: str) -> tuple[str, ...]:
        wanted = {one.certificate: one.names for one in self._direct.certificates}
        if certificate in wanted:
            return wanted[certificate]
        issued = self._files.of(certificate).issued()
        return issued.names if issued else ()

    def _leaf(
        self, certificate: str, generation: int, known: DirectProgress
    ) -> tuple[str | None, int]:
        if generation and known.generation == generation:
            return known.leaf_sha256, known.not_after
        for target in self._all_targets:
            if target.certificate == certificate:
                active = read_active(target)
                if active is not None and active.generation == generation:
                    return active.leaf_sha256, active.not_after
        return None, 0
