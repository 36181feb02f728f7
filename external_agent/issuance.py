"""Drives one attempt: seal before ordering, one order, resumed after whatever happened.

1 the CA agrees with us on the time · 2 key, CSR and sealed keys are made by a child · 3 they are
committed · 4 the order is driven, each step committed before the next · 5 chain and bundles are
published in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import structlog

from external_agent.certificate_authority import Connector
from external_agent.clock import Clock
from external_agent.domain.model import AttemptState, PullerStatus
from external_agent.domain.renewal import DAY, due_at, pause_after
from external_agent.keymaker import KeyMaker
from external_agent.keymaker_messages import KeyRequest
from external_agent.solvers.http01 import Board, Http01Solver
from external_agent.store.interface import Store
from external_agent.store.rows import (
    CertificateRow,
    Claim,
    ErrorNote,
    GenerationRow,
    IssuedLeaf,
    PreparedBundle,
)
from shared.acme.client import AcmeClient
from shared.acme.order import drive_order
from shared.acme.ports import ChallengeSolver, Sleep
from shared.acme.problems import problem_code
from shared.bundle import Manifest, sign_bundle
from shared.errors import (
    ClockWrong,
    FenceLost,
    IssuanceError,
    IssuanceRejected,
    IssuanceUnavailable,
    OutsideValidity,
    PolicyError,
    RelayError,
    StoreError,
)
from shared.signing import SigningKey
from shared.x509 import chain_to_pem, check_validity, leaf_sha256, load_chain

LONGEST_ORDER = 7 * DAY
"""How long one order is resumed, if the CA does not end it before."""
LONGEST_DOWNLOAD = DAY
"""How long an issued certificate is asked for that the CA refuses to hand out."""

_log = structlog.get_logger(__name__)


class Outcome(Enum):
    ISSUED = "issued"
    FAILED = "failed"
    """Recorded, with a pause."""
    CLOCK_WRONG = "clock wrong"
    """Recorded as failed; the CA should be left alone until the clock is mended."""
    LEFT = "left"
    """Another worker has it, or it was removed, or we are stopping."""


@dataclass(frozen=True)
class Tools:
    """What an issuance works with.

    Attributes:
        sleep: for the pauses that the CA asks for; raises a RelayError to end an attempt early.
        is_stopping: tells whether the agent is stopping, so that an ended attempt is no failure.
        order_seconds: deadline for one run over one order.
    """

    store: Store
    authorities: Connector
    key_maker: KeyMaker
    board: Board
    signing_key: SigningKey
    clock: Clock
    sleep: Sleep = time.sleep
    is_stopping: Callable[[], bool] = lambda: False
    order_seconds: float = 300.0


class Issuance:
    """Works on claims; one object serves all worker threads."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def run(self, claim: Claim) -> Outcome:
        """Bring the claimed certificate's attempt as far as it goes, and record how far.

        Raises:
            StoreUnavailable: nothing could be recorded; the lease runs out by itself.
        """
        try:
            self._issue(claim)
        except FenceLost as error:
            _log.info("left to another worker", certificate=claim.certificate, why=error.what)
            self._tools.store.release(claim)
            return Outcome.LEFT
        except StoreError:
            raise
        except RelayError as error:
            return self._failed(claim, error)
        except Exception as error:
            _log.exception("unexpected error in an issuance", certificate=claim.certificate)
            return self._failed(claim, RelayError(f"Unexpected {type(error).__name__}: {error}"))
        return Outcome.ISSUED

    def _issue(self, claim: Claim) -> None:
        tools = self._tools
        row = self._wanted(claim)
        with tools.authorities.connect(row.directory_url, tools.sleep) as client:
            attempt, resumed = self._attempt(claim, row)
            _Run(tools, claim, row, attempt, client, adopt=resumed).to_the_end()
        _log.info("issued", certificate=claim.certificate, generation=attempt.generation)

    def _wanted(self, claim: Claim) -> CertificateRow:
        row = self._tools.store.certificate(claim.certificate)
        if row is None or row.removed_at is not None:
            raise FenceLost(f"Certificate {claim.certificate} was removed.")
        return row

    def _attempt(self, claim: Claim, row: CertificateRow) -> tuple[GenerationRow, bool]:
        """Return the attempt to go on with, and whether an earlier run may have an order for it."""
        found = self._tools.store.unfinished_attempt(row.id)
        if found is not None and not _is_outdated(found, row):
            return found, True
        if found is not None:
            now = self._tools.clock()
            self._tools.store.end_attempt(claim, found.generation, None, now=now)
        return self._prepare(claim, row), found is not None

    def _prepare(self, claim: Claim, row: CertificateRow) -> GenerationRow:
        tools = self._tools
        recipients = {one.id: one.sealing_key for one in tools.store.recipients(row.id)}
        if not recipients:
            raise FenceLost(f"Certificate {row.id} has no recipient any more.")
        generation = tools.store.choose_generation(row.id, now=tools.clock())
        prepared = tools.key_maker.make(
            KeyRequest(
                names=row.names,
                algorithm=row.key_algorithm,
                agent=tools.signing_key.id,
                certificate=row.id,
                generation=generation,
                recipients=recipients,
            )
        )
        return tools.store.commit_prepared(
            claim, generation, prepared, now=tools.clock(), wanted=row.wanted
        )

    def _failed(self, claim: Claim, error: RelayError) -> Outcome:
        store, now = self._tools.store, self._tools.clock()
        if self._tools.is_stopping():
            store.release(claim)
            return Outcome.LEFT
        note = ErrorNote(error.type, error.what, now)
        row = store.certificate(claim.certificate)
        failures = 1 if row is None else row.failures + 1
        pause = pause_after(error, failures, claim.certificate)
        _log.warning(
            "issuance failed", certificate=claim.certificate, error=error.what, pause=pause
        )
        try:
            attempt = store.unfinished_attempt(claim.certificate)
            if row is not None and isinstance(error, IssuanceError):
                self._see_to_account(row, error)
            if attempt is not None and _is_over(attempt, error, now):
                store.end_attempt(claim, attempt.generation, note, now=now)
            store.record_failure(claim, note, failures=failures, paused_until=now + pause, now=now)
        except FenceLost:
            return Outcome.LEFT
        return Outcome.CLOCK_WRONG if isinstance(error, ClockWrong) else Outcome.FAILED

    def _see_to_account(self, row: CertificateRow, error: IssuanceError) -> None:
        if problem_code(error.problem) == "accountDoesNotExist":
            self._tools.authorities.forget_account(row.directory_url)


