"""What pullers tell of certificates that they get by themselves: their own, bounded, shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from external_agent.commands.show import show_status
from external_agent.facts import quotas
from external_agent.facts.serving import is_direct_served
from external_agent.present.status_view import status_view
from external_agent.store.interface import Store
from shared.contract.batches import decode_batch, encode_batch
from shared.contract.errors import MalformedMessage, PullerRevoked, RequestRefused
from shared.contract.wire import DirectReport, Served
from tests.agent_world import Puller, enrol
from tests.unit.external_agent.conftest import NOW

NAME, OTHER = "www.intra.example.com", "app.example.org"
LEAF = "ab" * 32


@pytest.fixture
def puller(store: Store) -> Puller:
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=NOW)
    return enrol(store, [NAME], now=NOW)


def report(certificate: str = OTHER, **changes: object) -> DirectReport:
    made = DirectReport(
        certificate=certificate,
        names=(OTHER,),
        generation=NOW,
        not_after=NOW + 90 * 86400,
        leaf_sha256=LEAF,
        next_renewal=NOW + 60 * 86400,
        outcome="installed",
        error="none",
        served=(Served(LEAF, NOW + 90 * 86400, None),),
        at=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def send(store: Store, puller: Puller, sent: DirectReport, now: int = NOW) -> None:
    refused = store.record_direct(puller.id, [sent], now=now)
    for error in refused.values():
        raise error


def through_the_wire(*sent: DirectReport) -> tuple[DirectReport | MalformedMessage, ...]:
    body = encode_batch("reports", [one.encode().decode() for one in sent])
    return decode_batch(body, "reports", DirectReport.read)


def kinds(store: Store) -> list[str]:
    return [one.kind for one in store.events() if one.kind == "direct-report"]


def test_kept_and_shown(store: Store, puller: Puller, capsys: pytest.CaptureFixture[str]) -> None:
    send(store, puller, report())
    [row] = store.direct_certificates()
    assert (row.certificate, row.puller, is_direct_served(row)) == (OTHER, puller.id, True)
    view = status_view(store.status(NOW), NOW, store.direct_certificates())
    [shown] = view["direct"]  # type: ignore[misc]
    assert (shown["origin"], shown["state"]) == ("direct", "served")
    show_status(view)
    said = capsys.readouterr().out
    assert f"{OTHER}: served" in said
    assert "its puller asks the CA itself" in said


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"served": ()}, "installed"),
        ({"error": "install/cannot-be-seen"}, "installed"),
        ({"error": "install/not-running", "served": ()}, "not served"),
        ({"served": (Served("cd" * 32, NOW, None),)}, "not served"),
        ({"outcome": "failed", "error": "issuance/rejected"}, "failing"),
        ({"outcome": "rolled_back", "error": "install/reload-failed"}, "failing"),
        ({"not_after": NOW - 1}, "expired"),
    ],
)
def test_states(store: Store, puller: Puller, changes: dict[str, object], state: str) -> None:
    send(store, puller, report(**changes))
    [shown] = status_view([], NOW, store.direct_certificates())["direct"]  # type: ignore[misc]
    assert shown["state"] == state


def test_a_failed_order_leaves_what_was_served(store: Store, puller: Puller) -> None:
    send(store, puller, report())
    send(store, puller, report(outcome="failed", error="issuance/unavailable", served=()))
    [row] = store.direct_certificates()
    assert (row.outcome, is_direct_served(row)) == ("failed", True)


def test_the_trail_tells_news_once(store: Store, puller: Puller) -> None:
    for at in range(3):
        send(store, puller, report(at=NOW + at), NOW + at)
    assert len(kinds(store)) == 1
    send(store, puller, report(generation=NOW + 5, leaf_sha256="cd" * 32))
    send(store, puller, report(outcome="removed", served=()))
    send(store, puller, report(outcome="removed", served=()))
    assert len(kinds(store)) == 3
    assert store.direct_certificates() == []
    assert store.verify_events() is None


def test_a_puller_speaks_for_itself_only(store: Store, puller: Puller) -> None:
    second = enrol(store, [NAME], now=NOW)
    send(store, puller, report())
    send(store, second, report(leaf_sha256="cd" * 32))
    send(store, second, report(NAME))
    send(store, second, report(outcome="removed"))
    assert [(one.certificate, one.puller) for one in store.direct_certificates()] == [
        (OTHER, puller.id),
        (NAME, second.id),
    ]
    row = store.certificate(NAME)
    assert row is not None
    assert row.highest_seen == 0, "nothing that the agent issues is touched"


def test_how_many_is_for_each_puller_and_grows_with_its_grants(
    store: Store, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quotas.direct_certificates(0) >= 1000
    monkeypatch.setattr(quotas, "DIRECT_AT_LEAST", 3)
    second = enrol(store, [NAME], now=NOW)
    for number in range(3 + 1):
        send(store, puller, report(f"host{number}.example.org"))
    with pytest.raises(RequestRefused, match="4 certificates of its own") as refused:
        send(store, puller, report())
    assert refused.value.problem_type == "too-many-reports"
    send(store, puller, report("host1.example.org"))
    send(store, second, report())


def test_how_often_is_counted_by_our_clock(store: Store, puller: Puller) -> None:
    for _ in range(quotas.allowed(1)):
        send(store, puller, report())
    with pytest.raises(RequestRefused, match="More than 64 reports in 600 s") as late:
        send(store, puller, report(), NOW + 599)
    assert late.value.retry_after == 1
    send(store, puller, report(), NOW + 600)


def test_a_thousand_reports_come_at_once(store: Store, puller: Puller) -> None:
    for part in range(10):
        many = [report(f"host{part}-{number}.example.org") for number in range(100)]
        assert store.record_direct(puller.id, many, now=NOW) == {}
    assert len(store.direct_certificates()) == 1000


def test_revoked_suspended(store: Store, puller: Puller) -> None:
    store.suspend_puller(puller.id, "a test", now=NOW)
    with pytest.raises(RequestRefused):
        send(store, puller, report())
    store.revoke_puller(puller.id, now=NOW)
    with pytest.raises(PullerRevoked):
        send(store, puller, report())


@pytest.mark.parametrize(
    "changes",
    [
        {"certificate": "../x"},
        {"names": ()},
        {"names": ("B.example.org", "a.example.org")},
        {"names": ("printer",)},
        {"names": ("192.0.2.1",)},
        {"error": "<script>"},
        {"error": "a" * 65},
        {"outcome": "done"},
        {"leaf_sha256": "ab"},
        {"generation": -1},
    ],
)
def test_hostile_members(changes: dict[str, object]) -> None:
    (read,) = through_the_wire(report(**changes))
    assert isinstance(read, MalformedMessage)


def test_round_trip() -> None:
    for one in (report(), report(leaf_sha256=None, generation=0, not_after=0, served=())):
        assert through_the_wire(one) == (one,)
