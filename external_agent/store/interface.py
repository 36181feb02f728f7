"""The store as its users see it: every method is one transaction.

All methods may raise ``StoreUnavailable`` (locked, gone, full, or of a newer schema). Times are
unix seconds; ``now`` is always an argument. Open one with ``external_agent.store.open.open_store``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from external_agent.facts.access import Role
from external_agent.facts.persist import Seen
from external_agent.records.alert_rows import AlertReceiver, ToldAlert
from external_agent.records.direct_rows import DirectRow
from external_agent.records.rows import (
    AccessRow,
    AccountRow,
    AuthorityRow,
    AwaitedCsr,
    CertificateRow,
    CertificateStatus,
    ChallengeRow,
    Claim,
    CsrRow,
    Deleted,
    ErrorNote,
    EventRow,
    GenerationRow,
    IssuedLeaf,
    Look,
    PersistRow,
    PreparedBundle,
    PreparedKey,
    PullerRow,
    ReceiptRow,
    TamperedEvent,
    TokenRow,
    TrailEnd,
    Voided,
)
from shared.acme.dns_persist import Offer
from shared.contract.bundle import KeyOrigin
from shared.contract.errors import RequestRefused
from shared.contract.key_policy import KeyAlgorithm
from shared.contract.wire import (
    BundleAnswer,
    DirectReport,
    EnrolmentAnswer,
    Listing,
    Machine,
    Receipt,
)
from shared.issuing.next_ca import Course
from shared.issuing.renewal import Advice, Due


class CertificateStore(Protocol):
    """What operators change."""

    def add_certificate(
        self,
        certificate: str,
        names: Sequence[str],
        *,
        directory_url: str,
        now: int,
        key_origin: KeyOrigin = "agent",
        key_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256,
        challenge: str = "http-01",
        profile: str | None = None,
        cas: Sequence[str] = (),
        actor: str = "operator",
    ) -> CertificateRow:
        """Raises PolicyError: it is there already.

        Args:
            cas: directory URLs, the preferred first, which is ``directory_url``; none is that one.
        """

    def change_certificate(
        self,
        certificate: str,
        *,
        now: int,
        names: Sequence[str] | None = None,
        key_origin: KeyOrigin | None = None,
        key_algorithm: KeyAlgorithm | None = None,
        challenge: str | None = None,
        cas: Sequence[str] = (),
        profile: str | None = None,
        actor: str = "operator",
    ) -> CertificateRow:
        """Change what is given; a new generation is wanted. An empty ``profile`` is none.

        Raises:
            PolicyError: unknown, or several pullers have what one of them is to make the key of.
        """

    def remove_certificate(self, certificate: str, *, now: int, actor: str = "operator") -> None:
        """No more orders, no more bundles. Raises PolicyError: unknown."""

    def request_renewal(
        self, certificate: str, reason: str, *, now: int, actor: str = "operator"
    ) -> None:
        """Want a new generation as soon as the CA permits. Raises PolicyError: unknown."""

    def request_renewal_of_all(
        self, reason: str, *, now: int, actor: str = "operator"
    ) -> tuple[str, ...]:
        """:meth:`request_renewal` for every certificate; return their ids."""

    def pause_certificate(
        self,
        certificate: str,
        *,
        until: int | None,
        reason: str,
        now: int,
        actor: str = "operator",
    ) -> CertificateRow:
        """No attempt before ``until``, or until it is resumed. Raises PolicyError: unknown."""

    def resume_certificate(
        self, certificate: str, *, now: int, actor: str = "operator"
    ) -> CertificateRow:
        """End an operator's pause, if there is one. Raises PolicyError: unknown."""

    def certificate(self, certificate: str) -> CertificateRow | None: ...

    def certificates(self, *, with_removed: bool = False) -> list[CertificateRow]: ...

    def status(
        self, now: int, *, after: str = "", limit: int | None = None, only: str | None = None
    ) -> list[CertificateStatus]:
        """Everything that is shown, in order of ids; of generations without CSR and chain.

        Args:
            after, limit: one page of it, above an id.
            only: one certificate.
        """

    def account(self, directory_url: str) -> AccountRow | None: ...

    def accounts(self) -> list[AccountRow]: ...

    def save_account(
        self,
        directory_url: str,
        account_url: str,
        contact: Sequence[str],
        *,
        now: int,
        thumbprint: str | None = None,
    ) -> None: ...

    def note_account_key(
        self, directory_url: str, thumbprint: str, *, now: int, actor: str = "operator"
    ) -> None:
        """The CA knows the account by this key from now on."""

    def note_account_deactivated(
        self, directory_url: str, thumbprint: str, *, now: int, actor: str = "operator"
    ) -> None:
        """The CA takes nothing from the account any more."""

    def note_revoked(
        self,
        certificate: str,
        generation: int,
        reason: str,
        *,
        renew: bool,
        now: int,
        actor: str = "operator",
    ) -> bool:
        """Keep that a generation was revoked; tell whether another is wanted because of it.

        Args:
            renew: want another, unless the certificate was removed.
        """

    def generation_of_leaf(self, leaf_sha256: str, *, spki_sha256: str) -> GenerationRow | None:
        """The issued generation with this leaf, also of a certificate that was removed."""

    def generations(self, certificate: str, *, limit: int = 50) -> list[GenerationRow]:
        """The newest first, attempts that failed among them."""


