"""The agent's doctor over a store: who sees what of whom, with stand-ins for the world outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from external_agent.doctor import doctor as module
from external_agent.doctor.doctor import Doctor
from external_agent.doctor.public_dns import Answers
from external_agent.settings.config import Settings, settings_from
from external_agent.store.interface import Store
from shared.contract.diagnosis import Finding, Half, NameSeen, Verdict, compare
from tests.agent_world import ChallengeBoard
from tests.unit.external_agent.conftest import NOW

pytestmark = pytest.mark.sqlite  # nothing here asks the database anything of its own
MINE, OTHERS = "mine.example.com", "secret.example.com"
PUBLIC = frozenset({"192.0.2.7"})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_from(
        {"state_directory": str(tmp_path), "relay": {"url": "https://relay.example.com:8443"}},
        source="the test",
    )


class Reached:
    """Every visit succeeds."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def findings(self, name: str, addresses: object) -> Iterator[Finding]:
        yield Finding("reach-ipv4", Verdict.OK, name, "reached")


@pytest.fixture
def doctor(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Every name has the same address, and the rest of the world says nothing."""
    nothing = lambda *_, **__: iter(())  # noqa: E731
    for check in (
        *("file_findings", "listener_findings", "relay_findings", "authority_findings"),
        *("dnssec_findings", "address_findings"),
    ):
        monkeypatch.setattr(module, check, nothing)
    monkeypatch.setattr(Doctor, "_caa", nothing)
    monkeypatch.setattr(module, "Reach", Reached)
    monkeypatch.setattr(module, "addresses_at_servers", lambda *_: [Answers("a server", PUBLIC)])
    monkeypatch.setattr(module, "addresses_at_resolvers", lambda *_: [])
    return Doctor(store, lambda: settings, lambda: None, ChallengeBoard(), lambda: NOW)  # type: ignore[arg-type, return-value]


def add(store: Store, name: str, challenge: str = "http-01") -> None:
    url = "https://ca.example/dir"
    store.add_certificate(name, [name], directory_url=url, challenge=challenge, now=NOW)


def test_one_examination_tells_nothing_of_another_beside_it(
    store: Store, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor of a check that was left behind and ends only now."""
    add(store, MINE)
    add(store, OTHERS)
    begun, go_on = threading.Event(), threading.Event()
    of_operator: list[tuple[NameSeen, ...]] = []
    operator = threading.Thread(target=lambda: of_operator.append(doctor.examine((OTHERS,)).names))

    def slow(_: object, name: str) -> list[Answers]:
        if name == OTHERS:
            begun.set()
            go_on.wait(10)
        else:
            go_on.set()
            operator.join(10)
        return [Answers("a server", PUBLIC)]

    monkeypatch.setattr(module, "addresses_at_servers", slow)
    operator.start()
    assert begun.wait(10)
    of_puller = doctor.examine((MINE,)).names
    assert [one.name for one in of_puller] == [MINE]
    assert [[one.name for one in names] for names in of_operator] == [[OTHERS]]


@pytest.mark.parametrize(
    ("challenges", "verdict"),
    [
        (["http-01"], Verdict.OK),
        (["dns-01"], None),
        (["dns-persist-01"], None),
        (["http-01", "dns-01"], Verdict.OK),
        (["dns-01", "http-01"], Verdict.OK),
    ],
)
def test_by_a_dns_challenge_no_ca_is_led_to_a_name(
    store: Store, doctor: Doctor, challenges: list[str], verdict: Verdict | None
) -> None:
    """The puller's half of it is kept all the same."""
    for number, challenge in enumerate(challenges):
        url = "https://ca.example/dir"
        store.add_certificate(str(number), [MINE], directory_url=url, challenge=challenge, now=NOW)
    ours = doctor.examine()
    theirs = Half("puller", "db", NOW, names=(NameSeen(MINE, tuple(PUBLIC), True),))
    assert [one.name for one in ours.names] == [MINE]
    assert [one.verdict for one in compare(ours, theirs)] == ([] if verdict is None else [verdict])
