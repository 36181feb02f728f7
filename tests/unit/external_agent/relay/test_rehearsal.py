"""Which CA a rehearsal is done with, and how its state travels."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_agent.facts import quotas
from external_agent.records.rows import CertificateRow
from external_agent.relay import rehearsal
from external_agent.relay.problems import slug_of
from external_agent.relay.rehearsal import (
    KEPT_SECONDS,
    Rehearsals,
    RehearsalTools,
    staging_directory,
)
from external_agent.settings.config import Settings, settings_from
from external_agent.store.interface import Store
from shared.acme.directories import KNOWN_CAS
from shared.contract.errors import (
    ConfigurationError,
    IssuanceUnavailable,
    MalformedMessage,
    PolicyError,
    RequestRefused,
)
from shared.contract.rehearsal import OUTCOMES, RehearsalAnswer, State, Step
from shared.contract.signing import SigningKey
from tests.agent_world import enrol
from tests.line import wait_until
from tests.unit.external_agent.conftest import NOW, ManualClock

NAME = "www.intra.example.com"
REAL, STAGING = KNOWN_CAS["letsencrypt"].url, KNOWN_CAS["letsencrypt-staging"].url


def settings(**acme: object) -> Settings:
    values = {
        "state_directory": "/nowhere",
        "relay": {"url": "https://relay.example.com:8443"},
        "acme": acme,
    }
    return settings_from(values, source="here")


def wanted(store: Store, directory: str) -> CertificateRow:
    return store.add_certificate(NAME, [NAME], directory_url=directory, now=NOW)


def test_a_known_ca_has_its_staging(store: Store) -> None:
    assert staging_directory(settings(), wanted(store, REAL)) == STAGING


def test_of_another_ca_it_has_to_be_named(store: Store) -> None:
    row = wanted(store, "https://ca.example.com/directory")
    with pytest.raises(ConfigurationError, match="No staging directory"):
        staging_directory(settings(), row)
    more = {"cas": {"try": {"directory": "https://try.example.com/directory"}}, "staging": "try"}
    assert staging_directory(settings(**more), row) == "https://try.example.com/directory"


def test_what_the_certificate_really_uses_is_no_staging(store: Store) -> None:
    row = wanted(store, REAL)
    with pytest.raises(ConfigurationError, match="really uses"):
        staging_directory(settings(staging="letsencrypt"), row)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=100)
STEPS = st.lists(st.builds(Step, st.just("order"), st.booleans(), TEXT, TEXT), max_size=5)
STATES = st.builds(State, st.sampled_from(sorted(OUTCOMES)), TEXT, STEPS.map(tuple))


@given(STATES, st.none() | st.just(b"{}"))
def test_a_state_arrives_as_it_left(state: State, envelope: bytes | None) -> None:
    answer = RehearsalAnswer(state, envelope)
    assert RehearsalAnswer.decode(answer.encode()) == answer


@given(st.binary(max_size=200))
def test_nonsense_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedMessage):
        RehearsalAnswer.decode(octets)


class Never:
    """What a rehearsal needs, which is never reached here."""

    def __getattr__(self, name: str) -> object:
        raise IssuanceUnavailable("The staging CA is away.")


def test_a_puller_cannot_rehearse_without_end(store: Store) -> None:
    wanted(store, REAL)
    puller = enrol(store, [NAME], now=NOW)
    clock = ManualClock(NOW)
    tools = RehearsalTools(
        store,
        settings,
        Never,  # type: ignore[arg-type]
        Never(),  # type: ignore[arg-type]
        Never(),  # type: ignore[arg-type]
        SigningKey.generate(),
        clock,
    )
    rehearsals = Rehearsals(tools)
    for _ in range(quotas.rehearsals(1)):
        rehearsals.begin(NAME, puller.id)
        wait_until(lambda: rehearsals.state(NAME, puller.id)[0].outcome == "failed")
    with pytest.raises(RequestRefused, match="within an hour") as caught:
        rehearsals.begin(NAME, puller.id)
    assert slug_of(caught.value) == "quota", "no advice to grant what is granted"
    assert caught.value.retry_after == 3600
    clock.now += 3600
    rehearsals.begin(NAME, puller.id)
    wait_until(lambda: rehearsals.state(NAME, puller.id)[0].outcome == "failed")
    state, bundle = rehearsals.state(NAME, puller.id)
    assert bundle is None and "is away" in state.steps[-1].what
    clock.now += KEPT_SECONDS
    with pytest.raises(PolicyError, match="No rehearsal"):
        rehearsals.state(NAME, puller.id)
    with pytest.raises(PolicyError, match="not granted"):
        rehearsals.begin(NAME, "0" * 64)


@pytest.mark.parametrize("change", ["suspended", "revoked", "withdrawn"])
def test_who_lost_the_grant_meanwhile_gets_no_bundle(
    store: Store, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    row = wanted(store, REAL)
    puller = enrol(store, [row.id], now=NOW)
    inside, go_on = threading.Event(), threading.Event()

    def slowly(*args: object) -> bytes:
        inside.set()
        go_on.wait(20)
        return b"a bundle"

    monkeypatch.setattr(rehearsal, "rehearse", slowly)
    tools = RehearsalTools(
        store,
        settings,
        Never,  # type: ignore[arg-type]
        Never(),  # type: ignore[arg-type]
        Never(),  # type: ignore[arg-type]
        SigningKey.generate(),
        ManualClock(NOW),
    )
    rehearsals = Rehearsals(tools)
    rehearsals.begin(NAME, puller.id)
    assert inside.wait(10)
    if change == "suspended":
        store.suspend_puller(puller.id, "a test", now=NOW)
    elif change == "revoked":
        store.revoke_puller(puller.id, now=NOW)
    else:
        store.withdraw(puller.id, NAME, now=NOW)
    go_on.set()
    wait_until(lambda: rehearsals.state(NAME, puller.id)[0].outcome == "failed")
    assert rehearsals.state(NAME, puller.id)[1] is None
