"""Numbers for Prometheus: what the listeners did, and how far each certificate is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from external_agent.store.rows import CertificateStatus
from shared.renewal import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry for one agent.

    Args:
        challenge_requests: how many requests the challenge listener has answered.
        parked: how many polls are parked.
    """

    def __init__(self, challenge_requests: Callable[[], int], parked: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._challenge_requests = challenge_requests
        self._parked = parked
        self._relay = Counter(
            "relay_requests",
            "Requests to the relay API by status and by whether the answer was signed.",
            ("status", "signed"),
            registry=self._registry,
        )
        self._statuses: tuple[CertificateStatus, ...] = ()
        self._registry.register(self)

    def observe_relay(self, status: int, signed: bool) -> None:
        self._relay.labels(str(status), "yes" if signed else "no").inc()

    def render(self, statuses: Iterable[CertificateStatus]) -> bytes:
        """Return the exposition text for the moment."""
        self._statuses = tuple(statuses)
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry (prometheus_client's Collector protocol)."""
        yield GaugeMetricFamily(
            "relay_challenge_requests_answered",
            "Requests that the challenge listener has answered since the start.",
            self._challenge_requests(),
        )
        yield GaugeMetricFamily("relay_parked_polls", "Long polls held now.", self._parked())
        expiry = GaugeMetricFamily(
            "relay_certificate_not_after_seconds",
            "End of the newest generation, unix seconds.",
            labels=("certificate",),
        )
        generation = GaugeMetricFamily(
            "relay_certificate_generation", "By stage.", labels=("certificate", "puller", "stage")
        )
        failures = GaugeMetricFamily(
            "relay_certificate_failures",
            "Attempts failed since the last success.",
            labels=("certificate",),
        )
        for status in self._statuses:
            self._add(status, expiry, generation, failures)
        yield from (expiry, generation, failures, *_renewals(self._statuses))

    @staticmethod
    def _add(
        status: CertificateStatus,
        expiry: GaugeMetricFamily,
        generation: GaugeMetricFamily,
        failures: GaugeMetricFamily,
    ) -> None:
        name = status.certificate.id
        failures.add_metric([name], status.certificate.failures)
        if status.issued is not None:
            expiry.add_metric([name], status.issued.not_after or 0)
            generation.add_metric([name, "", "issued"], status.issued.generation)
        for one in status.deliveries:
            for stage in ("offered", "pulled", "installed"):
                generation.add_metric([name, one.puller, stage], getattr(one, stage))


def _renewals(statuses: Iterable[CertificateStatus]) -> Iterable[Metric]:
    """When each certificate is renewed, why then, and what its CA suggests (RFC 9773)."""
    due = GaugeMetricFamily(
        "relay_certificate_renewal_due_seconds",
        "When the newest generation is renewed, unix seconds.",
        labels=("certificate", "reason"),
    )
    window = GaugeMetricFamily(
        "relay_renewal_window_seconds",
        "The window that the CA suggests, unix seconds.",
        labels=("certificate", "edge"),
    )
    next_look = GaugeMetricFamily(
        "relay_renewal_next_look_seconds",
        "When the CA is asked next, unix seconds.",
        labels=("certificate",),
    )
    failures = GaugeMetricFamily(
        "relay_renewal_look_failures",
        "Times in a row that the CA was asked in vain.",
        labels=("certificate",),
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
