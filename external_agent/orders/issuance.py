"""Drives one attempt: seal before ordering, one order, resumed after whatever happened.

1 the CA agrees with us on the time · 2 key, CSR and sealed keys are made by a child · 3 they are
committed · 4 the order is driven, each step committed before the next · 5 chain and bundles are
published in one transaction.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import structlog

from external_agent.clock import Clock
from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.orders.certificate_authority import Connector
from external_agent.orders.keymaker import KeyMaker
from external_agent.orders.keymaker_messages import KeyRequest
from external_agent.orders.solvers import SolverTools, solvers_for
from external_agent.orders.solvers.http01 import Board
from external_agent.records.model import AttemptState, PullerStatus
from external_agent.records.rows import (
    CertificateRow,
    Claim,
    ErrorNote,
    GenerationRow,
    IssuedLeaf,
    PreparedBundle,
    PreparedKey,
)
from external_agent.store.interface import Store
from shared.acme.ari import Issued, ari_certificate_id, replaces_for
from shared.acme.authoritative import AuthoritativeDns
from shared.acme.caa import explain_caa_refusal
from shared.acme.client import AcmeClient
from shared.acme.dns01 import Dns01Settings
from shared.acme.order import drive_order
from shared.acme.ports import ChallengeSolver, Sleep
from shared.acme.problems import problem_code
from shared.contract.bundle import Manifest, sign_bundle
from shared.contract.csr import csr_to_pem
from shared.contract.errors import (
    ClockWrong,
    FenceLost,
    IssuanceError,
    IssuanceRejected,
    IssuanceUnavailable,
    OutsideValidity,
    RelayError,
    StoreError,
)
from shared.contract.signing import SigningKey
from shared.contract.x509 import chain_to_pem, check_validity, leaf_sha256, load_chain
from shared.issuing.next_ca import Course, after_failure, failures_at
from shared.issuing.renewal import DAY, Life, asked_pause, first_look, pause_after, renewal_due

_FAULTS_OF_A_CSR = frozenset(("badCSR", "badPublicKey"))
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


Observe = Callable[[str, RelayError | None], None]
"""Is told how each run ended: an ``Outcome``'s value, and the error if there was one."""


def unobserved(_outcome: str, _error: RelayError | None) -> None:
    """Count nothing."""


