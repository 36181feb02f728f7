"""What the doctor says of our own doing: names that get published, room in the limits."""

from __future__ import annotations

import dataclasses

from external_agent.doctor.authority import disclosure_findings, limit_findings
from external_agent.store.interface import Store
from shared.contract.diagnosis import Verdict
from tests.agent_world import enrol
from tests.unit.external_agent.conftest import NOW
from tests.unit.external_agent.issued import issue

NAME = "www.intra.example.com"


def test_before_the_first_order_it_tells_of_ct_and_of_the_wildcard(store: Store) -> None:
    row = store.add_certificate(NAME, [NAME], directory_url="https://ca.example/dir", now=NOW)
    (found,) = disclosure_findings(row, ever_issued=False)
    assert found.verdict is Verdict.NOTE and "CT logs" in found.what and "dns-01" in found.do
    assert list(disclosure_findings(row, ever_issued=True)) == []


def test_little_room_in_the_limits_is_a_warning(store: Store) -> None:
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example/dir", now=NOW)
    enrol(store, [NAME], now=NOW)
    for number in range(4):
        at = NOW + 3600 * number
        store.request_renewal(NAME, "a test", now=at)
        issue(store, NAME, now=at)
    (row,) = store.certificates()
    (found,) = limit_findings(store, row, NOW + 86400)
    assert found.verdict is Verdict.WARNING and "4 certificates" in found.what
    (found,) = limit_findings(store, row, NOW + 9 * 86400)
    assert found.verdict is Verdict.OK


def test_failures_in_a_row_use_up_the_limits(store: Store) -> None:
    row = store.add_certificate(NAME, [NAME], directory_url="https://ca.example/dir", now=NOW)
    for failures, verdict in ((3, Verdict.OK), (4, Verdict.WARNING), (7, Verdict.WARNING)):
        (found,) = limit_findings(store, dataclasses.replace(row, failures=failures), NOW)
        assert found.verdict is verdict and f"{failures} attempts" in found.what
