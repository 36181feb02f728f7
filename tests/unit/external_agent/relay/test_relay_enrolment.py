"""Enrolment over HTTPS: two signatures with two keys, one token for one pair of keys."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from external_agent.records.rows import PullerStatus
from external_agent.relay import signed_messages
from shared.contract.errors import ConfigurationError, PolicyError
from shared.contract.http_signatures import SignedTarget, content_digest, sign_request
from shared.contract.signing import SigningKey, VerifyKey
from shared.contract.wire import CERTIFICATES_PATH, ENROLMENTS_PATH, EnrolmentAnswer, Grant
from tests.unit.external_agent.harness import (
    AUTHORITY,
    CERTIFICATE,
    OTHER,
    START,
    Client,
    Draft,
    RunningAgent,
    new_nonce,
)

# Small-order points of Curve25519 and Ed25519 (libsodium's list); under such an Ed25519 key one
# signature fits every message.
LOW_ORDER_X25519 = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]
LOW_ORDER_ED25519 = [
    b"\x01" + bytes(31),
    bytes(32),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def test_a_token_enrols_one_pair_of_keys(running: RunningAgent) -> None:
    client = Client(running, host="web1.intra.example.com")
    answer = client.enrol(running.token(CERTIFICATE))
    assert (answer.status, answer.signed) == (200, True)
    assert EnrolmentAnswer.decode(answer.body) == EnrolmentAnswer(
        client.id, (Grant(CERTIFICATE, (CERTIFICATE,)),)
    )
    row = running.store.puller(client.id)
    assert row is not None
    assert (row.host, row.status) == ("web1.intra.example.com", PullerStatus.ACTIVE)


def test_connections_count_for_the_token_whatever_keys_are_offered(
    running: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one token, also one that is used up, makes known connections without end."""
    holders: list[str] = []
    monkeypatch.setattr(signed_messages, "vouch", lambda scope, holder: holders.append(holder))
    token = running.token(CERTIFICATE)
    clients = [Client(running, f"web{number}") for number in range(3)]
    assert [one.enrol(token).status for one in clients] == [200, 409, 409]
    assert len(holders) == 3 and len(set(holders)) == 1
    clients[0].get(CERTIFICATES_PATH)
    assert holders[3] == clients[0].id


def test_the_same_keys_again_get_the_same_answer(running: RunningAgent) -> None:
    client, token = Client(running), running.token(CERTIFICATE)
    first, second = client.enrol(token), client.enrol(token)
    assert (first.status, second.status) == (200, 200)
    assert first.body == second.body


