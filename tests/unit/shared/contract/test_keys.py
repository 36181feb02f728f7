"""Signing and sealing: what verifies, what opens, and what keys are refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract.errors import BadSignature, KeysRefused, MalformedBundle, SealBroken
from shared.contract.sealing import Identity, Recipient, SealContext
from shared.contract.signing import Envelope, SigningKey, VerifyKey, sign_envelope

KIND = "application/vnd.example+json"
# Points of low order on Curve25519, in Montgomery and in Edwards form.
LOW_MONTGOMERY = [bytes(32), b"\1" + bytes(31)]
LOW_EDWARDS = [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]


def test_a_signature_verifies_and_a_changed_one_does_not() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"message")
    key.public.verify(signature, b"message")
    for wrong_signature, message in [
        (signature, b"massage"),
        (signature[:-1], b"message"),
        (bytes(64), b"message"),
        (b"", b"message"),
    ]:
        with pytest.raises(BadSignature):
            key.public.verify(wrong_signature, message)


@pytest.mark.parametrize("public", LOW_EDWARDS)
@pytest.mark.parametrize("message", [b"one", b"another"])
def test_a_low_order_key_verifies_nothing(public: bytes, message: bytes) -> None:
    for signature in (public + bytes(32), bytes(64), b"\1" + bytes(63)):
        with pytest.raises(BadSignature):
            VerifyKey(public).verify(signature, message)


@pytest.mark.parametrize("public", LOW_MONTGOMERY)
def test_nothing_is_sealed_to_a_low_order_key(public: bytes) -> None:
    with pytest.raises(KeysRefused):
        Recipient(public)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_size(size: int) -> None:
    for make in (VerifyKey, SigningKey, Recipient, Identity):
        with pytest.raises(KeysRefused):
            make(bytes(size))


def test_no_representation_shows_a_secret() -> None:
    signing, identity = SigningKey(b"s" * 32), Identity(b"i" * 32)
    shown = f"{signing!r} {signing} {identity!r} {identity}"
    assert "ssss" not in shown
    assert "iiii" not in shown
    assert signing.seed().hex() not in shown


@given(st.binary(max_size=3000))
def test_what_is_sealed_opens_for_the_same_context_only(secret: bytes) -> None:
    identity = Identity.generate()
    context = SealContext("ab" * 32, identity.id, 17, "cd" * 32, "www.example.com")
    sealed = identity.recipient.seal(secret, context)
    assert identity.open(sealed, context) == secret
    for change in (
        {"agent": "00" * 32},
        {"generation": 18},
        {"spki_sha256": "00" * 32},
        {"certificate": "www.example.co"},
    ):
        with pytest.raises(SealBroken):
            identity.open(sealed, dataclasses.replace(context, **change))
    with pytest.raises(SealBroken):
        Identity.generate().open(sealed, context)
    with pytest.raises(KeysRefused):
        identity.recipient.seal(secret, dataclasses.replace(context, recipient="00" * 32))


@given(st.binary(max_size=500))
def test_no_bytes_open(data: bytes) -> None:
    identity = Identity(b"i" * 32)
    context = SealContext("ab" * 32, identity.id, 17, "cd" * 32, "www.example.com")
    with pytest.raises(SealBroken):
        identity.open(data, context)


def test_an_envelope_opens_with_its_own_key_only() -> None:
    key = SigningKey.generate()
    data = sign_envelope(b"payload", KIND, key)
    envelope = Envelope.parse(data, KIND, max_payload=100)
    assert envelope.open(key.public) == b"payload"
    with pytest.raises(BadSignature):
        envelope.open(SigningKey.generate().public)
    with pytest.raises(MalformedBundle):
        Envelope.parse(data, KIND + "x", max_payload=100)
    with pytest.raises(MalformedBundle):
        Envelope.parse(data, KIND, max_payload=3)
