"""What is done when there is something new: fetch, accept, make the floor durable, install, report.

The caller holds the installation lock. This module may import what it likes; the quiet path of
``pull`` never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from internal_puller import trust
from internal_puller.install.active import Active, read_active
from internal_puller.install.engine import Engine, Job
from internal_puller.install.material import Material
from internal_puller.install.probe import probe_target
from internal_puller.install.roots import anchors_of
from internal_puller.outbox.look import Look
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.receipts import make_receipt, seen
from internal_puller.outbox.report import CertificateOutcome
from internal_puller.outbox.verdict import outcome_of
from internal_puller.pull.plan import Work
from internal_puller.settings.targets import Target
from internal_puller.sources.agent.client import RelayClient
from internal_puller.state.pending import PendingKeys
from internal_puller.state.progress import CertificateProgress, LastError
from internal_puller.state.state import Enrolment, StateDirectory
from shared.contract.bundle import Manifest
from shared.contract.errors import (
    BundleError,
    RelayError,
    ServedMismatch,
)
from shared.contract.wire import NO_DIGEST


class Installation:
    """The steps for one certificate after another.

    Args:
        enrolment, client: ``None`` where there is no agent; then nothing is fetched or reported.
        all_targets: of this machine; a certificate must cover the names of every target it has.
        say: told in words what is being done (progress on a terminal).
    """

    def __init__(
        self,
        state: StateDirectory,
        enrolment: Enrolment | None,
        client: RelayClient | None,
        all_targets: Sequence[Target],
        *,
        report_addresses: bool,
        clock: Callable[[], float],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._state = state
        self._enrolment = enrolment
        self._client = client
        self._all_targets = all_targets
        self._report_addresses = report_addresses
        self._clock = clock
        self._say = say

    def carry_out(self, work: Work, progress: CertificateProgress) -> CertificateOutcome | None:
        """Do the work, and keep its receipt in ``progress`` until it is delivered.

        Returns:
            ``None`` if the agent had nothing after all.

        Raises:
            TransportError: the bundle could not be fetched.
        """
        assert self._client is not None
        self._say(f"{work.certificate}: fetching generation {work.generation}")
        answer = self._client.bundle(work.certificate, after=work.after)
        if answer.envelope is None:
            return None
        try:
            accepted = self._accept(answer.envelope, work)
        except BundleError as error:
            return self._refused(answer.envelope, work, error, progress)
        return self._take_up(accepted, work, progress)

    def _take_up(
        self, accepted: trust.Accepted, work: Work, progress: CertificateProgress
    ) -> CertificateOutcome:
        # Durable before activation, whatever happens; the rule first: alone it only refuses more.
        if accepted.manifest.key_origin == "puller":
            self._state.learn_own_keys(work.certificate)
        self._state.raise_floor(work.certificate, accepted.floor)
        leaf = accepted.chain[0]
        progress.lifetime = int(
            (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds()
        )
        return self._install(accepted, work, progress)

    def _wanted(self, certificate: str) -> trust.Wanted:
        targets = [one for one in self._all_targets if one.certificate == certificate]
        return trust.Wanted(
            certificate=certificate,
            names=tuple(sorted({name for one in targets for name in one.names})),
            own_key_only=trust.takes_only_own_keys(
                [one.key_origin for one in targets],
                learned=certificate in self._state.own_keys(),
            ),
            anchors=anchors_of(targets),
        )

    def _accept(self, envelope: bytes, work: Work) -> trust.Accepted:
        assert self._enrolment is not None
        return trust.accept(
            envelope,
            agent=self._enrolment.agent,
            identity=self._state.identity(),
            wanted=self._wanted(work.certificate),
            floor=self._state.floors().get(work.certificate),
            pending_keys=self._pending(work.certificate).by_spki(),
            now=self._clock(),
        )

    def _pending(self, certificate: str) -> PendingKeys:
        return PendingKeys(self._state.path, certificate)

    def _refused(
        self, envelope: bytes, work: Work, error: BundleError, progress: CertificateProgress
    ) -> CertificateOutcome:
        assert self._enrolment is not None
        digest, generation = trust.describe(envelope, self._enrolment.agent)
        outcome = CertificateOutcome(
            work.certificate, generation or work.generation, "refused", False, error
        )
        self._keep(progress, outcome, digest, ())
        return outcome

    def _install(
        self,
        accepted: trust.Accepted,
        work: Work,
        progress: CertificateProgress,
    ) -> CertificateOutcome:
        manifest = accepted.manifest
        if manifest.key_origin == "puller":
            self._pending(work.certificate).came(manifest.spki_sha256, manifest.generation)
        material = Material(
            manifest.certificate,
            manifest.generation,
            accepted.digest,
            accepted.chain_pem,
            accepted.key_pem,
        )
        jobs = [Job(target, material, work.again) for target in work.targets]
        outcomes = self._engine().install(jobs)
        outcome = _sum_up(manifest.certificate, manifest.generation, manifest.not_after, outcomes)
        served = tuple(one for each in outcomes for one in each.looks)
        self._keep(progress, outcome, accepted.digest, served)
        if outcome.error is None:
            self._forget_outlived(manifest, progress)
        return outcome

    def _forget_outlived(self, manifest: Manifest, progress: CertificateProgress) -> None:
        """Once a generation is in place, the keys that were pending before it are of no use."""
        pending = self._pending(manifest.certificate)
        if manifest.key_origin == progress.key_origin == "agent":
            pending.clear()
        else:
            pending.in_place(manifest.spki_sha256, manifest.generation)

    def _engine(self) -> Engine:
        return Engine(self._all_targets, self._state.path, clock=self._clock, say=self._say)

    # --- receipts -----------------------------------------------------------------------------

    def report_fault(
        self, certificate: str, generation: int, error: RelayError, progress: CertificateProgress
    ) -> CertificateOutcome:
        """Write the receipt of a fault of this machine; one for as long as it is the same.

        What is in place is reported anew as soon as it is over.
        """
        outcome = CertificateOutcome(certificate, generation, "failed", False, error)
        fault = f"{generation} {error.type}"
        progress.error = LastError(error.type, error.what, int(self._clock()))
        if progress.fault != fault:
            self._keep(progress, outcome, NO_DIGEST, ())
            progress.fault, progress.reported = fault, 0
        return outcome

    def _keep(
        self,
        progress: CertificateProgress,
        outcome: CertificateOutcome,
        digest: str,
        served: tuple[Look, ...],
    ) -> None:
        now = int(self._clock())
        error = outcome.error
        progress.error = LastError(error.type, error.what, now) if error else None
        progress.fault, progress.target = "", "here"
        progress.served |= seen(served)
        if outcome.outcome == "installed":
            progress.reported = outcome.generation
        progress.receipt = self._receipt(outcome, digest, served)

    def _receipt(
        self, outcome: CertificateOutcome, digest: str, served: tuple[Look, ...]
    ) -> str | None:
        """Return what the agent is told of an outcome; ``None`` where nobody is to be told."""
        return make_receipt(
            outcome.certificate,
            outcome.generation,
            digest,
            outcome.outcome,
            error=outcome.error,
            served=served,
            report_addresses=self._report_addresses,
            now=int(self._clock()),
        )

    def report_again(self, target: Target, progress: CertificateProgress) -> None:
        """Write the receipt of what is in place, as it is served now."""
        active = read_active(target)
        if active is not None:
            served = probe_target(target)
            self._keep(progress, _standing(target, active, served), active.digest, served)

    def report_if_changed(self, target: Target, progress: CertificateProgress) -> bool:
        """Look at what is served; if that is not what was seen last, write a receipt of it."""
        active = read_active(target)
        if active is None:
            return False
        served = probe_target(target)
        found = seen(served)
        if all(progress.served.get(where) == leaf for where, leaf in found.items()):
            return False
        self._keep(progress, _standing(target, active, served), active.digest, served)
        return True

    def roll_back(
        self, target: Target, to: int | None, progress: CertificateProgress
    ) -> CertificateOutcome:
        """Bring an earlier generation back, and write the receipt of what is in place then."""
        [found] = self._engine().roll_back([target], to)
        self.report_again(target, progress)
        active = read_active(target)
        not_after = active.not_after if active else 0
        return _sum_up(target.certificate, found.active or 0, not_after, [found])

    def reshape(self, target: Target) -> CertificateOutcome | None:
        """Write the files in place anew, as the target wants them now; None: nothing changed."""
        [found] = self._engine().reshape([target])
        if not (found.changed or found.error):
            return None
        return _sum_up(target.certificate, found.generation, found.not_after, [found])

    def resume(self) -> list[Outcome]:
        """Bring installations to their verdicts that an earlier run did not finish."""
        return self._engine().resume()

    def resumed(self, found: Outcome, progress: CertificateProgress) -> CertificateOutcome:
        """Report what came of one of them."""
        outcome = _sum_up(found.certificate, found.generation, found.not_after, [found])
        if found.verdict is not None and found.digest:
            self._keep(progress, outcome, found.digest, found.looks)
        return outcome


def _sum_up(
    certificate: str, generation: int, not_after: int, found: Sequence[Outcome]
) -> CertificateOutcome:
    """A certificate is installed where it is installed at every target that wanted it."""
    worst = max(found, key=lambda one: one.exit_code)
    error = worst.error
    if error is None:
        word = "installed"
    elif worst.verdict is not None:
        word = outcome_of(worst.verdict)
    else:
        word = "rolled_back" if error.type.startswith("install") else "failed"
    return CertificateOutcome(
        certificate,
        generation,
        word,
        any(one.changed for one in found),
        error,
        not_after,
        tuple(one.directory for one in found),
        tuple(
            f"{look.address} port {look.port}"
            for one in found
            for look in one.looks
            if one.error is None
        ),
    )


def _standing(target: Target, active: Active, served: Sequence[Look]) -> CertificateOutcome:
    """What is in place stays there, even where something else is served."""
    wrong = next((one for one in served if one.leaf_sha256 != active.leaf_sha256), None)
    error = ServedMismatch(f"{target.certificate}: {wrong.describe()}") if wrong else None
    return CertificateOutcome(
        target.certificate, active.generation, "installed", False, error, active.not_after
    )
