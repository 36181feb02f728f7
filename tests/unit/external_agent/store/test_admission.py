"""Who may call, and how often: decided by our clock, whatever the puller says of its own."""

from __future__ import annotations

import pytest

from external_agent.facts import quotas
from external_agent.facts.access import Role
from external_agent.store.access import acting_for
from external_agent.store.admission import NONCE_SECONDS
from external_agent.store.interface import Store
from external_agent.store.open import SqlStore
from shared.contract.errors import PullerRevoked, RequestRefused
from shared.contract.http_signatures import CLOCK_TOLERANCE
from shared.contract.signing import SigningKey
from shared.contract.wire import DirectReport
from tests.agent_world import Puller, enrol, nonce
from tests.unit.external_agent.conftest import NOW
from tests.unit.external_agent.dump import dump_of

NAME, OTHER = "www.intra.example.com", "app.example.org"
CA = "https://ca.example.com/directory"


@pytest.fixture
def puller(store: Store) -> Puller:
    store.add_certificate(NAME, [NAME], directory_url=CA, now=NOW)
    store.add_certificate(OTHER, [OTHER], directory_url=CA, now=NOW)
    return enrol(store, [NAME], now=NOW)


def refusal(store: Store, puller: Puller, certificate: str | None = None, **named: object) -> str:
    """Return why a call is refused, and see that nothing was written."""
    assert isinstance(store, SqlStore)
    before = dump_of(store)
    with pytest.raises(RequestRefused) as refused:
        store.admit(puller.id, certificate, **{"now": NOW, **named})  # type: ignore[arg-type]
    assert dump_of(store) == before
    return refused.value.problem_type


@pytest.mark.parametrize("certificate", [None, NAME])
@pytest.mark.parametrize("used", [None, "n" * 22])
def test_status(store: Store, puller: Puller, certificate: str | None, used: str | None) -> None:
    store.admit(puller.id, certificate, nonce=used, now=NOW)
    store.suspend_puller(puller.id, "a test", now=NOW)
    assert refusal(store, puller, certificate, nonce=used) == "puller-suspended"
    store.revoke_puller(puller.id, now=NOW)
    assert refusal(store, puller, certificate, nonce=used) == "puller-revoked"
    with pytest.raises(PullerRevoked):
        store.admit("0" * 64, certificate, nonce=used, now=NOW)


def test_a_grant(store: Store, puller: Puller) -> None:
    assert refusal(store, puller, OTHER) == "not-granted"
    assert refusal(store, puller, OTHER, nonce=nonce()) == "not-granted"
    assert refusal(store, puller, "no such", nonce=nonce()) == "not-granted"
    store.withdraw(puller.id, NAME, now=NOW)
    assert refusal(store, puller, NAME) == "not-granted"


def test_a_nonce_is_kept_as_long_as_its_request_could_come_again(
    store: Store, puller: Puller
) -> None:
    """Signed 300 s ahead of our clock, it passes for 600 s."""
    used = nonce()
    store.admit(puller.id, nonce=used, now=NOW)
    for later in (0, 299, 2 * CLOCK_TOLERANCE):
        assert refusal(store, puller, nonce=used, now=NOW + later) == "replayed"
    store.admit(puller.id, nonce=used, now=NOW + NONCE_SECONDS + 1)


def test_calls_are_counted_for_each_puller_and_grow_with_its_grants(
    store: Store, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "calls", lambda grants: 3 * grants)
    second = enrol(store, [NAME, OTHER], now=NOW)
    for number in range(3):
        store.admit(puller.id, nonce=nonce(), now=NOW + number)
    assert refusal(store, puller, nonce=nonce(), now=NOW + 3) == "too-many-calls"
    for _ in range(6):
        store.admit(second.id, nonce=nonce(), now=NOW)
    assert refusal(store, second, nonce=nonce()) == "too-many-calls"
    store.admit(puller.id, now=NOW)  # asking is not counted
    store.admit(puller.id, nonce=nonce(), now=NOW + NONCE_SECONDS + 1)
    assert refusal(store, puller, nonce=nonce(), now=NOW + NONCE_SECONDS + 1) == "too-many-calls"


def test_it_is_said_when_there_is_room_again(
    store: Store, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "calls", lambda grants: 1)
    store.admit(puller.id, nonce=nonce(), now=NOW)
    with pytest.raises(RequestRefused) as refused:
        store.admit(puller.id, nonce=nonce(), now=NOW + 100)
    assert refused.value.retry_after == NONCE_SECONDS - 100


def test_a_clock_that_was_far_ahead_locks_nobody_out(
    store: Store, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "calls", lambda grants: 1)
    store.admit(puller.id, nonce=nonce(), now=NOW + 10**8)
    store.admit(puller.id, nonce=nonce(), now=NOW)