def test_a_second_token_adds_its_grants(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    answer = EnrolmentAnswer.decode(client.enrol(running.token(OTHER)).body)
    assert [grant.certificate for grant in answer.granted] == [OTHER, CERTIFICATE]


def test_a_replayed_enrolment_is_refused_signed(running: RunningAgent) -> None:
    client, nonce = Client(running), new_nonce()
    token = running.token(CERTIFICATE)
    assert client.enrol(token, nonce=nonce).status == 200
    again = client.enrol(token, nonce=nonce)
    assert (again.status, again.signed, again.slug) == (409, True, "replayed-nonce")


def test_other_keys_on_a_used_token_suspend_the_first_and_leave_an_event(
    running: RunningAgent,
) -> None:
    token = running.token(CERTIFICATE)
    first, second = Client(running, "first"), Client(running, "second")
    assert first.enrol(token).status == 200
    generation = running.publish(CERTIFICATE)
    answer = second.enrol(token)
    assert (answer.status, answer.signed, answer.slug) == (409, True, "token-used")
    refused = first.get(CERTIFICATES_PATH)
    assert (refused.status, refused.signed, refused.slug) == (403, True, "puller-suspended")
    (event,) = [e for e in running.store.events() if e.kind == "token-offered-twice"]
    assert event.puller == first.id
    assert str(generation) in str(event.details)
    running.store.confirm_puller(first.id, now=START)
    assert first.get(CERTIFICATES_PATH).status == 200


def test_a_retry_never_revives_a_revoked_puller(running: RunningAgent) -> None:
    client, token = Client(running), running.token(CERTIFICATE)
    assert client.enrol(token).status == 200
    running.store.revoke_puller(client.id, now=START)
    answer = client.enrol(token)
    assert (answer.status, answer.signed, answer.slug) == (422, True, "keys-refused")
    assert client.get(CERTIFICATES_PATH).slug == "puller-revoked"


def test_one_key_for_both_labels_is_refused(running: RunningAgent) -> None:
    """Somebody in the middle, without the token, signs both labels with a key of his own."""
    own = SigningKey.generate()
    client = Client(running)
    client.signing = own
    answer = client.send(
        "POST", ENROLMENTS_PATH, client.offer().encode(), signers={"token": own, "shr": own}
    )
    assert (answer.status, answer.signed) == (401, False)


def test_the_middle_man_cannot_put_his_key_under_the_tokens_id(running: RunningAgent) -> None:
    token, own = running.token(CERTIFICATE), SigningKey.generate()
    client = Client(running)
    client.signing = own

    def claim(draft: Draft) -> None:
        head, tail = draft.headers["Signature-Input"].split(", ")
        draft.headers["Signature-Input"] = f"{head.replace(own.id, token.key.id)}, {tail}"

    answer = client.send(
        "POST",
        ENROLMENTS_PATH,
        client.offer().encode(),
        signers={"token": own, "shr": own},
        edit=claim,
    )
    assert (answer.status, answer.signed) == (401, False)


def test_the_tokens_own_key_is_no_signing_key(running: RunningAgent) -> None:
    token, client = running.token(CERTIFICATE), Client(running)
    client.signing = token.key
    answer = client.enrol(token)
    assert (answer.status, answer.signed, answer.slug) == (422, True, "keys-refused")
    assert running.store.pullers() == []


@pytest.mark.parametrize("member", ["signing_key", "sealing_key", "host"])
@pytest.mark.parametrize("digest", ["as it was", "made anew"])
def test_a_proxy_that_swaps_a_field_is_noticed(
    running: RunningAgent, member: str, digest: str
) -> None:
    client, attacker = Client(running), Client(running)
    offer = client.offer()
    swapped = dataclasses.replace(offer, **{member: getattr(attacker.offer(), member)})
    if member == "host":
        swapped = dataclasses.replace(offer, host="evil")

    def swap(draft: Draft) -> None:
        draft.raw_body = swapped.encode()
        if digest == "made anew":
            draft.headers["Content-Digest"] = content_digest(draft.raw_body)

    answer = client.enrol(running.token(CERTIFICATE), edit=swap)
    assert (answer.status, answer.signed) == (401, False)
    assert running.store.pullers() == []


def test_a_proxy_that_signs_the_swapped_keys_itself_lacks_the_token(running: RunningAgent) -> None:
    """It can sign label shr with its own key, but the token's signature is over the old body."""
    client, attacker = Client(running), Client(running)
    token, nonce = running.token(CERTIFICATE), new_nonce()
    honest = client.draft(
        "POST",
        ENROLMENTS_PATH,
        client.offer().encode(),
        signers={"token": token.key, "shr": client.signing},
        nonce=nonce,
    )
    body = attacker.offer().encode()
    forged = sign_request(
        SignedTarget("POST", AUTHORITY, ENROLMENTS_PATH),
        body,
        {"shr": attacker.signing},
        created=START,
        nonce=nonce,
    )
    headers = {
        name: f"{honest.headers[name].split(', ')[0]}, {forged[name]}"
        for name in ("Signature-Input", "Signature")
    }
    headers["Content-Digest"] = forged["Content-Digest"]
    answer = client.exchange(Draft("POST", ENROLMENTS_PATH, "", body, headers))
    assert (answer.status, answer.signed) == (401, False)


class _InTheNameOf:
    """Signs with one key and names another."""

    def __init__(self, key: SigningKey, name: str) -> None:
        self.id, self.sign = name, key.sign


def test_a_thief_of_the_token_cannot_enrol_the_key_of_another(running: RunningAgent) -> None:
    """The token's signature is good; the key that is offered did not sign."""
    token, victim, thief = running.token(CERTIFICATE), Client(running), SigningKey.generate()
    signer: object = _InTheNameOf(thief, victim.id)
    signers = {"token": token.key, "shr": signer}
    body = victim.offer().encode()
    answer = victim.send("POST", ENROLMENTS_PATH, body, signers=signers)  # type: ignore[arg-type]
    assert (answer.status, answer.signed, answer.slug) == (401, False, "not-authenticated")
    assert running.store.pullers() == []
    assert victim.enrol(token).status == 200  # nor is the token used up


def test_a_signature_names_the_key_that_made_it(running: RunningAgent) -> None:
    """Else a log, or whoever looks a key up by its name, would believe another."""
    token, client = running.token(CERTIFICATE), Client(running)
    signer: object = _InTheNameOf(client.signing, "ab" * 32)
    signers = {"token": token.key, "shr": signer}
    body = client.offer().encode()
    answer = client.send("POST", ENROLMENTS_PATH, body, signers=signers)  # type: ignore[arg-type]
    assert (answer.status, answer.signed, answer.slug) == (401, False, "not-authenticated")
    assert running.store.pullers() == []


@pytest.mark.parametrize("labels", [("shr",), ("token",)])
def test_one_signature_is_not_enough(running: RunningAgent, labels: tuple[str, ...]) -> None:
    token, client = running.token(CERTIFICATE), Client(running)
    keys = {"token": token.key, "shr": client.signing}
    draft = client.draft("POST", ENROLMENTS_PATH, client.offer().encode(), signers=keys)
    for name in ("Signature-Input", "Signature"):
        parts = draft.headers[name].split(", ")
        draft.headers[name] = ", ".join(p for p in parts if p.split("=")[0] in labels)
    if labels == ("token",):
        draft.headers["Signature"] += ", shr=:AAAA:"  # lets the harness look for its label
    answer = client.exchange(draft)
    assert (answer.status, answer.signed, answer.slug) == (400, False, "signature-malformed")


def test_two_signatures_of_different_moments_do_not_belong_together(
    running: RunningAgent,
) -> None:
    token, client = running.token(CERTIFICATE), Client(running)
    body = client.offer().encode()
    target = SignedTarget("POST", AUTHORITY, ENROLMENTS_PATH)
    one = sign_request(target, body, {"token": token.key}, created=START, nonce=new_nonce())
    two = sign_request(target, body, {"shr": client.signing}, created=START, nonce=new_nonce())
    headers = {name: f"{one[name]}, {two[name]}" for name in ("Signature-Input", "Signature")} | {
        "Content-Digest": one["Content-Digest"]
    }
    answer = client.exchange(Draft("POST", ENROLMENTS_PATH, "", body, headers))
    assert (answer.status, answer.signed) == (400, False)


@pytest.mark.parametrize("public", LOW_ORDER_X25519, ids=lambda public: public.hex()[:8])
def test_a_sealing_key_that_nothing_can_be_sealed_to_is_refused(
    running: RunningAgent, public: bytes
) -> None:
    client, token = Client(running), running.token(CERTIFICATE)
    offer = dataclasses.replace(client.offer(), sealing_key=public)
    answer = client.send(
        "POST",
        ENROLMENTS_PATH,
        offer.encode(),
        signers={"token": token.key, "shr": client.signing},
    )
    assert (answer.status, answer.signed, answer.slug) == (422, True, "keys-refused")
    assert running.store.pullers() == []
    assert client.enrol(token).status == 200  # the token is not used up by the refusal


class _LowOrderKey:
    """Claims a low-order key; its signature (R = the identity, S = 0) fits in lax verifiers."""

    def __init__(self, public: bytes) -> None:
        self.public = VerifyKey(public)
        self.id = self.public.id

    def sign(self, message: bytes) -> bytes:
        return b"\x01" + bytes(63)


@pytest.mark.parametrize("public", LOW_ORDER_ED25519, ids=lambda public: public.hex()[:8])
def test_a_low_order_signing_key_is_refused(running: RunningAgent, public: bytes) -> None:
    client, token = Client(running), running.token(CERTIFICATE)
    offer = dataclasses.replace(client.offer(), signing_key=public)
    lax: object = _LowOrderKey(public)
    answer = client.send(
        "POST",
        ENROLMENTS_PATH,
        offer.encode(),
        signers={"token": token.key, "shr": lax},  # type: ignore[dict-item]
    )
    assert (answer.status, answer.signed, answer.slug) == (401, False, "not-authenticated")
    assert running.store.pullers() == []


@pytest.mark.parametrize("shared", ["signing", "identity"])
def test_a_key_of_another_puller_is_refused(running: RunningAgent, shared: str) -> None:
    known = running.enrolled(CERTIFICATE)
    client = Client(running)
    setattr(client, shared, getattr(known, shared))
    answer = client.enrol(running.token(CERTIFICATE))
    assert (answer.status, answer.signed, answer.slug) == (422, True, "keys-refused")
    row = running.store.puller(known.id)
    assert row is not None
    assert row.status == PullerStatus.ACTIVE


def test_signing_and_sealing_need_two_keys(running: RunningAgent) -> None:
    client, token = Client(running), running.token(CERTIFICATE)
    offer = dataclasses.replace(client.offer(), sealing_key=client.signing.public.public)
    answer = client.send(
        "POST",
        ENROLMENTS_PATH,
        offer.encode(),
        signers={"token": token.key, "shr": client.signing},
    )
    assert (answer.status, answer.slug) == (422, "keys-refused")


def test_an_expired_token_is_refused_signed(running: RunningAgent) -> None:
    token = running.token(CERTIFICATE, lifetime=60)
    running.clock.now += 61
    answer = Client(running).enrol(token)
    assert (answer.status, answer.signed, answer.slug) == (403, True, "token-expired")


def test_a_voided_token_is_refused_signed(running: RunningAgent) -> None:
    token = running.token(CERTIFICATE)
    running.store.void_token(token.key.id, now=START)
    answer = Client(running).enrol(token)
    assert (answer.status, answer.signed, answer.slug) == (403, True, "token-expired")


@pytest.mark.parametrize("lifetime", [0, 59, 24 * 3600 + 1])
def test_a_token_lives_a_minute_to_a_day(running: RunningAgent, lifetime: int) -> None:
    with pytest.raises(ConfigurationError):
        running.token(CERTIFICATE, lifetime=lifetime)


def test_a_token_for_an_unknown_certificate_is_not_made(running: RunningAgent) -> None:
    with pytest.raises(PolicyError):
        running.token("unknown.example.com")
    assert running.store.tokens() == []


def test_the_clock_is_judged_before_the_token_is_used(running: RunningAgent) -> None:
    client, token = Client(running), running.token(CERTIFICATE)
    answer = client.enrol(token, created=START + 301)
    assert (answer.status, answer.signed, answer.slug) == (400, True, "clock")
    assert running.store.pullers() == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"host":1}', b"\xff"])