@dataclass(frozen=True)
class Tools:
    """What an issuance works with.

    Attributes:
        sleep: for the pauses that the CA asks for; raises a RelayError to end an attempt early.
        is_stopping: tells whether the agent is stopping, so that an ended attempt is no failure.
        dns01: the settings of DNS challenges as they are now.
        order_seconds: deadline for one run over one order.
        draw: a random number in [0, 1).
        observe: called once for each run; from worker threads.
        relay_key: makes the key of the relay's own certificate.
    """

    store: Store
    authorities: Connector
    key_maker: KeyMaker
    board: Board
    signing_key: SigningKey
    clock: Clock
    sleep: Sleep = time.sleep
    is_stopping: Callable[[], bool] = lambda: False
    dns01: Callable[[], Dns01Settings] = Dns01Settings
    order_seconds: float = 300.0
    draw: Callable[[], float] = random.random
    observe: Observe = unobserved
    relay_key: Callable[[CertificateRow], PreparedKey] | None = None


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
            return self._observed(self._failed(claim, error), error)
        except Exception as error:
            _log.exception("unexpected error in an issuance", certificate=claim.certificate)
            unexpected = RelayError(f"Unexpected {type(error).__name__}: {error}")
            return self._observed(self._failed(claim, unexpected), unexpected)
        return self._observed(Outcome.ISSUED, None)

    def _observed(self, outcome: Outcome, error: RelayError | None) -> Outcome:
        if outcome is not Outcome.LEFT:
            self._tools.observe(outcome.name.lower().replace("_", "-"), error)
        return outcome

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
        if found is not None and not self._is_outdated(found, row):
            return found, True
        if found is not None:
            now = self._tools.clock()
            self._tools.store.end_attempt(claim, found.generation, None, now=now)
        return self._prepare(claim, row), found is not None

    def _is_outdated(self, attempt: GenerationRow, row: CertificateRow) -> bool:
        """Tell whether an attempt would give something that is no longer wanted.

        While no order is recorded, a newer CSR is taken up; afterwards the attempt's is frozen.
        """
        if _is_outdated(attempt, row):
            return True
        if attempt.key_origin != "puller" or attempt.state != AttemptState.PREPARED:
            return False
        waiting = self._tools.store.waiting_csr(row.id)
        return waiting is None or waiting.spki_sha256 != attempt.spki_sha256

    def _prepare(self, claim: Claim, row: CertificateRow) -> GenerationRow:
        tools = self._tools
        generation = tools.store.choose_generation(row.id, now=tools.clock())
        if row.id == RELAY_CERTIFICATE:
            prepared = self._own_key(row)
        elif row.key_origin == "puller":
            prepared = self._left_by_puller(row)
        else:
            prepared = self._made_here(row, generation)
        return tools.store.commit_prepared(
            claim, generation, prepared, now=tools.clock(), wanted=row.wanted
        )

    def _own_key(self, row: CertificateRow) -> PreparedKey:
        """The one key that the agent keeps: its relay serves with it."""
        if self._tools.relay_key is None:
            raise FenceLost("The relay's certificate is not wanted any more.")
        return self._tools.relay_key(row)

    def _left_by_puller(self, row: CertificateRow) -> PreparedKey:
        """Take the CSR that waits; its key has never been here."""
        waiting = self._tools.store.waiting_csr(row.id)
        if waiting is None or waiting.csr is None or waiting.spki_sha256 is None:
            raise FenceLost(f"Certificate {row.id} waits for a CSR from its puller.")
        return PreparedKey(csr_to_pem(waiting.csr), waiting.spki_sha256, {}, waiting.puller)

    def _made_here(self, row: CertificateRow, generation: int) -> PreparedKey:
        tools = self._tools
        recipients = {one.id: one.sealing_key for one in tools.store.recipients(row.id)}
        if not recipients:
            raise FenceLost(f"Certificate {row.id} has no recipient any more.")
        return tools.key_maker.make(
            KeyRequest(
                names=row.names,
                algorithm=row.key_algorithm,
                agent=tools.signing_key.id,
                certificate=row.id,
                generation=generation,
                recipients=recipients,
            )
        )

    def _failed(self, claim: Claim, error: RelayError) -> Outcome:
        store, now = self._tools.store, self._tools.clock()
        if self._tools.is_stopping():
            store.release(claim)
            return Outcome.LEFT
        note = ErrorNote(error.type, error.what, now)
        row = store.certificate(claim.certificate)
        failures = 1 if row is None else row.failures + 1
        here = 0 if row is None else failures_at(row.troubles, row.directory_url)
        pause = pause_after(error, here + 1, claim.certificate)
        _log.warning(
            "issuance failed", certificate=claim.certificate, error=error.what, pause=pause
        )
        try:
            attempt = store.unfinished_attempt(claim.certificate)
            if row is not None and isinstance(error, IssuanceError):
                self._see_to_account(row, error)
            if attempt is not None and _is_over(attempt, error, now):
                store.end_attempt(claim, attempt.generation, note, now=now)
                code = problem_code(error.problem) if isinstance(error, IssuanceError) else None
                if code in _FAULTS_OF_A_CSR:
                    store.refuse_csr(attempt.certificate, attempt.spki_sha256, error.what, now=now)
            course = None if row is None else self._course(row, error, now, pause)
            stays = row is None or course is None or course.directory_url == row.directory_url
            asked = asked_pause(error) if stays else None
            store.record_failure(
                claim,
                note,
                failures=failures,
                paused_until=now + pause if course is None else course.paused_until,
                now=now,
                asked_until=None if asked is None else now + int(asked),
                course=course,
            )
        except FenceLost:
            return Outcome.LEFT
        return Outcome.CLOCK_WRONG if isinstance(error, ClockWrong) else Outcome.FAILED

    def _course(self, row: CertificateRow, error: RelayError, now: int, pause: int) -> Course:
        life = _life(self._tools.store.newest_issued(row.id))
        course = after_failure(
            row.cas, row.directory_url, row.troubles, error, now=now, pause=pause, life=life
        )
        if course.directory_url != row.directory_url:
            _log.warning("another CA is asked next", certificate=row.id, ca=course.directory_url)
        return course

    def _see_to_account(self, row: CertificateRow, error: IssuanceError) -> None:
        if problem_code(error.problem) == "accountDoesNotExist":
            self._tools.authorities.forget_account(row.directory_url)


def _life(newest: GenerationRow | None) -> Life | None:
    if newest is None or newest.not_before is None or newest.not_after is None:
        return None
    return Life(newest.not_before, newest.not_after, newest.issued_at or newest.not_before)


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


