"""``external-agent renew``, and what ``status`` and the metrics say of renewal windows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from external_agent.present.metrics.metrics import Metrics
from external_agent.records.rows import ErrorNote
from external_agent.store.open import SqlStore, open_store
from shared.acme.ports import RenewalWindow
from shared.issuing.renewal import HOUR, Reason, after_failed_look, after_look, renewal_due
from tests.cli.test_external_agent import Terminal, enrol
from tests.unit.external_agent.issued import claim, issue

pytestmark = pytest.mark.lab

NAMES = ("app.example.org", "wiki.example.net", "www.intra.example.com")


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    made = Terminal(tmp_path, capsys)
    assert made.init().code == 0
    for name in NAMES:
        added = made("add", name)
        assert added.code == 0, added.err
        enrol(made, added.out.strip())
    return made


@contextmanager
def store_of(agent: Terminal) -> Iterator[SqlStore]:
    store = open_store(f"sqlite:///{agent.state / 'relay.db'}")
    try:
        yield store
    finally:
        store.close()


def issue_all(agent: Terminal) -> None:
    with store_of(agent) as store:
        for name in NAMES:
            issue(store, name, now=int(time.time()))


def wanted(agent: Terminal) -> list[str]:
    with store_of(agent) as store:
        return [one.id for one in store.certificates() if one.renewal_wanted]


def suggest(agent: Terminal, name: str, start: float, end: float) -> None:
    """As if the CA had been asked."""
    now = int(time.time())
    window = RenewalWindow(start, end, 6.0 * HOUR, "https://ca.example.net/why")
    with store_of(agent) as store:
        looks = store.claim_looks(now=now)
        look = next(one for one in looks if one.certificate == name)
        advice = after_look(look.advice, window, now, 0.5)
        due = renewal_due(look.life, advice, certificate=name, generation=look.generation)
        store.record_look(look, advice, due, now=now)


def test_one_by_name(agent: Terminal) -> None:
    issue_all(agent)
    said = agent("renew", NAMES[1])
    assert (said.code, said.out) == (0, "")
    assert said.err == f"{NAMES[1]}: a new generation is wanted.\n"
    assert wanted(agent) == [NAMES[1]]
    assert agent("renew", NAMES[0], NAMES[2], "--now").code == 0
    assert wanted(agent) == list(NAMES)


def test_all_at_once_for_a_wave_of_revocations(agent: Terminal) -> None:
    issue_all(agent)
    said = agent("renew", "--all", "--now")
    assert said.code == 0
    assert wanted(agent) == list(NAMES)
    assert [line.split(":")[0] for line in said.err.splitlines()[:3]] == list(NAMES)
    assert "3 certificates" in said.err
    with store_of(agent) as store:
        kinds = [event.kind for event in store.events()]
    assert kinds.count("renewal-requested") == 3


def test_all_needs_to_be_meant(agent: Terminal) -> None:
    issue_all(agent)
    said = agent("renew", "--all")
    assert said.code == 4
    assert "order 3 certificates at once" in said.err
    assert "renew --all --now" in said.err
    assert wanted(agent) == []


@pytest.mark.parametrize(
    "arguments", [(), ("--now",), ("--all", NAMES[0]), ("--all", "--now", "x")]
)
def test_which_ones_is_said_once(agent: Terminal, arguments: tuple[str, ...]) -> None:
    issue_all(agent)
    said = agent("renew", *arguments)
    assert said.code == 3
    assert "--all" in said.err
    assert wanted(agent) == []


def test_pauses_end_but_for_those_that_the_ca_asked_for(agent: Terminal) -> None:
    now = int(time.time())
    with store_of(agent) as store:
        for name, asked in ((NAMES[0], None), (NAMES[1], now + 7200)):
            store.record_failure(
                claim(store, name, now=now),
                ErrorNote("issuance/unavailable", "The CA is away.", now),
                failures=3,
                paused_until=now + 9000,
                now=now,
                asked_until=asked,
            )
    assert agent("renew", "--all", "--now").code == 0
    with store_of(agent) as store:
        paused = [one.paused_until for one in store.certificates()]
    assert paused == [0, now + 7200, 0]


def test_status_shows_the_window_and_why(agent: Terminal) -> None:
    issue_all(agent)
    start = int(time.time()) + 30 * 86400
    suggest(agent, NAMES[0], start, start + 7200)
    text = agent("status", NAMES[0]).out
    assert "a moment chosen inside the window that the CA suggests" in text
    assert "CA suggests" in text
    assert "explained at https://ca.example.net/why" in text
    assert "asked again in" in text
    (one,) = json.loads(agent("status", NAMES[0], "--json").out)["certificates"]
    renewal = one["next_renewal"]
    assert renewal["at"] == renewal["window"]["chosen"] == start + 3600
    plain = agent("status", NAMES[1]).out
    assert "its share of the lifetime will be used up" in plain
    assert "explained at" not in plain


def test_status_says_when_the_window_is_past(agent: Terminal) -> None:
    issue_all(agent)
    suggest(agent, NAMES[0], 1_000_000_000, 1_000_003_600)
    assert "is past: renew now" in agent("status", NAMES[0]).out


def test_a_failed_look_is_shown_in_words(agent: Terminal) -> None:
    from shared.contract.errors import IssuanceUnavailable

    issue_all(agent)
    now = int(time.time())
    with store_of(agent) as store:
        look = store.claim_looks(now=now)[0]
        advice = after_failed_look(look.advice, IssuanceUnavailable("The CA is away."), now, 0.5)
        due = renewal_due(look.life, advice, certificate=look.certificate, generation=1)
        store.record_look(look, advice, due, now=now)
    assert "The CA is away." in agent("status", look.certificate).out


def test_numbers_for_prometheus(agent: Terminal) -> None:
    issue_all(agent)
    suggest(agent, NAMES[0], 1_000_000_000, 1_000_003_600)
    with store_of(agent) as store:
        now = int(time.time())
        text = Metrics().render(store.status(now), store.pullers(), now).decode()
    labels = f'certificate="{NAMES[0]}"'
    assert (
        f'relay_certificate_renewal_due_timestamp_seconds{{{labels},reason="window-past"}}' in text
    )
    assert f'relay_renewal_window_timestamp_seconds{{{labels},edge="start"}} 1e+09' in text
    assert f"relay_renewal_look_failures{{{labels}}} 0.0" in text
    assert f"relay_renewal_next_look_timestamp_seconds{{{labels}}}" in text
    reasons = {
        line.split('reason="')[1].split('"')[0] for line in text.splitlines() if 'reason="' in line
    }
    assert reasons <= {str(reason) for reason in Reason}
