"""Turns what the store knows, and what lies in memory, into families of metrics; no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from external_agent.facts.issues import Concern, Kind, Severity
from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.present.metrics.gauges import Gauges
from external_agent.records.model import PullerStatus
from external_agent.records.rows import CertificateStatus, DeliveryStatus, PullerRow
from shared.issuing.renewal import Reason


def instant_families(
    gauges: Gauges, statuses: Sequence[CertificateStatus], now: int
) -> Iterable[Metric]:
    """What the agent is busy with now."""
    requests = CounterMetricFamily(
        "relay_challenge_requests",
        "Requests that the challenge listener has answered since the start, by whether the token "
        "was pending.",
        labels=("token",),
    )
    known = gauges.challenges_known()
    requests.add_metric(["known"], known)
    requests.add_metric(["unknown"], max(0, gauges.challenges_answered() - known))
    yield requests
    yield GaugeMetricFamily("relay_parked_polls", "Long polls held now.", gauges.parked())
    yield GaugeMetricFamily("relay_orders_running", "Orders worked on now.", gauges.running())
    yield GaugeMetricFamily(
        "relay_orders_waiting",
        "Certificates that are due and that nothing keeps from being ordered.",
        sum(_is_waiting(one, now) for one in statuses),
    )


def certificate_families(statuses: Sequence[CertificateStatus], now: int) -> Iterable[Metric]:
    """How far each certificate is, when it is renewed, and what its CA suggests (RFC 9773)."""
    begin = _gauge("relay_certificate_not_before_timestamp_seconds", "Begin of the newest leaf.")
    end = _gauge("relay_certificate_not_after_timestamp_seconds", "End of the newest leaf.")
    unserved = _gauge(
        "relay_certificate_unserved_seconds",
        "Since when the newest leaf is issued and not seen served everywhere; 0 when it is.",
    )
    failures = _gauge("relay_certificate_failures", "Attempts failed since the last success.")
    generation = _gauge("relay_certificate_generation", "By stage.", "puller", "stage")
    served = _gauge(
        "relay_certificate_served",
        "Whether the newest leaf is served everywhere, 1 or 0; absent while that is not known.",
        "puller",
    )
    for status in statuses:
        name = status.certificate.id
        failures.add_metric([name], status.certificate.failures)
        if status.issued is not None:
            begin.add_metric([name], status.issued.not_before or 0)
            end.add_metric([name], status.issued.not_after or 0)
            unserved.add_metric([name], unserved_seconds(status, now))
            generation.add_metric([name, "", "issued"], status.issued.generation)
        for one in status.deliveries:
            for stage in ("offered", "pulled", "installed"):
                generation.add_metric([name, one.puller, stage], getattr(one, stage))
            if one.served_matches is not None:
                served.add_metric([name, one.puller], one.served_matches)
    yield from (begin, end, unserved, failures, generation, served, *_renewals(statuses))


def unserved_seconds(status: CertificateStatus, now: int) -> int:
    """Return for how long the newest leaf has been issued without being served everywhere."""
    issued = status.issued
    if issued is None or issued.issued_at is None or issued.certificate == RELAY_CERTIFICATE:
        return 0
    takers = [one for one in status.deliveries if one.takes_it]
    given_up = any(one.has_no_target for one in status.deliveries)
    if (takers or given_up) and all(map(_serves_newest, takers)):
        return 0
    return max(0, now - issued.issued_at)


def puller_families(pullers: Iterable[PullerRow]) -> Iterable[Metric]:
    """Who is enrolled, and when each was heard last."""
    info = GaugeMetricFamily(
        "relay_puller_info",
        "Always 1; the labels say which machine it is.",
        labels=("puller", "host", "status"),
    )
    seen = GaugeMetricFamily(
        "relay_puller_last_seen_timestamp_seconds",
        "When the puller asked last.",
        labels=("puller",),
    )
    for row in pullers:
        info.add_metric([row.id, row.host, str(row.status)], 1)
        if row.status != PullerStatus.REVOKED:
            seen.add_metric([row.id], row.last_seen_at or row.enrolled_at)
    yield from (info, seen)


def concern_family(concerns: Iterable[Concern]) -> Metric:
    """How many certificates need somebody; every kind is there, so that a rule sees it end."""
    family = GaugeMetricFamily(
        "relay_concerns",
        "What needs somebody now, by kind and severity, as status and the dashboard say it.",
        labels=("kind", "severity"),
    )
    found = Counter((one.kind, one.severity) for one in concerns)
    for kind in Kind:
        for severity in (Severity.INFO, Severity.WARNING, Severity.CRITICAL):
            family.add_metric([str(kind), severity.name.lower()], found[kind, severity])
    return family


def _serves_newest(one: DeliveryStatus) -> bool:
    return one.served_matches is True


def _is_waiting(status: CertificateStatus, now: int) -> bool:
    row = status.certificate
    due = status.issued is None or row.renewal_wanted or (row.due_at or now + 1) <= now
    return due and not status.waits_for and row.paused_until <= now


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=("certificate", *labels))


def _renewals(statuses: Iterable[CertificateStatus]) -> Iterable[Metric]:
    due = _gauge(
        "relay_certificate_renewal_due_timestamp_seconds",
        "When the newest generation is renewed.",
        "reason",
    )
    window = _gauge(
        "relay_renewal_window_timestamp_seconds", "The window that the CA suggests.", "edge"
    )
    next_look = _gauge(
        "relay_renewal_next_look_timestamp_seconds", "When the CA is asked next about renewal."
    )
    failures = _gauge(
        "relay_renewal_look_failures", "Times in a row that the CA was asked in vain."
    )
    for status in statuses:
        name, advice = status.certificate.id, status.advice
        if status.certificate.due_at is not None:
            reason = status.certificate.due_reason or Reason.LIFETIME
            due.add_metric([name, str(reason)], status.certificate.due_at)
        if advice is None:
            continue
        next_look.add_metric([name], advice.next_look)
        failures.add_metric([name], advice.failures)
        for edge, at in (("start", advice.start), ("end", advice.end)):
            if at is not None:
                window.add_metric([name, edge], at)
    return (due, window, next_look, failures)