def _is_over(attempt: GenerationRow, error: RelayError, now: int) -> bool:
    """Tell whether only another order can help: a CA may never say that one has come to nothing."""
    if isinstance(error, IssuanceRejected):
        return True
    if attempt.certificate_url is not None and _is_refusal(error):
        return now > attempt.prepared_at + LONGEST_DOWNLOAD
    longest = attempt.prepared_at + LONGEST_ORDER
    end = longest if attempt.order_expires is None else min(longest, attempt.order_expires)
    return isinstance(error, IssuanceError) and attempt.order_url is not None and now > end


def _is_refusal(error: RelayError) -> bool:
    problem = error.problem if isinstance(error, IssuanceUnavailable) else None
    status = (problem or {}).get("status")
    return isinstance(status, int) and 400 <= status < 500


def _is_outdated(attempt: GenerationRow, row: CertificateRow) -> bool:
    """Tell whether an attempt would give something that is no longer wanted.

    While no order is recorded, any newer wish is taken up at once: the order that an earlier run
    may have made is adopted by names, whichever key is meant for it.
    """
    if (attempt.names, attempt.directory_url, attempt.profile) != (
        row.names,
        row.directory_url,
        row.profile,
    ):
        return True
    unordered = attempt.state == AttemptState.PREPARED
    return unordered and (attempt.wanted != row.wanted or attempt.generation <= row.highest_seen)


