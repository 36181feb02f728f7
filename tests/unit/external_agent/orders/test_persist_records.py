"""Records of dns-persist-01 that are watched: once a day, kept, told of, counted down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from external_agent.commands.show import show_status
from external_agent.facts.persist import DAY, HOUR, Seen, days_warned_of, digest, look_is_due
from external_agent.orders.persist_watch import PersistWatch, Watches
from external_agent.present.status_view import status_view
from external_agent.store.interface import Store
from shared.acme.authoritative import NameServer, ServerTexts, Texts
from shared.acme.dns_persist import Offer
from shared.contract.errors import IssuanceUnavailable
from tests.unit.external_agent.conftest import NOW, ManualClock

NAME = "www.intra.example.com"
ACCOUNT = "https://ca.example.net/acct/1"
OFFER = Offer(ACCOUNT, "x" * 43, ("ca.example.net",), "https://ca.example.net/h/", (ACCOUNT,))
GOOD = f"ca.example.net; accounturi={ACCOUNT}"
SEEN = Seen("good", "the record is good", None, NOW)


class Dns:
    """What stands at the one server; an error while it is None."""

    def __init__(self, text: str | None = GOOD) -> None:
        self.text = text
        self.asked = 0

    def texts(self, name: str) -> Texts:
        self.asked += 1
        if self.text is None:
            raise IssuanceUnavailable("the DNS does not answer")
        records = ((self.text.encode(),),) if self.text else ()
        return Texts(name, "z", (ServerTexts(NameServer("ns1", "192.0.2.1"), records),))


def add(store: Store, *names: str, challenge: str = "dns-persist-01") -> None:
    store.add_certificate(
        NAME,
        names or [NAME],
        directory_url="https://ca.example.net/dir",
        now=NOW,
        challenge=challenge,
    )


def kinds(store: Store) -> list[str]:
    return [one.kind for one in store.events() if one.kind.startswith("persist")]


# --- decisions ---


def test_once_a_day_and_once_an_hour_when_nothing_was_seen() -> None:
    assert not look_is_due(SEEN, NOW + DAY - 1)
    assert look_is_due(SEEN, NOW + DAY)
    assert look_is_due(SEEN, NOW - HOUR), "the clock was set back"
    assert look_is_due(replace(SEEN, verdict="unknown"), NOW + HOUR)


@pytest.mark.parametrize(
    ("left", "days"),
    [(None, None), (31 * DAY, None), (30 * DAY, 30), (8 * DAY, 14), (DAY, 1), (-5, 1)],
)
def test_nearness(left: int | None, days: int | None) -> None:
    assert days_warned_of(None if left is None else NOW + left, NOW) == days


def test_each_step_is_warned_of_once() -> None:
    until, before, told = NOW + 40 * DAY, None, []
    for day in range(40):
        before, news = digest(before, replace(SEEN, until=until, looked_at=NOW + day * DAY))
        told += [one.details["days_left"] for one in news]
    assert told == [30, 14, 7, 3, 1]
    longer = replace(SEEN, until=until + 10 * DAY, looked_at=NOW + 39 * DAY)
    assert [one.kind for one in digest(before, longer)[1]] == ["persist-record-ends"]


def test_a_look_that_comes_to_nothing_changes_nothing() -> None:
    unknown = Seen("unknown", "no answer", None, NOW + DAY)
    kept, news = digest(SEEN, unknown)
    assert (kept.verdict, news) == ("good", [])
    assert not look_is_due(kept, NOW + DAY + HOUR - 1)
    assert look_is_due(kept, NOW + DAY + HOUR)


# --- store and watch ---


def test_kept_and_told_of(store: Store, clock: ManualClock) -> None:
    add(store, NAME, f"*.{NAME}")
    store.record_persist_look(NAME, NAME, OFFER, SEEN)
    (row,) = store.persist_records()
    assert (row.offer, row.wildcard, row.seen) == (OFFER, True, SEEN)
    dns = Dns("")
    watch = Watches(PersistWatch(store, lambda: dns, clock=clock))
    watch.look()
    assert dns.asked == 0
    for text in ("", None, GOOD, f"{GOOD}; policy=wildcard"):
        dns.text = text
        clock.now += DAY
        watch.look()
    assert kinds(store) == ["persist-record-bad", "persist-record-good"]
    bad = next(one for one in store.events() if one.kind == "persist-record-bad")
    assert bad.certificate == NAME
    assert bad.details["name"] == NAME
    assert bad.details["verdict"] == "missing"


def test_only_what_is_wanted_is_looked_at(store: Store) -> None:
    add(store)
    store.record_persist_look(NAME, "app.example.org", OFFER, SEEN)
    store.record_persist_look("unknown", NAME, OFFER, SEEN)
    assert store.persist_records() == []
    store.record_persist_look(NAME, NAME, OFFER, SEEN)
    assert len(store.persist_records()) == 1
    store.change_certificate(NAME, now=NOW, challenge="dns-01")
    assert store.persist_records() == []
    store.change_certificate(NAME, now=NOW, challenge="dns-persist-01")
    store.remove_certificate(NAME, now=NOW)
    assert store.persist_records() == []


def test_one_name_a_turn(store: Store, clock: ManualClock) -> None:
    add(store, NAME, "app.example.org")
    for age, name in enumerate((NAME, "app.example.org")):
        store.record_persist_look(NAME, name, OFFER, replace(SEEN, looked_at=NOW - age))
    clock.now += DAY
    dns = Dns()
    watch = PersistWatch(store, lambda: dns, clock=clock)
    for asked in (1, 2, 2):
        assert watch.look() == 0
        assert dns.asked == asked


def test_status_counts_down(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add(store)
    store.record_persist_look(NAME, NAME, OFFER, replace(SEEN, until=NOW + 9 * DAY))
    show_status(status_view(store.status(NOW), NOW))
    assert f"{NAME}: good; it ends 2027-01-24 08:00:00 UTC, in 9 d" in capsys.readouterr().out
    assert kinds(store) == ["persist-record-ends"]
    bad = Seen("missing", "there is no TXT record", None, NOW)
    store.record_persist_look(NAME, NAME, OFFER, bad)
    show_status(status_view(store.status(NOW), NOW))
    shown = capsys.readouterr().out
    assert "NO: there is no TXT record" in shown
    lines = [line.split(maxsplit=1) for line in shown.splitlines()]
    at = next(place for place, line in enumerate(lines) if line[0] in ("warning", "critical"))
    assert NAME in lines[at][1]
    assert lines[at + 1][:1] == ["to"], "and what to do about it"
