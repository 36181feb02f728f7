"""What the store hands out: typed rows, frozen, without any connection behind them.

Times are unix seconds (``int``). Digests and key ids are lower-case hex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from external_agent.facts.access import Role
from external_agent.facts.persist import Seen
from external_agent.records.model import AttemptState, PullerStatus
from shared.acme.dns_persist import Offer
from shared.contract.bundle import KeyOrigin
from shared.contract.key_policy import KeyAlgorithm
from shared.issuing.next_ca import Trouble
from shared.issuing.renewal import Advice, Life


@dataclass(frozen=True, slots=True)
class ErrorNote:
    """An error as recorded: ``type`` as in ``shared.contract.errors``, and the whole sentence."""

    type: str
    what: str
    at: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """
    Attributes:
        thumbprint: of the key that the CA knows the account by (RFC 7638); ``None`` where it was
            not recorded, then it is that of ``account.key``.
        status: ``valid``, or ``deactivated`` by us.
    """

    directory_url: str
    account_url: str
    contact: tuple[str, ...]
    created_at: int
    thumbprint: str | None = None
    status: str = "valid"


@dataclass(frozen=True, slots=True)
class Hold:
    """An operator's pause: no attempt before ``until``; ``None`` is until it is resumed."""

    at: int
    until: int | None
    reason: str

    def holds(self, now: int) -> bool:
        return self.until is None or self.until > now


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """What an operator wants, and how far the agent is with it.

    Attributes:
        wanted: counts the reasons for a new generation; ``satisfied`` is the count that the newest
            issued generation was prepared for. A renewal is wanted while ``wanted > satisfied``.
        wanted_reason: the last such reason, in words.
        due_at: when the newest generation is to be renewed; ``None`` before the first.
        due_reason: why then, a ``shared.issuing.renewal.Reason``; ``None`` where it was not
            recorded.
        paused_until: no attempt before this moment; 0 for none.
        failures: attempts that failed since the last success.
        cas: directory URLs of the CAs that may issue it, the preferred first.
        directory_url: the one of them that is asked next.
        troubles: what stands against each of them since the last success.
        held: an operator's pause; it may have run out.
    """

    id: str
    names: tuple[str, ...]
    key_origin: KeyOrigin
    key_algorithm: KeyAlgorithm
    challenge: str
    directory_url: str
    profile: str | None
    created_at: int
    removed_at: int | None
    wanted: int
    satisfied: int
    wanted_reason: str
    due_at: int | None
    paused_until: int
    failures: int
    last_error: ErrorNote | None
    highest_seen: int
    due_reason: str | None = None
    cas: tuple[str, ...] = ()
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    held: Hold | None = None

    @property
    def renewal_wanted(self) -> bool:
        return self.wanted > self.satisfied


@dataclass(frozen=True, slots=True)
class PullerRow:
    """``id`` is the key id of ``signing_key``, ``sealing_id`` that of ``sealing_key``."""

    id: str
    signing_key: bytes
    sealing_id: str
    sealing_key: bytes
    host: str
    status: PullerStatus
    enrolled_at: int
    last_seen_at: int | None
    token_id: str


@dataclass(frozen=True, slots=True)
class MachineRow:
    """One installation that asked with a puller's key.

    Attributes:
        installation: 32 lower-case hex digits: of one machine from one boot to the next.
        host: how it calls itself; an operator reads it.
        first_seen, last_seen: unix seconds; the last one to the minute.
    """

    installation: str
    host: str
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class TokenRow:
    """``id`` is the key id of ``public_key``; ``certificates`` is what the token grants."""

    id: str
    public_key: bytes
    certificates: tuple[str, ...]
    created_at: int
    expires_at: int
    redeemed_at: int | None
    redeemed_by: str | None
    voided_at: int | None