class EnrolmentStore(Protocol):
    """Tokens, pullers and grants."""

    def create_token(
        self,
        public_key: bytes,
        certificates: Sequence[str],
        *,
        now: int,
        expires_at: int,
        actor: str = "operator",
    ) -> TokenRow:
        """Raises PolicyError: a certificate is unknown; ConfigurationError: lives too long."""

    def void_token(self, token_id: str, *, now: int, actor: str = "operator") -> None:
        """Raises TokenUnknown."""

    def tokens(self) -> list[TokenRow]: ...

    def token(self, token_id: str) -> TokenRow | None: ...

    def redeem_token(
        self,
        token_id: str,
        *,
        signing_key: bytes,
        sealing_key: bytes,
        host: str,
        nonce: str,
        now: int,
    ) -> EnrolmentAnswer:
        """Enrol the keys' owner by one conditional update: of any number, exactly one wins.

        The same keys again get the same answer. Both signatures, the clock and the keys' own
        soundness (``shared.contract.sealing.Recipient``) have been checked by the caller.

        Raises:
            TokenUnknown, TokenExpired: also for a token that was voided.
            TokenUsed: redeemed by other keys before; that puller is now suspended.
            KeysRefused: one of the keys belongs to another puller, or to a revoked one.
            RequestRefused: the nonce was used (``problem_type`` "replayed"), or the token is tried
                too often ("too-many-calls").
        """

    def pullers(self) -> list[PullerRow]: ...

    def puller(self, puller: str) -> PullerRow | None: ...

    def grants(self, puller: str) -> tuple[str, ...]:
        """Ids of the certificates that it may fetch, sorted."""

    def grant(self, puller: str, certificate: str, *, now: int, actor: str = "operator") -> None:
        """Raises PolicyError: one of them is unknown, or the puller revoked."""

    def withdraw(self, puller: str, certificate: str, *, now: int, actor: str = "operator") -> None:
        """Take a grant back; a sealed certificate gets a new generation. Raises PolicyError."""

    def suspend_puller(
        self, puller: str, reason: str, *, now: int, actor: str = "operator"
    ) -> None:
        """Raises PolicyError: unknown or revoked."""

    def confirm_puller(self, puller: str, *, now: int, actor: str = "operator") -> None:
        """End a suspension. Raises PolicyError: unknown or revoked."""

    def revoke_puller(self, puller: str, *, now: int, actor: str = "operator") -> None:
        """For good; its sealed certificates get new generations. Raises PolicyError: unknown."""