def test_a_malformed_offer_is_refused_unsigned(running: RunningAgent, body: bytes) -> None:
    token, client = running.token(CERTIFICATE), Client(running)
    answer = client.send(
        "POST",
        ENROLMENTS_PATH,
        body,
        signers={"token": token.key, "shr": client.signing},
    )
    assert (answer.status, answer.signed, answer.slug) == (400, False, "malformed-request")


@pytest.mark.parametrize("host", ["", "a\x1b[2J", "a\nb", "\u202eb"])
def test_a_host_name_that_could_steer_a_terminal_is_refused(
    running: RunningAgent, host: str
) -> None:
    answer = Client(running, host=host).enrol(running.token(CERTIFICATE))
    assert (answer.status, answer.signed, answer.slug) == (400, True, "malformed-request")
    assert running.store.pullers() == []


def test_the_token_carries_what_pins_the_agent(running: RunningAgent) -> None:
    token = running.token(CERTIFICATE)
    assert token.agent == running.key
    assert token.relay_url == f"https://{AUTHORITY}"
    assert token.tls_pin is not None
    assert token.seed.hex() not in repr(token)
    (row,) = running.store.tokens()
    assert row.public_key == token.key.public.public
    assert token.seed not in (running.settings.state_directory / "relay.db").read_bytes()


def test_of_many_racing_redeemers_exactly_one_wins(running: RunningAgent) -> None:
    token = running.token(CERTIFICATE)
    clients = [Client(running, f"racer{number}") for number in range(32)]
    start, statuses = threading.Barrier(len(clients)), [0] * len(clients)

    def race(number: int) -> None:
        start.wait(30)
        statuses[number] = clients[number].enrol(token, timeout=60).status

    threads = [threading.Thread(target=race, args=(n,)) for n in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 31
    assert len(running.store.pullers()) == 1
