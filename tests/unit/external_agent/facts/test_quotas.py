"""Quotas leave room for what an honest machine does, however many certificates it has."""

from __future__ import annotations

import pytest

from external_agent.facts import quotas
from shared.contract.wire import MAX_CERTIFICATES


@pytest.mark.parametrize("grants", [0, 1, 70, 1000, MAX_CERTIFICATES])
def test_a_receipt_and_a_csr_for_each_certificate_fit(grants: int) -> None:
    assert quotas.allowed(grants) >= max(60, 2 * grants)
    assert quotas.calls(grants) >= quotas.allowed(grants) + quotas.direct_certificates(grants)
    assert quotas.direct_certificates(grants) >= 1000
    assert quotas.event_bytes(grants) >= 2048 * grants


def test_they_grow_with_grants_and_with_nothing_else() -> None:
    for quota in (
        *(quotas.allowed, quotas.calls, quotas.direct_certificates),
        *(quotas.event_bytes, quotas.rehearsals),
    ):
        counts = [quota(grants) for grants in range(100)]
        assert counts == sorted(set(counts))