class RelayStore(Protocol):
    """What pullers read and say; status and grants are read in the same transaction."""

    def admit(
        self, puller: str, certificate: str | None = None, *, nonce: str | None = None, now: int
    ) -> None:
        """Decide whether a puller may call, about this certificate; keep the nonce of the call.

        Raises:
            PullerRevoked ("puller-revoked"); RequestRefused ("puller-suspended", "not-granted",
                "replayed", "too-many-calls"). Nothing is written then.
        """

    def names_spoken_of(self, puller: str) -> frozenset[str]:
        """Names of what is granted to it now; none of a puller that may not call."""

    def listing_for(self, puller: str, *, now: int, machine: Machine | None = None) -> Listing:
        """Everything granted.

        Args:
            machine: which one asks, where it said so; remembered, to notice a copy.

        Raises: PullerRevoked ("puller-revoked"); RequestRefused ("puller-suspended").
        """

    def bundle_for(self, puller: str, certificate: str, after: int, *, now: int) -> BundleAnswer:
        """The newest bundle above ``after``, which is also what the puller says it holds.

        Raises: as :meth:`listing_for`, and RequestRefused ("not-granted").
        """

    def record_receipts(
        self, puller: str, sent: Sequence[Receipt], *, now: int
    ) -> dict[int, RequestRefused]:
        """Keep those whose certificates are granted; return why the others were refused, by place.

        Raises: as :meth:`listing_for`, and RequestRefused ("too-many-receipts"); then
            none is kept.
        """

    def leave_csr(
        self,
        puller: str,
        certificate: str,
        csr_der: bytes,
        *,
        now: int,
        own_keys: Collection[str] = (),
    ) -> bool:
        """Keep the CSR for the next generation; tell whether it is new (the same one may come
        again).

        Args:
            own_keys: SPKI digests of the agent's own keys, which no certificate may have.

        Raises:
            CsrRefused: it breaks a rule, its key was used before, or none is wanted; noted.
            RequestRefused, PullerRevoked: as :meth:`bundle_for`; "too-many-csrs".
        """

    def receipts(self, certificate: str, *, limit: int = 50) -> list[ReceiptRow]: ...

    def pending_challenges(self) -> Mapping[str, str]:
        """Token to key authorization, of every challenge that a CA may ask for now."""

    def record_challenge_hits(self, hits: Mapping[str, int]) -> None:
        """Add to the count of answers given for each token; unknown tokens are passed over."""

    def change_counter(self) -> int:
        """A number that every change bumps, by whichever process; one cheap query."""