def test_another_agent_s_clock_takes_no_nonce_away(store: Store, puller: Puller) -> None:
    """Ours is behind its clock, by as much as two requests may lie apart."""
    used = nonce()
    store.admit(puller.id, nonce=used, now=NOW + 2 * CLOCK_TOLERANCE)
    assert refusal(store, puller, nonce=used, now=NOW) == "replayed"


def test_a_token_is_not_tried_without_end(store: Store, puller: Puller) -> None:
    token = store.create_token(
        SigningKey.generate().public.public, [OTHER], now=NOW, expires_at=NOW + 60
    )
    store.void_token(token.id, now=NOW)

    def redeem() -> str:
        thief = Puller()
        with pytest.raises(Exception, match=r"voided|More than") as refused:
            store.redeem_token(
                token.id,
                signing_key=thief.signing.public.public,
                sealing_key=thief.identity.recipient.public,
                host="h",
                nonce=nonce(),
                now=NOW,
            )
        return str(getattr(refused.value, "problem_type", ""))

    assert [redeem() for _ in range(quotas.REDEMPTIONS)] == [""] * quotas.REDEMPTIONS
    assert isinstance(store, SqlStore)
    before = dump_of(store)
    assert redeem() == "too-many-calls"
    assert dump_of(store) == before


# --- the audit trail -------------------------------------------------------------------------


def say(store: Store, puller: Puller, number: int, now: int) -> None:
    """Something new each time, so that it is an event."""
    report = DirectReport(
        OTHER, (OTHER,), number, 0, None, 0, "failed", "unexpected", (), now - CLOCK_TOLERANCE
    )
    assert store.record_direct(puller.id, [report], now=now) == {}


def kinds(store: Store, puller: Puller) -> list[str]:
    return [one.kind for one in store.events() if one.puller == puller.id]


def test_what_a_puller_says_fills_a_part_of_the_trail(
    store: Store, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One event says that more were left out; what is left out stands in its own table."""
    monkeypatch.setattr(quotas, "event_bytes", lambda grants: 6000 * grants)
    second = enrol(store, [NAME, OTHER], now=NOW)
    for number in range(30):
        say(store, puller, number, NOW + number)
        say(store, second, number, NOW + number)
    mine, theirs = kinds(store, puller), kinds(store, second)
    assert 5 <= mine.count("direct-report") < 12
    assert 2 * mine.count("direct-report") <= theirs.count("direct-report") + 2 < 30
    assert mine[-1] == "events-left-out" and mine.count("events-left-out") == 1
    assert [one.generation for one in store.direct_certificates()] == [29, 29]
    assert store.verify_events() is None
    before = len(store.events())
    store.suspend_puller(puller.id, "a test", now=NOW + 40)
    assert len(store.events()) == before + 1, "what an operator does is never left out"
    store.confirm_puller(puller.id, now=NOW + 41)
    later = NOW + quotas.EVENTS_WINDOW
    for number in range(30, 60):
        say(store, puller, number, later)
    assert kinds(store, puller).count("direct-report") == 2 * mine.count("direct-report")
    assert kinds(store, puller).count("events-left-out") == 2


def test_what_a_thousand_certificates_say_in_a_day_has_room() -> None:
    renewal_with_its_csr = 2 * 512 + 400
    assert quotas.event_bytes(1000) > 1000 * renewal_with_its_csr
    assert quotas.event_bytes(1) > quotas.DIRECT_AT_LEAST * (512 + 300)


# --- who acts for an operator ----------------------------------------------------------------


def test_a_change_for_an_access_token_that_ended_is_undone(store: Store, puller: Puller) -> None:
    assert isinstance(store, SqlStore)
    row = store.create_access("ci", Role.ADMIN, "d" * 64, now=NOW, expires_at=NOW + 60, actor="me")
    clock = NOW

    def revoke() -> None:
        with acting_for(row.id, lambda: clock, lambda: KeyError("ended")):
            store.revoke_puller(puller.id, now=NOW)

    store.void_access(row.id, now=NOW, actor="me")
    before = dump_of(store)
    with pytest.raises(KeyError, match="ended"):
        revoke()
    assert dump_of(store) == before
    row = store.create_access("cd", Role.ADMIN, "e" * 64, now=NOW, expires_at=NOW + 60, actor="me")
    clock = NOW + 60
    with pytest.raises(KeyError, match="ended"):
        revoke()
    clock = NOW + 59
    revoke()
    store.suspend_puller(enrol(store, [OTHER], now=NOW).id, "no token any more", now=NOW)