@dataclass(frozen=True, slots=True)
class AccessRow:
    """An access token of the operator API; ``digest`` is all that is known of its secret.

    Attributes:
        used_at: within the last hour of it; ``None`` for never.
    """

    id: str
    name: str
    role: Role
    digest: str
    created_at: int
    expires_at: int
    voided_at: int | None
    used_at: int | None

    def is_live(self, now: int) -> bool:
        return self.voided_at is None and self.expires_at > now


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """One attempt and, once issued, one generation of a certificate.

    Attributes:
        ari_id: how the CA's renewal information calls it (RFC 9773 section 4.1).
        account_url: the account that it was ordered by.
        replaces: the ``ari_id`` that its order named.
        replaced_by: the generation that took its place.
        why: a ``shared.issuing.renewal.Reason``, or in words what it was wanted for.
        revoked_reason: as in RFC 5280, such as ``keyCompromise``.
    """

    certificate: str
    generation: int
    state: AttemptState
    names: tuple[str, ...]
    key_origin: KeyOrigin
    csr: bytes
    spki_sha256: str
    directory_url: str
    profile: str | None
    wanted: int
    recipients: tuple[str, ...]
    prepared_at: int
    order_url: str | None
    order_expires: int | None
    certificate_url: str | None
    chain: str | None
    leaf_sha256: str | None
    serial: str | None
    not_before: int | None
    not_after: int | None
    issued_at: int | None
    error: ErrorNote | None
    ari_id: str | None = None
    account_url: str | None = None
    replaces: str | None = None
    replaced_by: int | None = None
    why: str | None = None
    revoked_at: int | None = None
    revoked_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """A newest generation whose CA may be asked when to renew it.

    Attributes:
        hurried: as ``shared.issuing.renewal.renewal_due`` takes it.
    """

    certificate: str
    generation: int
    directory_url: str
    chain: str
    life: Life
    advice: Advice
    hurried: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on one certificate: whoever holds a higher ``fence`` has taken it over."""

    certificate: str
    owner: str
    fence: int
    lease_until: int


@dataclass(frozen=True, slots=True)
class PreparedKey:
    """The CSR (PEM), and the key sealed to each recipient as the key maker handed it back.

    ``sealed`` maps puller id to sealed key; empty when the key was made by ``puller``.
    """

    csr: bytes
    spki_sha256: str
    sealed: dict[str, bytes]
    puller: str | None = None

    @property
    def recipients(self) -> list[str]:
        return [self.puller] if self.puller is not None else sorted(self.sealed)


@dataclass(frozen=True, slots=True)
class CsrRow:
    """What a puller left for the next generation of a certificate.

    Attributes:
        csr: DER; ``None`` when none waits.
        refused_at, refused_why: the last one that was refused since.
        awaited_at: since when a due generation waits for a CSR.
    """

    certificate: str
    puller: str | None
    csr: bytes | None
    spki_sha256: str | None
    received_at: int | None
    refused_at: int | None
    refused_why: str | None
    awaited_at: int | None


@dataclass(frozen=True, slots=True)
class AwaitedCsr:
    """A generation that is due and has no CSR; ``urgent`` when little time is left.

    Attributes:
        not_after: when the generation in place expires; ``None`` before the first.
    """

    certificate: str
    host: str
    not_after: int | None
    urgent: bool


@dataclass(frozen=True, slots=True)
class PreparedBundle:
    """A signed envelope for one puller."""

    puller: str
    manifest_digest: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """What publishing stores of the chain that the CA handed out (PEM, leaf first).

    ``ari_id`` is ``None`` for a leaf without an authority key identifier.
    """

    chain: str
    leaf_sha256: str
    serial: str
    not_before: int
    not_after: int
    issued_at: int
    ari_id: str | None = None


@dataclass(frozen=True, slots=True)
class ServedRow:
    leaf_sha256: str
    not_after: int
    address: str | None


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    puller: str
    certificate: str
    generation: int
    digest: str
    outcome: str
    error: str
    served: tuple[ServedRow, ...]
    at: int
    received_at: int


@dataclass(frozen=True, slots=True)
class ChallengeRow:
    """A challenge that is answered now; ``hits`` counts the answers given."""

    name: str
    created_at: int
    hits: int


@dataclass(frozen=True, slots=True)
class AuthorityRow:
    """How one CA does.

    Attributes:
        certificates: those that ask it next; ``failing`` of them failed last.
        issued_at: its last success; ``None`` for never.
        last_error: the newest among those certificates.
    """

    directory_url: str
    certificates: int
    failing: int
    issued_at: int | None
    last_error: ErrorNote | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """One link of the audit trail; ``hash`` covers every other member."""

    seq: int
    at: int
    kind: str
    actor: str
    certificate: str | None
    puller: str | None
    details: dict[str, object]
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class TrailEnd:
    """Where the chain ends: what somebody notes down elsewhere to compare with later."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows one turn of housekeeping deleted."""

    events: int = 0
    receipts: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class TamperedEvent:
    """Where the chain of events breaks first, and how."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """How far one puller is with one certificate: four facts, each with its moment.

    Attributes:
        offered: newest generation with a bundle for this puller; 0 for none.
        pulled: newest generation that it fetched; 0 for none.
        installed: generation of its last receipt with outcome ``installed``; 0 for none.
        served: what its last receipt saw being served; empty if it saw nothing.
        served_matches: the newest issued one is served everywhere; ``None`` if it is not known.
        machines: installations that asked with this puller's key; empty where none said.
    """

    puller: str
    host: str
    puller_status: PullerStatus
    last_seen_at: int | None
    offered: int
    pulled: int
    pulled_at: int | None
    installed: int
    installed_at: int | None
    served: tuple[ServedRow, ...]
    served_at: int | None
    served_matches: bool | None
    last_receipt: ReceiptRow | None
    machines: tuple[MachineRow, ...] = ()

    @property
    def has_no_target(self) -> bool:
        """Whether the machine said that no target there takes the certificate any more."""
        return self.last_receipt is not None and self.last_receipt.outcome == "removed"

    @property
    def takes_it(self) -> bool:
        """Whether anything is to be expected of the machine: let in, and not without a target."""
        return self.puller_status == PullerStatus.ACTIVE and not self.has_no_target


@dataclass(frozen=True, slots=True)
class PersistRow:
    """The dns-persist-01 record of one name of a certificate.

    Attributes:
        name: without ``*.``.
        wildcard: the certificate has the name's wildcard too.
        offer: what the CA takes for our account, as it was last heard.
    """

    certificate: str
    name: str
    wildcard: bool
    offer: Offer
    seen: Seen


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """Everything ``status`` shows of one certificate.

    Attributes:
        issued: the newest issued generation, or ``None``.
        attempt: an unfinished attempt, or ``None``.
        advice: what the CA suggests about ``issued``, or ``None``.
        persist: dns-persist-01 records that were looked at.
        waits_for: in words, what keeps the next order from being made; empty if nothing does.
        csr: what its puller left last; ``None`` when the agent makes the keys.
        csr_waits: an unused CSR is there for the next generation.
    """

    certificate: CertificateRow
    issued: GenerationRow | None
    attempt: GenerationRow | None
    deliveries: tuple[DeliveryStatus, ...]
    waits_for: str
    csr: CsrRow | None = None
    csr_waits: bool = False
    persist: tuple[PersistRow, ...] = ()
    advice: Advice | None = None


@dataclass(frozen=True, slots=True)
class Voided:
    """How many tokens a restore has voided."""

    enrolment: int
    access: int
