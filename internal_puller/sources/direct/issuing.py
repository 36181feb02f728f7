"""Gets one certificate from the CA: key and CSR made here, one order for each attempt, resumable.

1 the CA agrees with us on the time · 2 key, CSR and generation are durable · 3 the order is
driven, each step durable before the next · 4 key and chain are durable together · 5 the attempt
is over. A run that is killed anywhere is gone on with by the next one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from internal_puller.sources.direct.noting import Notes, is_account_gone, standings
from internal_puller.sources.direct.record import (
    Attempt,
    CertificateFiles,
    DirectFiles,
    DirectProgress,
    Issued,
    fingerprint,
)
from internal_puller.sources.direct.schedule import wants_order
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings
from internal_puller.sources.direct.solving import explained, longest_wait, solver_for
from shared.acme import ari
from shared.acme.client import AcmeClient
from shared.acme.dns_persist_use import NameReport
from shared.acme.order import drive_order
from shared.acme.ports import ChallengeSolver, Clock, Sleep
from shared.contract.errors import (
    IssuanceRejected,
    IssuanceUnavailable,
    OutsideValidity,
    RelayError,
)
from shared.contract.identifiers import DnsName
from shared.contract.key_policy import KeyAlgorithm, generate_key, key_to_pem
from shared.contract.x509 import chain_to_pem, check_validity, load_chain, make_csr
from shared.issuing.ca_choice import in_turn
from shared.issuing.renewal import (
    HURRY_PERIOD,
    Advice,
    Reason,
    after_failed_look,
    after_look,
)

ORDER_SECONDS = 300.0
_HURRIED = (Reason.WINDOW_PAST, Reason.BRAKED)


class Connector(Protocol):
    """:class:`internal_puller.sources.direct.connection.DirectConnection` is one."""

    def open(self, directory: str, *, with_account: bool = True) -> AcmeClient: ...

    def forget_account(self, directory: str) -> None: ...


class SolverFactory(Protocol):
    """:func:`internal_puller.sources.direct.solving.solver_for` is one."""

    def __call__(
        self,
        challenge: str,
        direct: DirectSettings,
        client: AcmeClient,
        *,
        clock: Clock,
        sleep: Sleep,
        observe: Callable[[NameReport], None],
    ) -> ChallengeSolver: ...


class DirectIssuing:
    """Works on one certificate after another; the caller holds the lock of direct mode.

    Args:
        floors: certificate to the highest generation that was ever accepted here.
        clock: unix seconds.
        sleep: for the CA's pauses; may raise to end an order early, which is then resumed.
        draw: a random number in [0, 1).
        say: told in words what is being done.
    """

    def __init__(
        self,
        direct: DirectSettings,
        files: DirectFiles,
        connector: Connector,
        *,
        floors: Callable[[str], int],
        clock: Clock,
        sleep: Sleep,
        draw: Callable[[], float] = random.random,
        solvers: SolverFactory = solver_for,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._direct, self._files, self._connector = direct, files, connector
        self._floors, self._clock, self._sleep = floors, clock, sleep
        self._draw, self._solvers, self._say = draw, solvers, say
        self._notes = Notes(direct, clock, draw)

    def settle(self, wanted: DirectCertificate) -> DirectProgress:
        """Return how it stands, after what a killed run left was brought in order.

        Raises:
            ConfigurationError: a file is damaged or cannot be written.
        """
        files = self._files.of(wanted.certificate)
        files.sweep()
        progress, issued = files.progress() or DirectProgress(), files.issued()
        if issued is None:
            if progress.generation:  # the pair is lost: it cannot be installed anywhere any more
                progress.generation = 0
            return progress
        attempt = files.attempt()
        if progress.generation != issued.generation:
            self._notes.issued(wanted, progress, issued)
            files.save_progress(progress)
        if attempt is not None and attempt.generation <= issued.generation:
            files.drop_attempt()
        return progress

    def order(self, wanted: DirectCertificate, progress: DirectProgress) -> None:
        """Get a new generation; a failure is recorded with its pause, and raised.

        Raises:
            IssuanceError, ConfigurationError, PolicyError: no certificate for now.
        """
        files = self._files.of(wanted.certificate)
        url = self._turn(wanted, progress, files)
        self._say(f"{wanted.certificate}: ordering from {url}")
        try:
            with closing(self._connector.open(url)) as client:
                issued = self._run(client, wanted, progress, files, url)
        except RelayError as error:
            if is_account_gone(error):
                self._connector.forget_account(url)
            self._notes.failed(wanted, progress, files, error, url)
            raise
        files.save_issued(issued)
        if issued.hurried:
            recent = self._now() - HURRY_PERIOD
            progress.hurried = [*(at for at in progress.hurried if at > recent), self._now()]
        self._notes.issued(wanted, progress, issued)
        files.save_progress(progress)
        files.drop_attempt()

    def look(self, wanted: DirectCertificate, progress: DirectProgress) -> None:
        """Ask the CA when to renew (RFC 9773); whatever it answers, nothing is put off by it."""
        files = self._files.of(wanted.certificate)
        issued = files.issued()
        if issued is None or progress.advice is None:
            return
        advice = Advice(**progress.advice)
        try:
            with closing(self._connector.open(issued.directory, with_account=False)) as client:
                window = client.renewal_info(_leaf_pem(issued))
            advice = after_look(advice, window, self._now(), self._draw())
        except RelayError as error:
            advice = after_failed_look(advice, error, self._now(), self._draw())
        self._notes.due(wanted, progress, advice)
        files.save_progress(progress)

    # --- one attempt --------------------------------------------------------------------------

    def _turn(
        self, wanted: DirectCertificate, progress: DirectProgress, files: CertificateFiles
    ) -> str:
        """Return the CA to ask: that of an unfinished attempt, else the first that may be asked."""
        found = self._unfinished(wanted, files)
        if found is not None:
            return found.directory
        return in_turn(self._direct.directories(wanted), standings(progress), self._now())

    def _unfinished(self, wanted: DirectCertificate, files: CertificateFiles) -> Attempt | None:
        found = files.attempt()
        made_for = fingerprint(wanted, *self._direct.directories(wanted))
        return found if found is not None and found.made_for == made_for else None

    def _run(
        self,
        client: AcmeClient,
        wanted: DirectCertificate,
        progress: DirectProgress,
        files: CertificateFiles,
        url: str,
    ) -> Issued:
        attempt = self._attempt(wanted, progress, files, url)
        usual = self._direct.at(url)
        adopt = attempt.begun and attempt.order_url is None
        solver = self._solver(wanted, client, progress)  # refused before anything is ordered
        if not attempt.begun:
            attempt = replace(attempt, begun=True)
            files.save_attempt(attempt)
        journal = _Journal(files, attempt)
        try:
            chain = drive_order(
                client,
                names=attempt.names,
                csr_pem=attempt.csr.encode(),
                order_url=attempt.order_url,
                adopt_unfinished=adopt,
                solvers={solver.challenge_type: solver},
                journal=journal,
                sleep=self._sleep,
                deadline_seconds=ORDER_SECONDS + longest_wait(wanted.challenge, self._direct),
                profile=wanted.profile or usual.profile,
                replaces=self._replaces(client, attempt, progress, files),
                preferred_chain=wanted.preferred_chain or usual.preferred_chain,
            ).chain_pem.decode("ascii")
        except RelayError as error:
            lost_answer = isinstance(error, IssuanceUnavailable)
            if journal.attempt.order_url is None and not adopt and not lost_answer:
                files.save_attempt(replace(attempt, begun=False))
            if isinstance(error, IssuanceRejected):
                raise explained(error, self._direct, client, attempt.names) from error
            raise
        return Issued(
            generation=attempt.generation,
            names=attempt.names,
            made_for=attempt.made_for,
            directory=attempt.directory,
            account=client.account_url or "",
            key=attempt.key,
            chain=self._usable(chain),
            issued_at=self._now(),
            hurried=attempt.hurried,
        )

    def _attempt(
        self,
        wanted: DirectCertificate,
        progress: DirectProgress,
        files: CertificateFiles,
        url: str,
    ) -> Attempt:
        """Return the attempt to go on with: the unfinished one unless something else is wanted."""
        found = self._unfinished(wanted, files)
        if found is not None:
            return found
        known = (self._floors(wanted.certificate), progress.generation)
        key = generate_key(KeyAlgorithm(wanted.key_algorithm))
        csr = make_csr(key, [DnsName(name) for name in wanted.names])
        attempt = Attempt(
            generation=max(self._now(), *(one + 1 for one in known)),
            names=wanted.names,
            made_for=fingerprint(wanted, *self._direct.directories(wanted)),
            directory=url,
            key=key_to_pem(key).decode("ascii"),
            csr=csr.public_bytes(Encoding.PEM).decode("ascii"),
            hurried=self._is_hurried(wanted, progress),
        )
        files.save_attempt(attempt)
        return attempt

    def _is_hurried(self, wanted: DirectCertificate, progress: DirectProgress) -> bool:
        """Tell whether it is ordered for no other reason than a window in the past."""
        if progress.renew or progress.reason not in _HURRIED:
            return False
        directories = self._direct.directories(wanted)
        return not wants_order(progress, wanted, directories, progress.due_at - 1)

    def _solver(
        self, wanted: DirectCertificate, client: AcmeClient, progress: DirectProgress
    ) -> ChallengeSolver:
        progress.persist_until = {}

        def observe(report: NameReport) -> None:
            if report.until is not None:
                progress.persist_until[report.name] = report.until

        return self._solvers(
            wanted.challenge,
            self._direct,
            client,
            clock=self._clock,
            sleep=self._sleep,
            observe=observe,
        )

    def _replaces(
        self,
        client: AcmeClient,
        attempt: Attempt,
        progress: DirectProgress,
        files: CertificateFiles,
    ) -> str | None:
        """Name the certificate that is replaced; not after a failure that it may have caused."""
        issued = files.issued()
        if issued is None or progress.failures % 2:
            return None
        old = ari.Issued(_leaf_pem(issued), issued.directory, issued.account, issued.names)
        return ari.replaces_for(
            old,
            directory_url=attempt.directory,
            account_url=client.account_url,
            names=attempt.names,
        )

    def _usable(self, chain_pem: str) -> str:
        chain = load_chain(chain_pem)
        try:
            check_validity(chain[0], self._now())
        except OutsideValidity as error:
            raise IssuanceRejected(
                f"The CA issued a certificate out of its time: {error.what}"
            ) from error
        return chain_to_pem(chain)

    def _now(self) -> int:
        return int(self._clock())


@dataclass
class _Journal:
    """``shared.acme.ports.OrderJournal`` over the attempt's file."""

    files: CertificateFiles
    attempt: Attempt

    def order_created(self, order_url: str, expires: float | None) -> None:
        self.attempt = replace(self.attempt, order_url=order_url)
        self.files.save_attempt(self.attempt)

    def finalizing(self) -> None:
        """Nothing new to keep: key and CSR are durable, and the order's status is the CA's."""

    def certificate_url(self, url: str) -> None:
        """Nothing new to keep: the order names it."""


def _leaf_pem(issued: Issued) -> bytes:
    return chain_to_pem(load_chain(issued.chain)[:1]).encode("ascii")
