"""What needs an operator, and why: derived from the facts about a certificate, nothing else.

The status page, the command line, alerts and metrics all ask here, so that they agree. Times are
unix seconds; the words are in ``external_agent.present.wording``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from external_agent.facts.machines import two_machines
from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.facts.serving import is_direct_served, is_of_installing
from external_agent.records.direct_rows import DirectRow
from external_agent.records.model import PullerStatus
from external_agent.records.rows import CertificateStatus, DeliveryStatus, GenerationRow
from shared.acme.revocation import NEEDS_NO_OTHER
from shared.issuing.renewal import DAY, HOUR


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something needs somebody.

    Attributes:
        failures: attempts in a row.
        life_left, life_left_critical: shares of the lifetime; a third is left when renewals are
            due.
        grace: seconds that a puller on the hourly timer needs to fetch, install and report.
        silent: seconds; a puller asks every hour at least.
        record, record_critical: seconds before a dns-persist-01 record ends.
    """

    failures: int = 3
    life_left: float = 0.2
    life_left_critical: float = 0.07
    grace: int = 2 * HOUR
    silent: int = 3 * HOUR
    record: int = 30 * DAY
    record_critical: int = 7 * DAY


USUAL = Thresholds()


class Severity(IntEnum):
    OK = 0
    INFO = 1
    """On its way, or waits for something ordinary: nothing to do."""
    WARNING = 2
    """Somebody should look today."""
    CRITICAL = 3
    """Visitors notice, or soon will; or somebody may have stolen something."""


class Kind(StrEnum):
    """Stable words: alerts, metrics and translations are keyed by them."""

    EXPIRED = "expired"
    EXPIRING = "expiring"
    FAILING = "failing"
    REVOKED = "revoked"
    ISSUING = "issuing"
    NO_PULLER = "no-puller"
    AWAITING_CSR = "awaiting-csr"
    SERVED_DIFFERS = "served-differs"
    NOT_SERVED = "not-served"
    """In place, and that machine saw that its server does not serve it."""
    NOT_SEEN = "not-seen"
    """In place, and that machine cannot tell whether its server serves it."""
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    NOT_PULLED = "not-pulled"
    NOT_INSTALLED = "not-installed"
    PULLER_FAULT = "puller-fault"
    NO_TARGET = "no-target"
    PULLER_SILENT = "puller-silent"
    PULLER_SUSPENDED = "puller-suspended"
    TWO_MACHINES = "two-machines"
    RECORD_BAD = "record-bad"
    RECORD_ENDS = "record-ends"


