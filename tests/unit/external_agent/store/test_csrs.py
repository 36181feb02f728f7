"""CSRs that pullers leave: taken once, frozen with an order, one recipient, and what is awaited."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from external_agent.records.rows import Claim, PreparedKey
from external_agent.store.csrs import LEFT_IN_WINDOW
from external_agent.store.interface import Store
from shared.contract.csr import csr_to_pem
from shared.contract.errors import CsrRefused, FenceLost, KeysRefused, PolicyError, RequestRefused
from shared.contract.identifiers import parse_names
from shared.contract.key_policy import KeyAlgorithm, generate_key
from shared.contract.wire import Offer, Receipt
from shared.contract.x509 import make_csr, spki_sha256
from shared.issuing.renewal import DAY, HOUR
from tests.agent_world import Puller, enrol
from tests.unit.external_agent.conftest import NOW
from tests.unit.external_agent.issued import claim, finish

NAME = "www.intra.example.com"
DIRECTORY = "https://ca.example.com/dir"


def new_csr(*names: str) -> bytes:
    key = generate_key(KeyAlgorithm.EC_P256)
    return make_csr(key, parse_names(names or (NAME,))).public_bytes(Encoding.DER)


def leave(store: Store, puller: Puller, csr: bytes, *, now: int = NOW) -> bool:
    return store.leave_csr(puller.id, NAME, csr, now=now)


def offer(store: Store, puller: Puller, *, now: int = NOW) -> Offer:
    (found,) = store.listing_for(puller.id, now=now).offers
    return found


def prepare(store: Store, held: Claim, *, now: int) -> int:
    waiting, row = store.waiting_csr(NAME), store.certificate(NAME)
    assert waiting and waiting.csr and waiting.spki_sha256 and row
    generation = store.choose_generation(NAME, now=now)
    prepared = PreparedKey(csr_to_pem(waiting.csr), waiting.spki_sha256, {}, waiting.puller)
    attempt = store.commit_prepared(held, generation, prepared, now=now, wanted=row.wanted)
    assert attempt.recipients == (waiting.puller,)
    return generation


def finish_for(store: Store, held: Claim, generation: int, puller: Puller, *, now: int) -> None:
    finish(store, held, generation, now=now, pullers=(puller.id,))


def issue(store: Store, puller: Puller, *, now: int) -> int:
    held = claim(store, NAME, now=now)
    generation = prepare(store, held, now=now)
    finish_for(store, held, generation, puller, now=now)
    return generation


def kinds(store: Store) -> list[str]:
    return [event.kind for event in store.events()]


@pytest.fixture
def puller(store: Store) -> Puller:
    store.add_certificate(NAME, [NAME], directory_url=DIRECTORY, now=NOW, key_origin="puller")
    return enrol(store, [NAME], now=NOW)


def test_wanted_until_one_is_left(store: Store, puller: Puller) -> None:
    assert offer(store, puller).key_origin == "puller"
    assert offer(store, puller).csr_wanted
    assert store.claim_due("worker", now=NOW, lease_seconds=60) == []
    before = store.listing_for(puller.id, now=NOW).version
    csr = new_csr()
    assert leave(store, puller, csr)
    assert not offer(store, puller).csr_wanted
    assert store.listing_for(puller.id, now=NOW).version != before
    assert not leave(store, puller, csr), "the same again changes nothing"
    assert kinds(store).count("csr-left") == 1
    assert [one.certificate for one in store.claim_due("w", now=NOW, lease_seconds=60)] == [NAME]


def test_wanted_again_as_soon_as_the_bundle_is_fetched(store: Store, puller: Puller) -> None:
    csr = new_csr()
    leave(store, puller, csr)
    generation = issue(store, puller, now=NOW)
    assert not offer(store, puller).csr_wanted
    assert store.bundle_for(puller.id, NAME, 0, now=NOW).newest == generation
    assert offer(store, puller).csr_wanted
    with pytest.raises(CsrRefused, match="used before"):
        leave(store, puller, csr)
    assert leave(store, puller, new_csr())
    assert not offer(store, puller).csr_wanted


def test_reused_while_nothing_made_from_it_was_fetched(store: Store, puller: Puller) -> None:
    csr = new_csr()
    leave(store, puller, csr)
    issue(store, puller, now=NOW)
    assert not leave(store, puller, csr)
    store.request_renewal(NAME, "test", now=NOW + 1)
    second = issue(store, puller, now=NOW + 1)
    assert store.bundle_for(puller.id, NAME, 0, now=NOW).newest == second
    assert store.waiting_csr(NAME) is None


def test_a_key_is_used_for_one_certificate(store: Store, puller: Puller) -> None:
    other = "app.example.org"
    csr = new_csr()
    leave(store, puller, csr)
    store.add_certificate(other, [NAME], directory_url=DIRECTORY, now=NOW, key_origin="puller")
    second = enrol(store, [other], now=NOW)
    with pytest.raises(CsrRefused, match="used before"):
        store.leave_csr(second.id, other, csr, now=NOW)


def test_a_key_of_the_agents_own(store: Store, puller: Puller) -> None:
    key = generate_key(KeyAlgorithm.EC_P256)
    csr = make_csr(key, parse_names([NAME])).public_bytes(Encoding.DER)
    with pytest.raises(CsrRefused, match="used before"):
        store.leave_csr(
            *(puller.id, NAME, csr),
            now=NOW,
            own_keys={spki_sha256(key)},
        )


def test_a_newer_one_replaces_what_waits_and_never_what_is_ordered(
    store: Store, puller: Puller
) -> None:
    first, second, third = new_csr(), new_csr(), new_csr()
    leave(store, puller, first)
    leave(store, puller, second)
    held = claim(store, NAME, now=NOW)
    generation = prepare(store, held, now=NOW)
    attempt = store.unfinished_attempt(NAME)
    assert attempt is not None
    assert attempt.csr == csr_to_pem(second)
    store.commit_order(held, generation, "https://ca.example.com/order/1", None)
    assert leave(store, puller, third)
    attempt = store.unfinished_attempt(NAME)
    assert attempt is not None
    assert attempt.csr == csr_to_pem(second), "frozen"
    waiting = store.waiting_csr(NAME)
    assert waiting is not None
    assert waiting.csr == third


def test_what_was_prepared_from_a_replaced_csr_is_not_committed(
    store: Store, puller: Puller
) -> None:
    leave(store, puller, new_csr())
    held = claim(store, NAME, now=NOW)
    old = store.waiting_csr(NAME)
    assert old and old.csr and old.spki_sha256
    leave(store, puller, new_csr())
    prepared = PreparedKey(csr_to_pem(old.csr), old.spki_sha256, {}, old.puller)
    with pytest.raises(FenceLost):
        store.commit_prepared(held, NOW, prepared, now=NOW, wanted=1)


def test_an_order_under_way_is_resumed_without_another_csr(store: Store, puller: Puller) -> None:
    leave(store, puller, new_csr())
    held = claim(store, NAME, now=NOW)
    generation = prepare(store, held, now=NOW)
    store.commit_order(held, generation, "https://ca.example.com/order/1", None)
    store.release(held)
    store.change_certificate(NAME, names=[NAME, "app.example.org"], now=NOW)
    assert store.waiting_csr(NAME) is None
    assert [one.certificate for one in store.claim_due("w", now=NOW, lease_seconds=60)] == [NAME]


def test_other_names_want_another_csr(store: Store, puller: Puller) -> None:
    leave(store, puller, new_csr())
    store.change_certificate(NAME, names=[NAME, "app.example.org"], now=NOW)
    assert offer(store, puller).csr_wanted
    with pytest.raises(CsrRefused, match="does not ask for"):
        leave(store, puller, new_csr())
    assert leave(store, puller, new_csr(NAME, "app.example.org"))


def test_a_refusal_is_noted(store: Store, puller: Puller) -> None:
    with pytest.raises(CsrRefused, match="not granted"):
        leave(store, puller, new_csr(NAME, "app.example.org"))
    assert kinds(store)[-1] == "csr-refused"
    (status,) = store.status(NOW)
    assert "is not granted" in status.waits_for
    leave(store, puller, new_csr())
    (status,) = store.status(NOW)
    assert (status.waits_for, status.csr_waits) == ("", True)


def test_nobody_else_leaves_one(store: Store, puller: Puller) -> None:
    store.add_certificate("app.example.org", [NAME], directory_url=DIRECTORY, now=NOW)
    stranger = enrol(store, ["app.example.org"], now=NOW)
    with pytest.raises(RequestRefused) as refused:
        leave(store, stranger, new_csr())
    assert refused.value.problem_type == "not-granted"
    assert offer(store, puller).csr_wanted


def test_none_is_wanted_while_the_agent_makes_the_key(store: Store, puller: Puller) -> None:
    store.change_certificate(NAME, key_origin="agent", now=NOW)
    assert not offer(store, puller).csr_wanted
    with pytest.raises(CsrRefused, match="made by the agent"):
        leave(store, puller, new_csr())


def test_quota(store: Store, puller: Puller) -> None:
    for _ in range(LEFT_IN_WINDOW):
        with pytest.raises(CsrRefused):
            leave(store, puller, b"nonsense")
    with pytest.raises(RequestRefused) as refused:
        leave(store, puller, new_csr())
    assert refused.value.problem_type == "too-many-csrs"
    assert leave(store, puller, new_csr(), now=NOW + HOUR)


# --- one recipient ---------------------------------------------------------------------------


def test_no_second_recipient(store: Store, puller: Puller) -> None:
    with pytest.raises(PolicyError, match="no second machine"):
        enrol(store, [NAME], now=NOW)
    store.add_certificate("app.example.org", [NAME], directory_url=DIRECTORY, now=NOW)
    other = enrol(store, ["app.example.org"], now=NOW)
    with pytest.raises(PolicyError, match="no second machine"):
        store.grant(other.id, NAME, now=NOW)
    store.revoke_puller(puller.id, now=NOW)
    store.grant(other.id, NAME, now=NOW)


def test_the_second_of_two_tokens(store: Store) -> None:
    store.add_certificate(NAME, [NAME], directory_url=DIRECTORY, now=NOW)
    first = enrol(store, [NAME], now=NOW)
    token = store.create_token(b"t" * 32, [NAME], now=NOW, expires_at=NOW + 3600)
    store.change_certificate(NAME, key_origin="puller", now=NOW)
    from tests.agent_world import redeem

    with pytest.raises(KeysRefused, match="no second machine"):
        redeem(store, token.id, Puller(), now=NOW)
    redeem(store, token.id, first, now=NOW)  # the machine that has it may


def test_two_recipients_keep_the_key_with_the_agent(store: Store) -> None:
    store.add_certificate(NAME, [NAME], directory_url=DIRECTORY, now=NOW)
    enrol(store, [NAME], now=NOW)
    second = enrol(store, [NAME], now=NOW)
    with pytest.raises(PolicyError, match="granted to 2 machines"):
        store.change_certificate(NAME, key_origin="puller", now=NOW)
    store.revoke_puller(second.id, now=NOW)
    store.change_certificate(NAME, key_origin="puller", now=NOW)


# --- waiting ---------------------------------------------------------------------------------


def test_a_due_renewal_without_a_csr_is_noted_once_and_again_when_urgent(
    store: Store, puller: Puller
) -> None:
    assert store.note_awaited_csrs(now=NOW) == [], "the puller has just come"
    leave(store, puller, new_csr())
    issue(store, puller, now=NOW)
    store.bundle_for(puller.id, NAME, 0, now=NOW)
    assert store.note_awaited_csrs(now=NOW + 59 * DAY) == [], "not due yet"
    (noted,) = store.note_awaited_csrs(now=NOW + 61 * DAY)
    assert (noted.urgent, noted.host, noted.not_after) == (False, puller.host, NOW + 90 * DAY)
    assert store.note_awaited_csrs(now=NOW + 62 * DAY) == []
    (urgent,) = store.note_awaited_csrs(now=NOW + 80 * DAY)
    assert urgent.urgent
    assert store.note_awaited_csrs(now=NOW + 81 * DAY) == []
    (status,) = store.status(NOW + 81 * DAY)
    assert "a CSR from inside" in status.waits_for
    assert status.csr is not None and status.csr.awaited_at == NOW + 61 * DAY
    assert kinds(store)[-2:] == ["csr-awaited", "csr-urgent"]
    leave(store, puller, new_csr(), now=NOW + 82 * DAY)
    assert store.note_awaited_csrs(now=NOW + 83 * DAY) == []


def test_the_first_one_is_awaited_after_an_hour(store: Store, puller: Puller) -> None:
    (noted,) = store.note_awaited_csrs(now=NOW + HOUR)
    assert (noted.not_after, noted.urgent) == (None, False)


# --- what went wrong inside ------------------------------------------------------------------


def _refused(store: Store, puller: Puller, generation: int, error: str, *, now: int) -> None:
    receipt = Receipt(NAME, generation, "0" * 64, "refused", error, (), now)
    store.record_receipts(puller.id, [receipt], now=now)


def test_a_lost_key_is_replaced_once_a_day(store: Store, puller: Puller) -> None:
    leave(store, puller, new_csr())
    generation = issue(store, puller, now=NOW)
    store.bundle_for(puller.id, NAME, 0, now=NOW)
    for moment in (NOW, NOW + 60):
        _refused(store, puller, generation, "bundle/key-mismatch", now=moment)
    row = store.certificate(NAME)
    assert row is not None
    assert row.wanted == row.satisfied + 1
    assert kinds(store).count("key-lost") == 1
    assert offer(store, puller).csr_wanted


def test_a_restored_agent_wants_another_csr(store: Store, puller: Puller) -> None:
    leave(store, puller, new_csr())
    issue(store, puller, now=NOW)
    assert not offer(store, puller).csr_wanted
    store.bundle_for(puller.id, NAME, NOW + 500, now=NOW + 600)
    assert offer(store, puller).csr_wanted


def test_what_the_ca_does_not_take(store: Store, puller: Puller) -> None:
    leave(store, puller, new_csr())
    waiting = store.waiting_csr(NAME)
    assert waiting is not None and waiting.spki_sha256 is not None
    store.refuse_csr(NAME, waiting.spki_sha256, "The CA said: weak key.", now=NOW)
    assert offer(store, puller).csr_wanted
    (status,) = store.status(NOW)
    assert "weak key" in status.waits_for


def test_status_says_what_a_change_back_waits_for(store: Store, puller: Puller) -> None:
    store.change_certificate(NAME, key_origin="agent", now=NOW)
    held = claim(store, NAME, now=NOW)
    generation = store.choose_generation(NAME, now=NOW)
    prepared = PreparedKey(b"csr", "0" * 64, {puller.id: b"sealed"})
    store.commit_prepared(held, generation, prepared, now=NOW, wanted=9)
    finish(store, held, generation, now=NOW)
    store.bundle_for(puller.id, NAME, 0, now=NOW)
    _refused(store, puller, generation, "bundle/key-origin-refused", now=NOW)
    (status,) = store.status(NOW)
    assert "--key-origin any" in status.waits_for
    assert "inside" in status.waits_for