@dataclass(frozen=True)
class _Journal:
    """``shared.acme.ports.OrderJournal`` over the store."""

    store: Store
    claim: Claim
    generation: int

    def order_created(self, order_url: str, expires: float | None) -> None:
        moment = None if expires is None else int(expires)
        self.store.commit_order(self.claim, self.generation, order_url, moment)

    def finalizing(self) -> None:
        self.store.commit_state(self.claim, self.generation, None)

    def certificate_url(self, url: str) -> None:
        self.store.commit_state(self.claim, self.generation, url)


@dataclass(frozen=True)
class _Run:
    """One run over one attempt."""

    tools: Tools
    claim: Claim
    row: CertificateRow
    attempt: GenerationRow
    client: AcmeClient
    adopt: bool

    def to_the_end(self) -> None:
        attempt, tools = self.attempt, self.tools
        issued = drive_order(
            self.client,
            names=attempt.names,
            csr_pem=attempt.csr,
            order_url=attempt.order_url,
            solvers=self._solvers(),
            journal=_Journal(tools.store, self.claim, attempt.generation),
            sleep=tools.sleep,
            deadline_seconds=tools.order_seconds,
            profile=attempt.profile,
            adopt_unfinished=self.adopt,
        )
        self._publish(issued.chain_pem.decode("ascii"))

    def _solvers(self) -> dict[str, ChallengeSolver]:
        if self.row.challenge != "http-01":
            raise PolicyError(
                f"Certificate {self.row.id} wants {self.row.challenge}, "
                "which this agent has no solver for.",
                do="Use http-01.",
            )
        solver = Http01Solver(self.tools.store, self.tools.board, self.claim, self.tools.clock)
        return {solver.challenge_type: solver}

    def _publish(self, chain_pem: str) -> None:
        now = self.tools.clock()
        leaf = _read_leaf(chain_pem, now)
        moment = due_at(leaf.not_before, leaf.not_after, self.row.id, self.attempt.generation, now)
        self.tools.store.publish(
            self.claim,
            self.attempt.generation,
            leaf,
            self._bundles(leaf),
            due_at=moment,
            now=now,
        )

    def _bundles(self, leaf: IssuedLeaf) -> list[PreparedBundle]:
        """Sign one for each puller that the key was sealed to, and that was not revoked since."""
        attempt, store = self.attempt, self.tools.store
        signed = []
        for puller, sealed in store.sealed_keys(attempt.certificate, attempt.generation).items():
            row = store.puller(puller)
            if row is None or row.status == PullerStatus.REVOKED:
                continue
            manifest = Manifest(
                agent=self.tools.signing_key.id,
                recipient=row.sealing_id,
                certificate=attempt.certificate,
                names=attempt.names,
                generation=attempt.generation,
                issued_at=leaf.issued_at,
                not_after=leaf.not_after,
                key_origin=attempt.key_origin,
                spki_sha256=attempt.spki_sha256,
                chain=leaf.chain,
                sealed_key=sealed,
            )
            envelope, digest = sign_bundle(manifest, self.tools.signing_key)
            signed.append(PreparedBundle(puller, digest, envelope))
        return signed


def _read_leaf(chain_pem: str, now: int) -> IssuedLeaf:
    """
    Raises:
        IssuanceRejected: the CA handed out a certificate that nobody could use.
    """
    chain = load_chain(chain_pem)
    leaf = chain[0]
    try:
        check_validity(leaf, now)
    except OutsideValidity as error:
        raise IssuanceRejected(f"The CA issued a certificate out of its time: {error.what}") from (
            error
        )
    return IssuedLeaf(
        chain=chain_to_pem(chain),
        leaf_sha256=leaf_sha256(leaf),
        serial=f"{leaf.serial_number:x}",
        not_before=int(leaf.not_valid_before_utc.timestamp()),
        not_after=int(leaf.not_valid_after_utc.timestamp()),
        issued_at=now,
    )
