"""What pullers read and say: grants, generations, receipts, quotas, and lies."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from external_agent.facts.machines import REMEMBERED
from external_agent.facts.quotas import WINDOW, allowed
from external_agent.records.rows import ErrorNote
from external_agent.store.interface import Store
from external_agent.store.relay import RECEIPTS_KEPT
from shared.contract.errors import PolicyError, PullerRevoked, RequestRefused
from shared.contract.wire import Machine, Receipt, Served
from shared.issuing.renewal import DAY
from tests.agent_world import Puller, enrol
from tests.unit.external_agent.conftest import NOW
from tests.unit.external_agent.issued import issue

NAME = "www.intra.example.com"


@pytest.fixture
def puller(store: Store) -> Puller:
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=NOW)
    return enrol(store, [NAME], now=NOW)


def _receipt(generation: int, **changes: object) -> Receipt:
    receipt = Receipt(NAME, generation, "0" * 64, "installed", "none", (), NOW)
    return replace(receipt, **changes)  # type: ignore[arg-type]


def _send(store: Store, puller: Puller, receipt: Receipt, now: int) -> None:
    refused = store.record_receipts(puller.id, [receipt], now=now)
    for error in refused.values():
        raise error


def _wanted(store: Store) -> int:
    row = store.certificate(NAME)
    assert row is not None
    return row.wanted


def test_nothing_yet(store: Store, puller: Puller) -> None:
    listing = store.listing_for(puller.id, now=NOW)
    assert [offer.generation for offer in listing.offers] == [0]
    assert listing.come_back == 60
    assert store.bundle_for(puller.id, NAME, 0, now=NOW).envelope is None


def test_the_newest_bundle_above(store: Store, puller: Puller) -> None:
    first = issue(store, NAME, now=NOW)
    store.request_renewal(NAME, "test", now=NOW + 1)
    second = issue(store, NAME, now=NOW + 2)
    assert store.bundle_for(puller.id, NAME, 0, now=NOW + 3).newest == second
    assert store.bundle_for(puller.id, NAME, first, now=NOW + 3).envelope is not None
    nothing = store.bundle_for(puller.id, NAME, second, now=NOW + 3)
    assert (nothing.newest, nothing.envelope) == (second, None)
    listing = store.listing_for(puller.id, now=NOW + 3)
    assert listing.offers[0].generation == second
    assert listing.offers[0].not_after == NOW + 2 + 90 * DAY
    assert listing.come_back == DAY


def test_two_pullers_each_get_their_own(store: Store, puller: Puller) -> None:
    other = enrol(store, [NAME], now=NOW)
    stranger = Puller()
    issue(store, NAME, now=NOW)
    mine = store.bundle_for(puller.id, NAME, 0, now=NOW).envelope
    theirs = store.bundle_for(other.id, NAME, 0, now=NOW).envelope
    assert mine is not None
    assert theirs is not None
    assert mine != theirs
    with pytest.raises(PullerRevoked):
        store.bundle_for(stranger.id, NAME, 0, now=NOW)
    with pytest.raises(RequestRefused):
        store.bundle_for(puller.id, "other.example.com", 0, now=NOW)


def test_issued_pulled_installed_served_are_four_facts(store: Store, puller: Puller) -> None:
    generation = issue(store, NAME, now=NOW)

    def facts() -> tuple[int, int, int, bool | None]:
        status = store.status(NOW + 100)[0]
        assert status.issued is not None
        (one,) = status.deliveries
        return one.offered, one.pulled, one.installed, one.served_matches

    assert facts() == (generation, 0, 0, None)
    store.bundle_for(puller.id, NAME, 0, now=NOW + 1)
    assert facts() == (generation, generation, 0, None)
    issued = store.newest_issued(NAME)
    assert issued is not None
    assert issued.leaf_sha256 is not None
    old = Served("f" * 64, NOW + DAY, None)
    _send(store, puller, _receipt(generation, served=(old,)), NOW + 2)
    assert facts() == (generation, generation, generation, False)
    new = Served(issued.leaf_sha256, NOW + 90 * DAY, "10.0.0.1:443")
    _send(store, puller, _receipt(generation, served=(new,)), NOW + 3)
    assert facts() == (generation, generation, generation, True)
    _send(store, puller, _receipt(generation, error="install/not-running"), NOW + 4)
    assert facts() == (generation, generation, generation, False)
    unseen = _receipt(generation, error="install/seen-before", served=(new,))
    _send(store, puller, unseen, NOW + 5)
    assert facts() == (generation, generation, generation, None)


def test_an_after_above_our_newest_proves_a_restore(store: Store, puller: Puller) -> None:
    generation = issue(store, NAME, now=NOW)
    before = _wanted(store)
    seen = generation + 1000
    store.bundle_for(puller.id, NAME, seen, now=NOW + 10)
    assert _wanted(store) == before + 1
    assert issue(store, NAME, now=NOW + 20) == seen + 1
    assert "restore-noticed" in [event.kind for event in store.events()]
    newer = store.bundle_for(puller.id, NAME, seen, now=NOW + 30)
    assert newer.envelope is not None


@pytest.mark.parametrize("lie", [NOW + 3601, NOW + 10**8, 2**53 - 1])
def test_more_than_an_hour_ahead_is_ignored_and_told_once(
    store: Store, puller: Puller, lie: int
) -> None:
    issue(store, NAME, now=NOW)
    before = _wanted(store)
    for _ in range(5):
        store.bundle_for(puller.id, NAME, lie, now=NOW)
        _send(store, puller, _receipt(lie), NOW)
    assert _wanted(store) == before
    assert store.choose_generation(NAME, now=NOW + 1) == NOW + 1
    assert [event.kind for event in store.events()].count("generation-ahead") == 1


def test_a_lie_that_was_told_already_writes_nothing(store: Store, puller: Puller) -> None:
    issue(store, NAME, now=NOW)
    store.bundle_for(puller.id, NAME, 2**53 - 1, now=NOW)
    counter = store.change_counter()
    for _ in range(5):
        store.bundle_for(puller.id, NAME, 2**53 - 1, now=NOW + 1)
    assert store.change_counter() == counter


def test_what_was_believed_while_our_clock_was_ahead_locks_nobody_out(
    store: Store, puller: Puller
) -> None:
    issue(store, NAME, now=NOW)
    ahead = NOW + 365 * DAY
    store.bundle_for(puller.id, NAME, ahead, now=ahead)
    assert issue(store, NAME, now=NOW + 10) == NOW + 10
    store.bundle_for(puller.id, NAME, NOW + 1000, now=NOW + 20)  # a restore is noticed again
    assert issue(store, NAME, now=NOW + 30) == NOW + 1001


@pytest.mark.sqlite  # thousands of transactions, no other SQL
def test_liars_cost_one_generation_in_three_days(store: Store, puller: Puller) -> None:
    """Two extra ones and the regular one stay below five duplicates in seven days."""
    other = enrol(store, [NAME], now=NOW)
    issue(store, NAME, now=NOW)
    before = _wanted(store)
    for second in range(0, 7 * DAY - 1, 7200):
        liar = (puller, other)[second // 7200 % 2]
        store.bundle_for(liar.id, NAME, NOW + second + 3599, now=NOW + second)
        _send(store, liar, _receipt(NOW + second + 3599), NOW + second)
        if second < 3 * DAY - 7200:
            assert _wanted(store) == before + 1
    assert _wanted(store) == before + 3
    assert store.choose_generation(NAME, now=NOW + 7 * DAY) <= NOW + 7 * DAY + 3600


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        ("refused", "bundle/stale-generation"),
        ("failed", "configuration/loose-file-mode"),
        ("removed", "none"),
    ],
)
def test_what_was_not_accepted_is_not_held(
    store: Store, puller: Puller, outcome: str, error: str
) -> None:
    generation = issue(store, NAME, now=NOW)
    before = _wanted(store)
    _send(store, puller, _receipt(generation + 9, outcome=outcome, error=error), NOW)
    assert _wanted(store) == before


def test_a_removed_target_has_nothing_installed(store: Store, puller: Puller) -> None:
    generation = issue(store, NAME, now=NOW)
    _send(store, puller, _receipt(generation), NOW)
    _send(store, puller, _receipt(generation, outcome="removed"), NOW + 1)
    (delivery,) = store.status(NOW + 1)[0].deliveries
    assert (delivery.installed, delivery.has_no_target, delivery.takes_it) == (0, True, False)
    _send(store, puller, _receipt(generation), NOW + 2)
    (delivery,) = store.status(NOW + 2)[0].deliveries
    assert (delivery.installed, delivery.takes_it) == (generation, True)


def test_receipts_go_with_the_grant(store: Store, puller: Puller) -> None:
    """A grant that is given again begins anew; the trail keeps what was told."""
    other = enrol(store, [NAME], now=NOW)
    generation = issue(store, NAME, now=NOW)
    for one in (puller, other):
        _send(store, one, _receipt(generation, outcome="refused", error="bundle"), NOW)
    store.withdraw(puller.id, NAME, now=NOW)
    assert {one.puller for one in store.receipts(NAME)} == {other.id}
    store.grant(puller.id, NAME, now=NOW)
    receipts = {one.puller: one.last_receipt for one in store.status(NOW)[0].deliveries}
    assert receipts[puller.id] is None and receipts[other.id] is not None
    assert [one.kind for one in store.events()].count("receipt") == 2
    store.remove_certificate(NAME, now=NOW)
    assert store.receipts(NAME) == []


def test_one_that_is_not_granted_harms_no_other(store: Store, puller: Puller) -> None:
    generation = issue(store, NAME, now=NOW)
    store.add_certificate("b.example.org", ["b.example.org"], directory_url="https://x/", now=NOW)
    sent = [
        replace(_receipt(1), certificate="x.example.com"),
        _receipt(generation),
        replace(_receipt(1), certificate="b.example.org"),
    ]
    refused = store.record_receipts(puller.id, sent, now=NOW)
    assert {place: one.problem_type for place, one in refused.items()} == {
        0: "not-granted",
        2: "not-granted",
    }
    assert len(store.receipts(NAME)) == 1
    assert store.receipts("b.example.org") == []


def test_a_quota_refuses_the_whole_call_and_grows_with_what_is_granted(
    store: Store, puller: Puller
) -> None:
    def send(count: int) -> None:
        sent = [_receipt(0)] * count
        store.record_receipts(puller.id, sent, now=NOW)

    with pytest.raises(RequestRefused, match="More than 64 receipts in 600 s") as refused:
        send(65)
    assert (refused.value.problem_type, refused.value.retry_after) == ("too-many-receipts", 600)
    assert store.receipts(NAME) == []
    for name in ("b.example.org", "c.example.org"):
        store.add_certificate(name, [name], directory_url="https://x/", now=NOW)
        store.grant(puller.id, name, now=NOW)
    send(65)
    assert len(store.receipts(NAME, limit=100)) == 65


def test_a_puller_is_granted_no_more_than_one_list_can_say(
    store: Store, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [f"{number:03}.{'a' * 60}.example.org" for number in range(100)]
    monkeypatch.setattr("shared.contract.wire.MAX_ANSWER", 10_000)
    store.add_certificate("long", long, directory_url="https://x/", now=NOW)
    store.grant(puller.id, "long", now=NOW)
    store.add_certificate("more", long, directory_url="https://x/", now=NOW)
    with pytest.raises(PolicyError, match="names of all certificates of one puller"):
        store.grant(puller.id, "more", now=NOW)
    with pytest.raises(PolicyError, match="names of all certificates of one puller"):
        store.change_certificate(NAME, names=long, now=NOW)
    assert store.grants(puller.id) == ("long", NAME)
    assert len(store.listing_for(puller.id, now=NOW).encode()) <= 10_000


def test_a_receipt_is_an_event_when_it_says_something_new(store: Store, puller: Puller) -> None:
    other = enrol(store, [NAME], now=NOW)
    generation = issue(store, NAME, now=NOW)

    def told() -> int:
        return [event.kind for event in store.events()].count("receipt")

    old, new = Served("f" * 64, NOW + DAY, None), Served("e" * 64, NOW + DAY, None)
    first = _receipt(generation, served=(old,))
    news = [
        first,
        replace(first, outcome="rolled_back", error="install/served-mismatch"),
        replace(first, outcome="refused", error="bundle/expired"),
        replace(first, outcome="refused", error="bundle/key-mismatch"),
        replace(first, generation=generation + 1),
        replace(first, digest="1" * 64),
        replace(first, served=(new,)),
        replace(first, served=()),
        first,
    ]
    for count, one in enumerate(news, start=1):
        for _ in range(3):
            _send(store, puller, replace(one, at=one.at + count), NOW + count)
        assert told() == count
    _send(store, other, first, NOW)
    assert told() == len(news) + 1
    assert len([one for one in store.receipts(NAME) if one.puller == puller.id]) == 3 * len(news)


@pytest.mark.sqlite  # thousands of transactions, no other SQL
def test_receipts_have_a_quota_for_each_puller(store: Store, puller: Puller) -> None:
    other = enrol(store, [NAME], now=NOW)
    generation = issue(store, NAME, now=NOW)
    for _ in range(allowed(1)):
        _send(store, puller, _receipt(generation), NOW)
    with pytest.raises(RequestRefused) as refused:
        _send(store, puller, _receipt(generation), NOW)
    assert refused.value.problem_type == "too-many-receipts"
    _send(store, other, _receipt(generation), NOW)
    for window in range(1, 3):
        for _ in range(allowed(1)):
            _send(store, puller, _receipt(generation), NOW + window * WINDOW)
    mine = [one for one in store.receipts(NAME, limit=1000) if one.puller == puller.id]
    assert len(mine) == RECEIPTS_KEPT


def test_old_bundles_are_let_go(store: Store, puller: Puller) -> None:
    numbers = []
    for day in range(5):
        store.request_renewal(NAME, "test", now=NOW + day)
        numbers.append(issue(store, NAME, now=NOW + day))
    assert store.bundle_for(puller.id, NAME, 0, now=NOW + 9).newest == numbers[-1]


def test_challenges_are_counted_and_gone_with_the_attempt(store: Store, puller: Puller) -> None:
    held = store.claim_due("w", now=NOW, lease_seconds=60)[0]
    store.put_challenge(held, "t" * 22, "t.k", NAME, now=NOW)
    store.put_challenge(held, "t" * 22, "t.k", NAME, now=NOW)
    assert store.pending_challenges() == {"t" * 22: "t.k"}
    store.record_challenge_hits({"t" * 22: 3, "unknown": 1})
    note = ErrorNote("issuance/unavailable", "gone", NOW)
    store.record_failure(held, note, failures=1, paused_until=NOW + 60, now=NOW)
    assert store.pending_challenges() == {}


def test_reads_beside_writes(store: Store, puller: Puller) -> None:
    """Grants are read with the data: a revoked puller sees nothing, however it is timed."""
    issue(store, NAME, now=NOW)
    seen: list[str] = []
    revoked = threading.Event()

    def ask() -> None:
        while True:
            ended = revoked.is_set()
            try:
                store.bundle_for(puller.id, NAME, 0, now=NOW)
                seen.append("late" if ended else "early")
            except PullerRevoked:
                return

    thread = threading.Thread(target=ask)
    thread.start()
    store.revoke_puller(puller.id, now=NOW)
    revoked.set()
    thread.join(10)
    assert "late" not in seen


def test_who_asks_is_remembered_and_only_a_copy_wakes_the_overview(
    store: Store, puller: Puller
) -> None:
    def asks(letter: str, at: int) -> bool:
        """Tell whether it was worth judging everything anew."""
        before = store.change_counter()
        store.listing_for(puller.id, now=at, machine=Machine(letter * 32, f"web-{letter}"))
        return store.change_counter() != before

    assert [asks(one, NOW + 100 * turn) for turn, one in enumerate("aabbabab")] == [
        *[False] * 4,
        True,
        *[False] * 3,
    ]
    (delivery,) = store.status(NOW + 800)[0].deliveries
    assert {one.host: one.last_seen for one in delivery.machines} == {
        "web-a": NOW + 600,
        "web-b": NOW + 700,
    }
    told = [one for one in store.events() if one.kind == "two-machines"]
    assert [(one.puller, one.details) for one in told] == [
        (puller.id, {"hosts": ["web-a", "web-b"]})
    ]
    for number in range(12):
        asks(f"{number:x}", NOW + 1000 + 100 * number)
    (delivery,) = store.status(NOW + 9000)[0].deliveries
    assert len(delivery.machines) == REMEMBERED
    assert len([one for one in store.events() if one.kind == "two-machines"]) == 1
