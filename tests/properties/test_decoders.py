"""No bytes make a decoder, or the trust rules, raise anything but their own family of errors."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from internal_puller.sources.agent.peer_key import NotACertificate
from internal_puller.sources.agent.peer_key import spki_sha256 as peer_spki
from internal_puller.state.floor import Floor
from internal_puller.state.progress import Progress
from internal_puller.trust import Wanted, accept, describe
from shared.contract.batches import BatchAnswer, Refusal, decode_batch, encode_batch
from shared.contract.bundle import PAYLOAD_TYPE, Manifest, parse_envelope, sign_bundle
from shared.contract.enrolment_token import PREFIX, EnrolmentToken
from shared.contract.errors import (
    BundleError,
    MalformedBundle,
    MalformedMessage,
    RelayError,
    SignatureMalformed,
    TokenExpired,
    TokenMalformed,
)
from shared.contract.http_signatures import SignedTarget, parse_signatures, sign_request
from shared.contract.key_policy import key_to_der
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import SigningKey, sign_envelope
from shared.contract.wire import (
    BundleAnswer,
    EnrolmentAnswer,
    EnrolmentRequest,
    Grant,
    Listing,
    Offer,
    Problem,
    Receipt,
)
from shared.contract.x509 import chain_to_pem, spki_sha256
from tests.authority import common_authority, new_key

NOW = 1_790_000_000
NAME = "www.intra.example.com"
AGENT = SigningKey(hashlib.sha256(b"agent").digest())
IDENTITY = Identity(hashlib.sha256(b"identity").digest())
KEY = new_key()
LEAF = common_authority().leaf((NAME,), KEY, not_before=NOW - 60)
CONTEXT = SealContext(AGENT.id, IDENTITY.id, NOW, spki_sha256(LEAF), NAME)
MANIFEST = Manifest(
    agent=AGENT.id,
    recipient=IDENTITY.id,
    certificate=NAME,
    names=(NAME,),
    generation=NOW,
    issued_at=NOW,
    not_after=int(LEAF.not_valid_after_utc.timestamp()),
    key_origin="agent",
    spki_sha256=spki_sha256(LEAF),
    chain=chain_to_pem(common_authority().chain(LEAF)),
    sealed_key=IDENTITY.recipient.seal(key_to_der(KEY), CONTEXT),
)
ENVELOPE, DIGEST = sign_bundle(MANIFEST, AGENT)
WANTED = Wanted(NAME, (NAME,), False, ((common_authority().root,),))
TOKEN = EnrolmentToken("https://relay.example.com:8443", AGENT.public, b"s" * 32, "0" * 64, NOW)
GRANT = Grant(NAME, (NAME,))


def _receipts(data: bytes) -> tuple[Receipt | MalformedMessage, ...]:
    """One that cannot be read is told in its place, so it is no error of the whole."""
    return decode_batch(data, "receipts", Receipt.read)


MESSAGES: list[tuple[Callable[[bytes], Any], bytes]] = [
    (EnrolmentRequest.decode, EnrolmentRequest(b"k" * 32, b"s" * 32, "host", NOW).encode()),
    (EnrolmentAnswer.decode, EnrolmentAnswer("0" * 64, (GRANT,)).encode()),
    (Listing.decode, Listing.of((Offer(NAME, (NAME,), NOW, NOW, "agent", False),), 60).encode()),
    (BundleAnswer.decode, BundleAnswer(NOW, ENVELOPE).encode()),
    (
        _receipts,
        encode_batch(
            "receipts",
            [Receipt(NAME, NOW, "0" * 64, "installed", "none", (), NOW).encode().decode()],
        ),
    ),
    (BatchAnswer.decode, BatchAnswer((Refusal(3, "certificate-unknown", "no"),)).encode()),
    (Problem.decode, Problem("clock", "Clock", 400, "wrong").encode()),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["agent", "puller", "0" * 64, NAME, "\0", "\ud800", 2**53, -1, 10**20]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
Mutation = list[tuple[float, int, bytes]]
mutations = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 6),
        st.binary(max_size=6)
        | st.sampled_from([b'"', b"{", b"]", b"\\u0000", b"\xff", b",", b"-1"]),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, mutation: Mutation) -> bytes:
    for place, removed, inserted in mutation:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    return data


def with_members(data: bytes, changes: dict[str, Any]) -> bytes:
    document = json.loads(data)
    for index, (name, value) in enumerate(changes.items()):
        document[name if index % 3 == 0 else sorted(document)[index % len(document)]] = value
    return json.dumps(document).encode("utf-8", errors="surrogatepass")


def only(
    family: type[RelayError] | tuple[type[RelayError], ...], action: Callable[[], Any]
) -> None:
    with contextlib.suppress(family):
        action()


def trusted(envelope: bytes) -> None:
    only(
        BundleError,
        lambda: accept(
            envelope,
            agent=AGENT.public,
            identity=IDENTITY,
            wanted=WANTED,
            floor=Floor(NOW, DIGEST),
            pending_keys={},
            now=NOW,
        ),
    )
    describe(envelope, AGENT.public)


def resigned(payload: bytes) -> bytes:
    return sign_envelope(payload, PAYLOAD_TYPE, AGENT)


@given(st.binary(max_size=300))
@example(b"\xff")
@example(b"[" * 5000)
@example(b"1" * 5000)
@example(b'{"a":"\\ud800"}')
def test_any_bytes(data: bytes) -> None:
    only(MalformedBundle, lambda: parse_envelope(data))
    only(MalformedBundle, lambda: Manifest.decode(data))
    for decode, _ in MESSAGES:
        only(MalformedMessage, lambda decode=decode: decode(data))
    trusted(data)
    trusted(resigned(data))
    Progress.decode(data)


@given(mutations)
def test_changed_bundles(mutation: Mutation) -> None:
    trusted(mutate(ENVELOPE, mutation))
    payload = mutate(MANIFEST.encode(), mutation)
    only(MalformedBundle, lambda: Manifest.decode(payload))
    trusted(resigned(payload))


@given(st.dictionaries(st.text(max_size=12), json_values, min_size=1, max_size=4))
def test_bundles_with_other_members(changes: dict[str, Any]) -> None:
    trusted(resigned(with_members(MANIFEST.encode(), changes)))
    trusted(with_members(ENVELOPE, changes))


@given(mutations)
def test_changed_certificates(mutation: Mutation) -> None:
    """Hostile DER, signed by an agent that was broken into."""
    from cryptography.hazmat.primitives.serialization import Encoding

    der = mutate(LEAF.public_bytes(Encoding.DER), mutation)
    lines = base64.encodebytes(der).decode().replace("\n", "")
    pem = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
    rest = chain_to_pem(common_authority().chain(LEAF)[1:])
    members = json.loads(MANIFEST.encode()) | {"chain": pem + rest}
    trusted(resigned(json.dumps(members).encode()))
    with contextlib.suppress(NotACertificate):
        peer_spki(der)


@given(st.sampled_from(MESSAGES), mutations)
def test_changed_messages(
    message: tuple[Callable[[bytes], Any], bytes], mutation: Mutation
) -> None:
    decode, good = message
    decode(good)
    only(MalformedMessage, lambda: decode(mutate(good, mutation)))


@given(
    st.sampled_from(MESSAGES),
    st.dictionaries(st.text(max_size=12), json_values, min_size=1, max_size=3),
)
def test_messages_with_other_members(
    message: tuple[Callable[[bytes], Any], bytes], changes: dict[str, Any]
) -> None:
    decode, good = message
    only(MalformedMessage, lambda: decode(with_members(good, changes)))


@given(st.text(max_size=200) | st.text("ABCDEFabc0189_-=", max_size=200).map(PREFIX.__add__))
def test_any_token(line: str) -> None:
    only((TokenMalformed, TokenExpired), lambda: EnrolmentToken.decode(line, now=NOW))


@given(mutations, st.dictionaries(st.text(max_size=8), json_values, max_size=3))
@example([(0.0, 0, b"")], {"url": "https://[relay.example.com"})
def test_changed_tokens_with_a_right_checksum(mutation: Mutation, changes: dict[str, Any]) -> None:
    encoded = TOKEN.encode().removeprefix(PREFIX)
    body = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))[:-4]
    for changed in (mutate(body, mutation), with_members(body, changes)):
        checked = changed + hashlib.sha256(changed).digest()[:4]
        line = PREFIX + base64.urlsafe_b64encode(checked).rstrip(b"=").decode()
        only((TokenMalformed, TokenExpired), lambda line=line: EnrolmentToken.decode(line, now=NOW))


@given(st.text(max_size=200), st.text(max_size=100), mutations)
def test_any_signature_headers(inputs: str, signature: str, mutation: Mutation) -> None:
    only(SignatureMalformed, lambda: parse_signatures(inputs, signature))
    target = SignedTarget("GET", "relay.example.com", "/v1/certificates")
    nonce = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
    good = sign_request(target, b"", {"shr": AGENT}, created=NOW, nonce=nonce)
    for name in good:
        bad = dict(good)
        bad[name] = mutate(good[name].encode(), mutation).decode("latin-1")
        only(
            SignatureMalformed,
            lambda bad=bad: parse_signatures(bad["Signature-Input"], bad["Signature"]),
        )


@given(st.binary(max_size=200))
def test_any_bytes_for_the_peer_key_reader(data: bytes) -> None:
    with contextlib.suppress(NotACertificate):
        peer_spki(data)


def test_peer_key_reader_agrees_with_the_parser() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding

    keys = [new_key(), rsa.generate_private_key(65537, 2048)]
    for key in keys:
        leaf = common_authority().leaf([NAME] * 60, key, not_before=NOW)  # type: ignore[arg-type]
        der = leaf.public_bytes(Encoding.DER)
        assert peer_spki(der) == spki_sha256(leaf)
        for cut in (0, 1, 5, 40, len(der) - 1):
            with pytest.raises(NotACertificate):
                peer_spki(der[:cut])
        with pytest.raises(NotACertificate):
            peer_spki(der + b"\0")