@dataclass
class _Journal:
    """``shared.acme.ports.OrderJournal`` over the store."""

    store: Store
    claim: Claim
    generation: int
    account_url: str | None
    replaces: str | None

    def replaces_refused(self, error: IssuanceRejected, now: int) -> None:
        """The order is made without: the refusal is the operator's to know, no more."""
        self.store.append_event(
            "replaces-refused",
            now=now,
            actor="agent",
            certificate=self.claim.certificate,
            details={
                "generation": self.generation,
                "replaces": self.replaces,
                "what": error.what,
            },
        )
        self.replaces = None

    def order_created(self, order_url: str, expires: float | None) -> None:
        self.store.commit_order(
            self.claim,
            self.generation,
            order_url,
            None if expires is None else int(expires),
            account_url=self.account_url,
            replaces=self.replaces,
        )

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
        replaces = self._replaces()
        account = self.client.account_url
        journal = _Journal(tools.store, self.claim, attempt.generation, account, replaces)
        try:
            issued = drive_order(
                self.client,
                names=attempt.names,
                csr_pem=attempt.csr,
                order_url=attempt.order_url,
                solvers=self._solvers(),
                journal=journal,
                sleep=tools.sleep,
                deadline_seconds=self._patience(),
                profile=self._profile(),
                preferred_chain=tools.authorities.preferred_chain(attempt.directory_url),
                adopt_unfinished=self.adopt,
                replaces=replaces,
                on_replaces_refused=lambda error: journal.replaces_refused(error, tools.clock()),
            )
        except IssuanceRejected as error:
            raise self._explained(error) from error
        self._publish(issued.chain_pem.decode("ascii"))

    def _profile(self) -> str | None:
        """Return the profile to ask for: of another CA than the first its own, or the same name.

        The first CA's name for a profile need not be one at the others.
        """
        profile, ca = self.attempt.profile, self.attempt.directory_url
        if ca == self.row.cas[0]:
            return profile
        if (own := self.tools.authorities.profile(ca)) is not None or profile is None:
            return own
        return profile if profile in self.client.directory().profiles else None

    def _patience(self) -> float:
        """Return the seconds for this run; what is waited for in the DNS is not the CA's."""
        wait = self.tools.dns01().longest_wait if self.row.challenge == "dns-01" else 0.0
        return self.tools.order_seconds + wait

    def _solvers(self) -> dict[str, ChallengeSolver]:
        own = self.tools
        tools = SolverTools(
            own.store, own.board, own.clock, dns01=own.dns01, sleep=own.sleep, client=self.client
        )
        return solvers_for(self.row.challenge, tools, self.claim)

    def _explained(self, error: IssuanceRejected) -> IssuanceRejected:
        """Return a refusal with the CAA record that it rests on, if it does."""
        return explain_caa_refusal(
            error,
            self.attempt.names,
            lambda: self.client.directory().caa_identities,
            AuthoritativeDns(self.tools.dns01().resolver_addresses),
        )

    def _replaces(self) -> str | None:
        """Return what the order names as its predecessor (RFC 9773 section 5).

        Every second attempt after failures goes without: a CA that stumbles over it, rather than
        refusing it, must not block the renewal.
        """
        old = self.tools.store.newest_issued(self.row.id)
        if old is None or old.chain is None or self.row.failures % 2:
            return None
        return replaces_for(
            Issued(old.chain.encode("ascii"), old.directory_url, old.account_url, old.names),
            directory_url=self.attempt.directory_url,
            account_url=self.client.account_url,
            names=self.attempt.names,
        )

    def _publish(self, chain_pem: str) -> None:
        now, generation = self.tools.clock(), self.attempt.generation
        leaf = _read_leaf(chain_pem, now)
        life = Life(leaf.not_before, leaf.not_after, now)
        due = renewal_due(life, None, certificate=self.row.id, generation=generation)
        self.tools.store.publish(
            self.claim,
            generation,
            leaf,
            self._bundles(leaf),
            due_at=due.at,
            now=now,
            next_look=first_look(now, self.tools.draw()).next_look,
        )

    def _bundles(self, leaf: IssuedLeaf) -> list[PreparedBundle]:
        """Sign one for each puller that can have the key, and that was not revoked since."""
        attempt, store = self.attempt, self.tools.store
        keys: dict[str, bytes | None] = dict(
            store.sealed_keys(attempt.certificate, attempt.generation)
        )
        if attempt.key_origin == "puller":
            keys = dict.fromkeys(attempt.recipients)
        signed = []
        for puller, sealed in keys.items():
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
        ari_id=_ari_id(chain_pem),
    )


def _ari_id(chain_pem: str) -> str | None:
    with contextlib.suppress(IssuanceRejected):
        return ari_certificate_id(chain_pem.encode("ascii"))
    return None
