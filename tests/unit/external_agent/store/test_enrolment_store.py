"""Tokens and pullers in the store: one token, one pair of keys; what revoking brings about."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from external_agent.records.model import PullerStatus
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.contract.errors import (
    ConfigurationError,
    KeysRefused,
    PolicyError,
    PullerRevoked,
    RequestRefused,
    TokenExpired,
    TokenUnknown,
    TokenUsed,
)
from shared.contract.signing import SigningKey
from shared.contract.strict_json import MAX_INTEGER
from shared.contract.wire import Listing, Offer
from tests.agent_world import Puller, enrol, nonce, redeem
from tests.unit.external_agent.conftest import NOW
from tests.unit.external_agent.issued import claim, finish, issue, prepare

NAME = "www.intra.example.com"
OTHER = "app.example.org"
RACERS = 32
RACES = 20


@pytest.fixture
def two(store: Store) -> Store:
    for name in (NAME, OTHER):
        store.add_certificate(name, [name], directory_url="https://ca.example.com/dir", now=NOW)
    return store


def _token(store: Store, *certificates: str, lifetime: int = 3600) -> str:
    key = SigningKey.generate().public.public
    return store.create_token(key, certificates or (NAME,), now=NOW, expires_at=NOW + lifetime).id


def _wanted(store: Store, certificate: str = NAME) -> int:
    row = store.certificate(certificate)
    assert row is not None
    return row.wanted


def _kinds(store: Store) -> list[str]:
    return [event.kind for event in store.events()]


def test_redeeming_grants_what_the_token_names(two: Store) -> None:
    puller = Puller()
    redeem(two, _token(two, NAME, OTHER), puller, now=NOW)
    assert two.grants(puller.id) == (OTHER, NAME)
    row = two.puller(puller.id)
    assert row is not None
    assert row.status == PullerStatus.ACTIVE
    assert row.sealing_id == puller.identity.id


def test_the_same_keys_get_the_same_answer(two: Store) -> None:
    puller, token = Puller(), _token(two)
    for _ in range(3):
        redeem(two, token, puller, now=NOW)
    assert len(two.pullers()) == 1
    assert _kinds(two).count("puller-enrolled") == 1


def test_a_request_seen_before_is_refused(two: Store) -> None:
    puller, token, once = Puller(), _token(two), nonce()
    for attempt in range(2):
        if attempt:
            with pytest.raises(RequestRefused, match="before"):
                _redeem_with(two, token, puller, once)
        else:
            _redeem_with(two, token, puller, once)


def _redeem_with(store: Store, token: str, puller: Puller, used: str) -> None:
    store.redeem_token(
        token,
        signing_key=puller.signing.public.public,
        sealing_key=puller.identity.recipient.public,
        host="h",
        nonce=used,
        now=NOW,
    )


def test_other_keys_on_a_used_token_suspend_the_first(two: Store) -> None:
    token, first = _token(two), Puller()
    redeem(two, token, first, now=NOW)
    generation = issue(two, NAME, now=NOW + 5)
    with pytest.raises(TokenUsed):
        redeem(two, token, Puller(host="second"), now=NOW + 10)
    row = two.puller(first.id)
    assert row is not None
    assert row.status == PullerStatus.SUSPENDED
    event = next(e for e in two.events() if e.kind == "token-offered-twice")
    assert event.puller == first.id
    assert event.details["sealed_to_first"] == {NAME: [generation]}
    assert event.details["second_host"] == "second"
    with pytest.raises(RequestRefused, match="suspended"):
        two.listing_for(first.id, now=NOW + 11)
    two.confirm_puller(first.id, now=NOW + 12)
    assert two.listing_for(first.id, now=NOW + 13).offers[0].generation == generation


def test_a_retry_never_revives_a_revoked_puller(two: Store) -> None:
    token, puller = _token(two), Puller()
    redeem(two, token, puller, now=NOW)
    two.revoke_puller(puller.id, now=NOW)
    for one in (token, _token(two)):
        with pytest.raises(KeysRefused):
            redeem(two, one, puller, now=NOW)
    with pytest.raises(PolicyError):
        two.confirm_puller(puller.id, now=NOW)
    with pytest.raises(PullerRevoked):
        two.listing_for(puller.id, now=NOW)


def test_a_second_token_adds_its_grants(two: Store) -> None:
    puller = enrol(two, [NAME], now=NOW)
    redeem(two, _token(two, OTHER), puller, now=NOW)
    assert two.grants(puller.id) == (OTHER, NAME)


def test_keys_of_another_puller_are_refused(two: Store) -> None:
    first = enrol(two, [NAME], now=NOW)
    for mixed in (Puller(identity=first.identity), Puller(signing=first.signing)):
        token = _token(two)
        with pytest.raises(KeysRefused):
            redeem(two, token, mixed, now=NOW)
        row = two.token(token)
        assert row is not None
        assert row.redeemed_by is None


def test_tokens_expire_are_voided_or_unknown(two: Store) -> None:
    expired, voided = _token(two, lifetime=10), _token(two)
    two.void_token(voided, now=NOW)
    with pytest.raises(TokenExpired):
        redeem(two, expired, Puller(), now=NOW + 11)
    with pytest.raises(TokenExpired, match="voided"):
        redeem(two, voided, Puller(), now=NOW)
    with pytest.raises(TokenUnknown):
        redeem(two, "0" * 64, Puller(), now=NOW)
    assert two.pullers() == []


def test_tokens_that_cannot_be_made(two: Store) -> None:
    with pytest.raises(ConfigurationError):
        _token(two, lifetime=24 * 3600 + 1)
    with pytest.raises(PolicyError):
        _token(two, "unknown.example.com")


def test_a_recipient_added_later_leads_to_a_new_generation(two: Store) -> None:
    enrol(two, [NAME], now=NOW)
    issue(two, NAME, now=NOW + 5)
    before = _wanted(two)
    late = enrol(two, [NAME], now=NOW + 10)
    assert _wanted(two) == before + 1
    issue(two, NAME, now=NOW + 20)
    assert two.listing_for(late.id, now=NOW + 30).offers[0].generation > 0
    assert two.claim_due("w", now=NOW + 30, lease_seconds=60) == []


@pytest.mark.parametrize("how", ["suspended", "withdrawn"])
def test_a_recipient_that_comes_back_while_an_order_is_under_way(two: Store, how: str) -> None:
    """The generation under way is not for it, and will be the newest for a long time."""
    enrol(two, [NAME], now=NOW)
    back = enrol(two, [NAME], now=NOW)
    earlier = issue(two, NAME, now=NOW + 5)
    if how == "suspended":
        two.suspend_puller(back.id, "test", now=NOW + 6)
        two.request_renewal(NAME, "test", now=NOW + 6)
    else:
        two.withdraw(back.id, NAME, now=NOW + 6)
    held = claim(two, NAME, now=NOW + 7)
    generation = prepare(two, held, now=NOW + 7)
    two.commit_order(held, generation, "https://ca.example.com/order", NOW + 3600)
    if how == "suspended":
        two.confirm_puller(back.id, now=NOW + 8)
    else:
        two.grant(back.id, NAME, now=NOW + 8)
    finish(two, held, generation, now=NOW + 9)
    assert two.listing_for(back.id, now=NOW + 10).offers[0].generation == earlier
    newest = issue(two, NAME, now=NOW + 20)
    assert two.listing_for(back.id, now=NOW + 30).offers[0].generation == newest
    assert two.claim_due("w", now=NOW + 30, lease_seconds=60) == []


def test_a_confirmed_puller_is_not_suspended_by_the_same_token_again(two: Store) -> None:
    token, first = _token(two), Puller()
    redeem(two, token, first, now=NOW)
    for moment in (NOW + 10, NOW + 365 * 86400):
        with pytest.raises(TokenUsed):
            redeem(two, token, Puller(host="second"), now=moment)
        two.confirm_puller(first.id, now=moment + 1)
    assert _kinds(two).count("token-offered-twice") == 1
    redeem(two, token, first, now=NOW + 366 * 86400)  # the same keys, the same answer


def test_a_puller_is_granted_no_more_than_it_can_be_told_of(
    two: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    puller = enrol(two, [NAME], now=NOW)
    monkeypatch.setattr("external_agent.store.pullers.MAX_CERTIFICATES", 1)
    with pytest.raises(PolicyError, match="One puller may have 1"):
        two.grant(puller.id, OTHER, now=NOW)
    two.grant(puller.id, NAME, now=NOW)
    assert two.grants(puller.id) == (NAME,)
    token = _token(two, OTHER)
    with pytest.raises(PolicyError):
        redeem(two, token, puller, now=NOW)
    row = two.token(token)
    assert row is not None
    assert row.redeemed_by is None


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_list_takes_no_more_than_is_counted(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(sorted(f"host{number}.example.com" for number in range(count)))
    offer = Offer(NAME, names, MAX_INTEGER, MAX_INTEGER, "puller", csr_wanted=False)
    octets = len(Listing.of((offer,) * 9, MAX_INTEGER).encode())
    monkeypatch.setattr("shared.contract.wire.MAX_ANSWER", octets - 1)
    assert not Listing.fits([(NAME, json.dumps(names))] * 9)
    monkeypatch.setattr("shared.contract.wire.MAX_ANSWER", octets + 9 * 200)
    assert Listing.fits([(NAME, json.dumps(names))] * 9)


def test_revoking_or_withdrawing_leads_to_a_new_key(two: Store) -> None:
    first, second = enrol(two, [NAME], now=NOW), enrol(two, [NAME], now=NOW)
    issue(two, NAME, now=NOW + 5)
    before = _wanted(two)
    two.revoke_puller(first.id, now=NOW + 6)
    assert _wanted(two) == before + 1
    two.withdraw(second.id, NAME, now=NOW + 7)
    assert _wanted(two) == before + 2
    # Nobody is left to make a key for.
    assert two.claim_due("w", now=NOW + 8, lease_seconds=60) == []
    assert "waits" not in two.status(NOW + 8)[0].waits_for
    with pytest.raises(RequestRefused, match="not granted"):
        two.bundle_for(second.id, NAME, 0, now=NOW + 9)


def test_removing_a_certificate_ends_its_grants(two: Store) -> None:
    puller = enrol(two, [NAME], now=NOW)
    issue(two, NAME, now=NOW + 5)
    two.remove_certificate(NAME, now=NOW + 6)
    assert two.grants(puller.id) == ()
    with pytest.raises(RequestRefused):
        two.bundle_for(puller.id, NAME, 0, now=NOW + 7)
    two.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=NOW + 8)
    assert two.grants(puller.id) == ()
    assert two.choose_generation(NAME, now=NOW) > NOW


def _race_in_threads(url: str, token: str) -> int:
    store = open_store(url, busy_seconds=30)
    barrier, won = threading.Barrier(RACERS), []

    def redeem_once() -> None:
        barrier.wait()
        try:
            redeem(store, token, Puller(), now=NOW)
        except TokenUsed:
            return
        won.append(1)

    threads = [threading.Thread(target=redeem_once) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    return len(won)


def test_32_threads_race_for_one_token(two: Store, url: str) -> None:
    for _ in range(5):
        token = _token(two)
        assert _race_in_threads(url, token) == 1
        row = two.token(token)
        assert row is not None
        assert row.redeemed_by is not None


RACER = """
import os, sys
from external_agent.store.open import open_store
from shared.contract.errors import TokenUsed
from tests.agent_world import Puller, redeem
url, now, racers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for line in sys.stdin:
    children, (gate, opener) = [], os.pipe()
    for _ in range(racers):
        if child := os.fork():
            children.append(child)
            continue
        os.close(opener)
        store, puller = open_store(url, busy_seconds=60), Puller()
        os.read(gate, 1)  # ends for all when the parent closes its end
        try:
            redeem(store, line.strip(), puller, now=now)
        except TokenUsed:
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    os.close(gate)
    os.close(opener)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(ends.count(0), ends.count(1), flush=True)
"""


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.sqlite  # with threads, and two agents, the other engine is raced for, too
def test_32_processes_race_for_one_token(two: Store, url: str) -> None:
    root = Path(__file__).resolve().parents[4]
    tokens = [_token(two) for _ in range(RACES)]
    ended = subprocess.run(
        [sys.executable, "-c", RACER, url, str(NOW), str(RACERS)],
        input="\n".join(tokens) + "\n",
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    assert ended.stdout.splitlines() == [f"1 {RACERS - 1}"] * RACES, ended.stderr
    assert len({row.redeemed_by for row in two.tokens()}) == RACES