@dataclass(frozen=True, slots=True)
class Concern:
    """
    Attributes:
        since: since when it is so, as far as that is known.
        about: the puller or the name that is meant, where it is not the certificate as a whole.
        facts: what the words need.
    """

    kind: Kind
    severity: Severity
    certificate: str
    since: int
    about: str = ""
    facts: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes it the same concern as a minute ago."""
        return f"{self.certificate} {self.kind} {self.about}".strip()


def worst(concerns: Iterable[Concern]) -> Severity:
    return max((one.severity for one in concerns), default=Severity.OK)


def concerns_of(
    status: CertificateStatus, now: int, limits: Thresholds = USUAL
) -> tuple[Concern, ...]:
    """Return what is to be said of a certificate, the worst first."""
    found = [
        *_of_life(status, now, limits),
        *_of_issuing(status, now, limits),
        *_of_records(status, now, limits),
    ]
    if status.certificate.id != RELAY_CERTIFICATE:
        found += _of_recipients(status, now, limits)
    return tuple(sorted(found, key=lambda one: -one.severity))


def concerns_of_direct(row: DirectRow, now: int) -> tuple[Concern, ...]:
    """The same of a certificate that a puller gets by itself, as far as it has told."""

    def concern(kind: Kind, severity: Severity, since: int, **facts: str | int) -> Concern:
        return Concern(kind, severity, row.certificate, since, row.host, facts)

    found: list[Concern] = []
    if row.puller_status == PullerStatus.REVOKED:
        return ()  # it will never say anything else
    if row.generation and row.not_after <= now:
        found.append(concern(Kind.EXPIRED, Severity.CRITICAL, row.not_after, at=row.not_after))
    elif row.generation and row.next_renewal + DAY < now:
        late = Severity.CRITICAL if row.not_after - now < 2 * DAY else Severity.WARNING
        found.append(concern(Kind.EXPIRING, late, row.next_renewal, at=row.not_after))
    if row.outcome != "installed":
        facts: dict[str, str | int] = {"count": 1, "error": row.error, "host": row.host}
        kind = _of_outcome(row.outcome, row.error)
        found.append(concern(kind, Severity.WARNING, row.at, **facts))
    elif is_of_installing(row.error):
        kind = _of_kept(is_direct_served(row))
        found.append(concern(kind, Severity.WARNING, row.at, error=row.error, host=row.host))
    elif is_direct_served(row) is False:
        leaves = ", ".join(sorted({one.leaf_sha256[:16] for one in row.served}))
        found.append(
            concern(Kind.SERVED_DIFFERS, Severity.WARNING, row.at, host=row.host, leaf=leaves)
        )
    return tuple(found)


def _of_outcome(outcome: str, error: str) -> Kind:
    """What a direct report says: a failure is the CA's, or that machine's own."""
    if outcome == "rolled_back":
        return Kind.ROLLED_BACK
    return Kind.PULLER_FAULT if error.startswith("configuration") else Kind.FAILING


def _of_kept(served: bool | None) -> Kind:
    """What an error says of a generation that is in place: it is never "failed", nor "well"."""
    return Kind.NOT_SERVED if served is False else Kind.NOT_SEEN


def _of_life(status: CertificateStatus, now: int, limits: Thresholds) -> Iterator[Concern]:
    row, issued = status.certificate, status.issued
    if issued is None or issued.not_after is None:
        return
    end, whole = issued.not_after, issued.not_after - (issued.not_before or 0)
    left = (end - now) / whole if whole > 0 else 0.0
    if end <= now:
        yield Concern(Kind.EXPIRED, Severity.CRITICAL, row.id, end, facts={"at": end})
    elif left < limits.life_left:
        soon = left < limits.life_left_critical
        severity = Severity.CRITICAL if soon else Severity.WARNING
        since = int(end - limits.life_left * whole)
        yield Concern(Kind.EXPIRING, severity, row.id, since, facts={"at": end})
    if issued.revoked_at is not None:
        wanted = issued.revoked_reason not in NEEDS_NO_OTHER
        severity = Severity.WARNING if wanted else Severity.INFO
        facts: dict[str, str | int] = {
            "at": issued.revoked_at,
            "reason": issued.revoked_reason or "",
        }
        yield Concern(Kind.REVOKED, severity, row.id, issued.revoked_at, facts=facts)


def _of_issuing(status: CertificateStatus, now: int, limits: Thresholds) -> Iterator[Concern]:
    row, issued = status.certificate, status.issued
    if row.failures and row.last_error is not None:
        often = row.failures >= limits.failures or issued is None
        severity = Severity.WARNING if often else Severity.INFO
        facts: dict[str, str | int] = {
            "count": row.failures,
            "error": row.last_error.what,
            "next": row.paused_until,
        }
        yield Concern(Kind.FAILING, severity, row.id, row.last_error.at, facts=facts)
    elif issued is None and any(one.takes_it for one in status.deliveries):
        yield Concern(Kind.ISSUING, Severity.INFO, row.id, row.created_at)
    due = row.renewal_wanted or issued is None or (row.due_at or now + 1) <= now
    if row.key_origin == "puller" and due and not status.csr_waits:
        hosts = ", ".join(one.host for one in status.deliveries if one.takes_it)
        since = (status.csr.awaited_at if status.csr else None) or row.due_at or row.created_at
        severity = Severity.WARNING if now - since > limits.grace else Severity.INFO
        if hosts:
            yield Concern(Kind.AWAITING_CSR, severity, row.id, since, hosts, {"host": hosts})


def _of_records(status: CertificateStatus, now: int, limits: Thresholds) -> Iterator[Concern]:
    for record in status.persist:
        seen, name = record.seen, record.name
        facts: dict[str, str | int] = {"name": name, "words": seen.words}
        if seen.verdict != "good":
            since = seen.looked_at
            yield Concern(Kind.RECORD_BAD, Severity.WARNING, record.certificate, since, name, facts)
        elif seen.until is not None and seen.until - now < limits.record:
            soon = seen.until - now < limits.record_critical
            severity = Severity.CRITICAL if soon else Severity.WARNING
            since, facts = seen.until - limits.record, {"name": name, "at": seen.until}
            yield Concern(Kind.RECORD_ENDS, severity, record.certificate, since, name, facts)


def _of_recipients(status: CertificateStatus, now: int, limits: Thresholds) -> Iterator[Concern]:
    row, issued = status.certificate, status.issued
    for delivery in status.deliveries:
        if delivery.puller_status == PullerStatus.SUSPENDED:
            facts = {"host": delivery.host, "puller": delivery.puller[:12]}
            since = delivery.last_seen_at or row.created_at
            yield Concern(
                Kind.PULLER_SUSPENDED, Severity.CRITICAL, row.id, since, delivery.host, facts
            )
        elif delivery.puller_status == PullerStatus.ACTIVE:
            yield from _of_machines(row.id, delivery, now)
            if delivery.takes_it:
                yield from _of_delivery(row.id, delivery, issued, now, limits)
            elif delivery.last_receipt is not None:
                since, facts = delivery.last_receipt.at, {"host": delivery.host}
                yield Concern(Kind.NO_TARGET, Severity.INFO, row.id, since, delivery.host, facts)
    if not any(one.puller_status != PullerStatus.REVOKED for one in status.deliveries):
        severity = Severity.INFO if issued is None else Severity.WARNING
        yield Concern(Kind.NO_PULLER, severity, row.id, row.created_at)


def _of_machines(certificate: str, delivery: DeliveryStatus, now: int) -> Iterator[Concern]:
    """A copied machine: it ends by itself once one of them has not asked for a week."""
    pair = two_machines(delivery.machines, now)
    if pair is not None:
        one, other = pair
        facts: dict[str, str | int] = {
            "host": delivery.host,
            "one": one.host,
            "other": other.host,
            "at": other.first_seen,
        }
        since, host = other.first_seen, delivery.host
        yield Concern(Kind.TWO_MACHINES, Severity.WARNING, certificate, since, host, facts)


_NOT_IN_PLACE: Mapping[str, Kind] = {
    "rolled_back": Kind.ROLLED_BACK,
    "refused": Kind.REFUSED,
    "failed": Kind.PULLER_FAULT,
}


def _of_delivery(
    certificate: str,
    delivery: DeliveryStatus,
    issued: GenerationRow | None,
    now: int,
    limits: Thresholds,
) -> Iterator[Concern]:
    """At most one for each puller: the first fact that is behind, for the others follow from it."""
    host = delivery.host

    def concern(kind: Kind, since: int, **facts: str | int) -> Concern:
        told = {"host": host, **facts}
        return Concern(kind, Severity.WARNING, certificate, since, host, told)

    seen, receipt = delivery.last_seen_at, delivery.last_receipt
    newest = 0 if issued is None else issued.generation
    issued_at = 0 if issued is None else issued.issued_at or 0
    late = issued is not None and now - issued_at > limits.grace
    if seen is not None and now - seen > limits.silent:
        yield concern(Kind.PULLER_SILENT, seen, at=seen)
    elif receipt is not None and receipt.generation == newest and receipt.outcome in _NOT_IN_PLACE:
        kind = _NOT_IN_PLACE[receipt.outcome]
        yield concern(kind, receipt.at, error=receipt.error, before=delivery.installed)
    elif receipt is not None and receipt.generation == newest and is_of_installing(receipt.error):
        yield concern(_of_kept(delivery.served_matches), receipt.at, error=receipt.error)
    elif late and delivery.offered == newest and delivery.pulled < newest:
        yield concern(Kind.NOT_PULLED, issued_at, at=issued_at)
    elif late and delivery.pulled == newest and delivery.installed < newest:
        yield concern(Kind.NOT_INSTALLED, delivery.pulled_at or issued_at, at=issued_at)
    elif late and delivery.served_matches is False:
        leaves = ", ".join(sorted({one.leaf_sha256[:16] for one in delivery.served}))
        yield concern(Kind.SERVED_DIFFERS, delivery.served_at or issued_at, leaf=leaves)
