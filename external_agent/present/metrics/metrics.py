"""Numbers for Prometheus: what this process did since its start, and how far each certificate is.

Every label has a bounded set of values: ids that an operator made, hosts that an operator named,
and words from fixed lists. No text of a CA or a puller becomes a label.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric

from external_agent.facts.issues import Concern
from external_agent.present.metrics.gauges import Gauges
from external_agent.present.metrics.metric_families import (
    certificate_families,
    concern_family,
    instant_families,
    puller_families,
)
from external_agent.records.rows import CertificateStatus, PullerRow
from external_agent.release import release
from shared.contract.errors import (
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    RelayError,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One registry for one agent. What is observed may come from any thread."""

    def __init__(self, gauges: Gauges | None = None) -> None:
        self.gauges = gauges or Gauges()
        self._registry = CollectorRegistry()
        self._facts: list[Metric] = []
        self._relay = Counter(
            "relay_requests",
            "Requests to the relay API by status and by whether the answer was signed.",
            ("status", "signed"),
            registry=self._registry,
        )
        self._access = Counter(
            "relay_operator_access",
            "Requests to the operator API with an access token, by how the look at it ended.",
            ("outcome",),
            registry=self._registry,
        )
        self._orders = Counter(
            "relay_orders",
            "Runs over an order since the start, by how they ended and the error's type.",
            ("outcome", "error"),
            registry=self._registry,
        )
        self._calls = Histogram(
            "relay_acme_request_duration_seconds",
            "How long the CA took for each call of RFC 8555, by how it ended.",
            ("ca", "call", "outcome"),
            buckets=_CALL_SECONDS,
            registry=self._registry,
        )
        self._alerts = Counter(
            "relay_alerts",
            "Messages to receivers of alerts, by whether they were taken.",
            ("receiver", "outcome"),
            registry=self._registry,
        )
        build = Gauge(
            "relay_build_info",
            "Always 1; the labels say which release runs on which Python.",
            ("version", "python"),
            registry=self._registry,
        )
        build.labels(release(), platform.python_version()).set(1)
        self._registry.register(self)

    def observe_relay(self, status: int, signed: bool) -> None:
        """Count an answer of the relay API."""
        self._relay.labels(str(status), "yes" if signed else "no").inc()

    def observe_access(self, outcome: str) -> None:
        """Count an access token: ``good``, ``unknown``, ``ended``, ``limited``."""
        self._access.labels(outcome).inc()

    def observe_order(self, outcome: str, error: RelayError | None) -> None:
        """Count a run over an order; of an error its type counts (``shared.contract.errors``)."""
        self._orders.labels(outcome, "" if error is None else error.type).inc()

    def observe_alert(self, receiver: str, arrived: bool) -> None:
        """Count a message; ``receiver`` is a name that an operator gave."""
        self._alerts.labels(receiver, "sent" if arrived else "failed").inc()

    def observe_call(self, ca: str, call: str, seconds: float, error: RelayError | None) -> None:
        """Count a call to a CA (``shared.acme.client.Observe``)."""
        self._calls.labels(ca, call, _outcome(error)).observe(seconds)

    def render(
        self,
        statuses: Iterable[CertificateStatus],
        pullers: Iterable[PullerRow],
        now: int,
        concerns: Iterable[Concern] = (),
    ) -> bytes:
        """Return the exposition text for the moment ``now`` (unix seconds)."""
        found = tuple(statuses)
        self._facts = [
            *instant_families(self.gauges, found, now),
            *certificate_families(found, now),
            *puller_families(pullers),
            concern_family(concerns),
        ]
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry (prometheus_client's Collector protocol)."""
        return self._facts


def _outcome(error: RelayError | None) -> str:
    match error:
        case None:
            return "ok"
        case IssuanceRateLimited():
            return "rate-limited"
        case IssuanceRejected():
            return "rejected"
        case IssuanceUnavailable():
            return "unavailable"
    return "failed"