class EventStore(Protocol):
    """The audit trail."""

    def append_event(
        self,
        kind: str,
        *,
        now: int,
        actor: str,
        certificate: str | None = None,
        puller: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> EventRow: ...

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """In order of ``seq``, above ``after``."""

    def latest_events(self, limit: int = 50) -> list[EventRow]:
        """The newest, oldest of them first."""

    def verify_events(self, known: TrailEnd | None = None) -> TamperedEvent | None:
        """Walk the whole chain; ``None`` if it is whole.

        Args:
            known: an end noted down earlier, which has to lie on the chain still; without one, a
                chain written anew from beginning to end passes.
        """

    def trail_end(self) -> TrailEnd:
        """The newest event; ``seq`` 0 for none."""


class RetentionStore(Protocol):
    """What housekeeping needs."""

    def housekeeping_at(self) -> int:
        """When it was done last; 0 for never."""

    def delete_older_than(self, before: int, *, now: int) -> Deleted:
        """Delete what is older, as much as one transaction should take; the chain stays one."""


class IssuingStore(Protocol):
    """What the scheduler and the issuance need; nobody else calls these."""

    def claim_due(
        self,
        owner: str,
        *,
        now: int,
        lease_seconds: int,
        limit: int = 1,
        exclude: Sequence[str] = (),
        skip_directories: Sequence[str] = (),
    ) -> list[Claim]:
        """Lease certificates that are due, most urgent first; each gets a higher fence."""

    def release(self, claim: Claim) -> None:
        """Give the lease back; does nothing if it was lost."""

    def forget_leases(self, owner: str) -> None:
        """Take back the leases of an earlier run of the same owner, which has ended."""

    def recipients(self, certificate: str) -> list[PullerRow]:
        """Active pullers granted, sorted by id."""

    def waiting_csr(self, certificate: str) -> CsrRow | None:
        """The unused CSR for the next generation, of an active puller and for today's names."""

    def refuse_csr(self, certificate: str, spki_sha256: str, why: str, *, now: int) -> None:
        """Want another CSR than the one with this key, which the CA did not take."""

    def note_awaited_csrs(self, *, now: int) -> list[AwaitedCsr]:
        """Write an Event for each due certificate that has no CSR; return those, each once, and
        once more when little time is left."""

    def unfinished_attempt(self, certificate: str) -> GenerationRow | None: ...

    def choose_generation(self, certificate: str, *, now: int) -> int:
        """The larger of ``now`` and one more than the highest known."""

    def commit_prepared(
        self, claim: Claim, generation: int, prepared: PreparedKey, *, now: int, wanted: int
    ) -> GenerationRow:
        """Raises FenceLost, also when the generation is taken or the certificate was removed."""

    def commit_order(
        self,
        claim: Claim,
        generation: int,
        order_url: str,
        expires: int | None,
        *,
        account_url: str | None = None,
        replaces: str | None = None,
    ) -> None:
        """Raises FenceLost; IssuanceUnavailable: another attempt is using that order."""

    def commit_state(self, claim: Claim, generation: int, certificate_url: str | None) -> None:
        """To ``finalizing``, or to ``certified`` with a certificate URL. Raises FenceLost."""

    def put_challenge(
        self, claim: Claim, token: str, key_authorization: str, name: str, *, now: int
    ) -> None:
        """Raises FenceLost."""

    def sealed_keys(self, certificate: str, generation: int) -> dict[str, bytes]:
        """Puller id to sealed key."""

    def publish(
        self,
        claim: Claim,
        generation: int,
        leaf: IssuedLeaf,
        bundles: Sequence[PreparedBundle],
        *,
        due_at: int,
        now: int,
        next_look: int = 0,
    ) -> None:
        """Chain, bundles, state, next renewal and event in one. Raises FenceLost.

        Args:
            next_look: when the CA may be asked first when to renew.
        """

    def end_attempt(
        self, claim: Claim, generation: int, error: ErrorNote | None, *, now: int
    ) -> None:
        """To ``failed``, or to ``abandoned`` without an error; its sealed keys are deleted."""

    def record_failure(
        self,
        claim: Claim,
        error: ErrorNote,
        *,
        failures: int,
        paused_until: int,
        now: int,
        asked_until: int | None = None,
        course: Course | None = None,
    ) -> None:
        """Persist the pause. Raises FenceLost.

        Args:
            course: which CA is asked next.
            asked_until: the part of the pause that the CA asked for; operators cannot end it.
        """

    def newest_issued(self, certificate: str) -> GenerationRow | None: ...

    def claim_looks(self, *, now: int, limit: int = 100) -> list[Look]:
        """Certificates whose CA may be asked when to renew them; nobody else gets them soon."""

    def record_look(self, look: Look, advice: Advice, due: Due, *, now: int) -> None:
        """Keep what the CA suggests and when to renew; nothing if a newer generation is there."""


class PersistStore(Protocol):
    """What looks at dns-persist-01 records need."""

    def persist_records(self) -> list[PersistRow]:
        """Those of names that a certificate still wants by this challenge."""

    def record_persist_look(self, certificate: str, name: str, offer: Offer, seen: Seen) -> None:
        """Keep it, with events for what is news; passed over for a name of no certificate."""


class DirectStore(Protocol):
    """Certificates that pullers get by themselves."""

    def record_direct(
        self, puller: str, sent: Sequence[DirectReport], *, now: int
    ) -> dict[int, RequestRefused]:
        """Keep each; return why some were refused, by place: more certificates than a puller may
        report.

        Raises: as ``record_receipts``.
        """

    def direct_certificates(self) -> list[DirectRow]: ...


class AccessStore(Protocol):
    """Access tokens of the operator API."""

    def create_access(
        self, name: str, role: Role, digest: str, *, now: int, expires_at: int, actor: str
    ) -> AccessRow:
        """Raises PolicyError: a live one has that name."""

    def void_access(self, token: str, *, now: int, actor: str) -> AccessRow:
        """Raises PolicyError: there is none with that id."""

    def access_tokens(self) -> list[AccessRow]: ...

    def access_token(self, token: str) -> AccessRow | None: ...

    def access_by_digest(self, digest: str) -> AccessRow | None: ...

    def note_access_used(self, token: str, *, now: int) -> None: ...


class RestoreStore(Protocol):
    """What a restore has to end."""

    def note_restored(self, made_at: int, release: str, *, now: int, actor: str) -> Voided:
        """Void every enrolment token that was not redeemed, and every access token.

        Args:
            made_at, release: of the backup.
        """


class AlertStore(Protocol):
    """What receivers of alerts were told."""

    def told_alerts(self, receiver: str) -> list[ToldAlert]:
        """What it was told and not called over since, in order of key."""

    def keep_told(self, receiver: str, told: Sequence[ToldAlert], forget: Collection[str]) -> None:
        """Keep some, in place of those with the same key, and forget the keys of others."""

    def alert_receivers(self) -> list[AlertReceiver]:
        """Those that something was sent to, by name."""

    def note_alert_sent(self, receiver: str, *, problem: str, now: int) -> AlertReceiver:
        """Note how it went; return how it stands."""

    def forget_alert_receivers(self, but: Collection[str]) -> None:
        """Forget all others, and what they were told."""


class PageStore(Protocol):
    """What is listed page by page; ``limit`` rows at most, from an index."""

    def puller_page(
        self, *, after: str, limit: int, status: str | None = None, certificate: str | None = None
    ) -> list[PullerRow]:
        """In order of id, above ``after``."""

    def grants_of(self, pullers: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Certificates by puller."""

    def receipt_page(
        self,
        *,
        before: int | None,
        limit: int,
        certificate: str | None = None,
        puller: str | None = None,
    ) -> list[tuple[int, ReceiptRow]]:
        """Number and receipt, the newest first, below ``before``."""

    def event_page(
        self,
        *,
        before: int | None,
        limit: int,
        certificate: str | None = None,
        puller: str | None = None,
        kind: str | None = None,
    ) -> list[EventRow]:
        """The newest first, below ``before``."""

    def generation_page(
        self, certificate: str, *, before: int | None, limit: int
    ) -> list[GenerationRow]:
        """The newest first, below ``before``; attempts that failed among them."""

    def challenges_of(self, certificate: str) -> list[ChallengeRow]:
        """What a CA may ask for now."""

    def authorities(self) -> list[AuthorityRow]:
        """How each CA does, by directory URL."""


class Store(
    CertificateStore,
    EnrolmentStore,
    RelayStore,
    EventStore,
    IssuingStore,
    PersistStore,
    DirectStore,
    RetentionStore,
    AccessStore,
    RestoreStore,
    AlertStore,
    PageStore,
    Protocol,
):
    """All of it, and its end."""

    @property
    def description(self) -> str:
        """The engine, its version and the durability chosen, for the log."""

    @property
    def spread_seconds(self) -> float:
        """After so long every agent over this store has looked at what was written; 0 for one."""

    def close(self) -> None: ...
