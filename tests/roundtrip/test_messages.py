"""What one side writes the other reads back: bundles, messages of the API, tokens, sealed keys."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract.batches import BatchAnswer, Refusal, decode_batch, encode_batch
from shared.contract.bundle import (
    PAYLOAD_TYPE,
    REHEARSAL_TYPE,
    Manifest,
    manifest_digest,
    parse_envelope,
    sign_bundle,
)
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import BadSignature, MalformedBundle, MalformedMessage
from shared.contract.identifiers import MAX_NAMES, DnsName
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import SigningKey, sign_envelope
from shared.contract.strict_json import MAX_INTEGER
from shared.contract.wire import (
    OUTCOMES,
    RECEIPT_ERRORS,
    BundleAnswer,
    DirectReport,
    EnrolmentAnswer,
    EnrolmentRequest,
    Grant,
    Listing,
    Offer,
    Problem,
    Receipt,
    Served,
)

AGENT = SigningKey(hashlib.sha256(b"agent").digest())
IDENTITY = Identity(hashlib.sha256(b"identity").digest())

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=60)
integers = st.integers(0, MAX_INTEGER)
generations = st.integers(1, MAX_INTEGER)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
keys = st.binary(min_size=32, max_size=32)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
ids = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
dns_names = st.builds(
    lambda wild, label: f"{'*.' if wild else ''}{label}.example.com", st.booleans(), labels
)
name_sets = st.sets(dns_names, min_size=1, max_size=12).map(lambda found: tuple(sorted(found)))
origins = st.sampled_from(("agent", "puller"))

manifests = st.builds(
    Manifest,
    agent=st.just(AGENT.id),
    recipient=st.just(IDENTITY.id),
    certificate=ids,
    names=name_sets,
    generation=generations,
    issued_at=integers,
    not_after=integers,
    key_origin=st.just("agent"),
    spki_sha256=digests,
    chain=texts,
    sealed_key=st.binary(min_size=1, max_size=300),
) | st.builds(
    Manifest,
    agent=digests,
    recipient=digests,
    certificate=ids,
    names=name_sets,
    generation=generations,
    issued_at=integers,
    not_after=integers,
    key_origin=st.just("puller"),
    spki_sha256=digests,
    chain=texts,
    sealed_key=st.none(),
)
offers = st.builds(Offer, ids, name_sets, integers, integers, origins, st.booleans())
versions = st.from_regex(r"[A-Za-z0-9._~-]{1,64}", fullmatch=True)
served = st.builds(Served, digests, integers, st.none() | texts)
receipts = st.builds(
    Receipt,
    ids,
    integers,
    digests,
    st.sampled_from(sorted(OUTCOMES)),
    st.sampled_from(sorted(RECEIPT_ERRORS)),
    st.lists(served, max_size=4).map(tuple),
    integers,
)
reports = st.builds(
    DirectReport,
    ids,
    name_sets,
    integers,
    integers,
    st.none() | digests,
    integers,
    st.sampled_from(sorted(OUTCOMES)),
    st.just("issuance/rejected"),
    st.lists(served, max_size=4).map(tuple),
    integers,
)
MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    EnrolmentRequest: st.builds(EnrolmentRequest, keys, keys, texts, integers),
    EnrolmentAnswer: st.builds(
        EnrolmentAnswer,
        digests,
        st.lists(st.builds(Grant, ids, name_sets), max_size=5).map(tuple),
    ),
    Listing: st.builds(Listing, st.lists(offers, max_size=5).map(tuple), integers, versions),
    BundleAnswer: st.builds(BundleAnswer, integers, st.none() | texts.map(str.encode)),
    BatchAnswer: st.builds(
        BatchAnswer,
        st.lists(st.builds(Refusal, st.integers(0, 99), st.just("quota"), texts), max_size=5).map(
            tuple
        ),
    ),
    Problem: st.builds(Problem, ids, texts, st.integers(400, 599), texts),
}


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_messages(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    octets = message.encode()
    assert kind.decode(octets) == message
    assert kind.decode(octets).encode() == octets


@pytest.mark.parametrize(("kind", "one"), [(Receipt, receipts), (DirectReport, reports)])
@given(data=st.data())
def test_what_travels_together(
    kind: type[Any], one: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    sent = data.draw(st.lists(one, min_size=1, max_size=5).map(tuple))
    body = encode_batch("receipts", [each.encode().decode() for each in sent])
    assert decode_batch(body, "receipts", kind.read) == sent


@given(offers=st.lists(offers, max_size=5).map(tuple), one=integers, other=integers)
def test_the_version_of_a_listing_names_its_offers_only(
    offers: tuple[Offer, ...], one: int, other: int
) -> None:
    assert Listing.of(offers, one).version == Listing.of(offers, other).version


@given(manifests)
def test_manifests_in_their_bundles(manifest: Manifest) -> None:
    envelope, digest = sign_bundle(manifest, AGENT)
    payload = parse_envelope(envelope).open(AGENT.public)
    assert Manifest.decode(payload) == manifest
    assert payload == manifest.encode()
    assert digest == manifest_digest(payload)


@given(st.binary(max_size=500))
def test_envelopes(payload: bytes) -> None:
    signed = parse_envelope(sign_envelope(payload, PAYLOAD_TYPE, AGENT))
    assert signed.open(AGENT.public) == payload


@given(
    host=dns_names.filter(lambda name: "*" not in name) | st.sampled_from(("192.0.2.1", "[::1]")),
    port=st.none() | st.integers(1, 65535),
    seed=keys,
    pin=st.none() | digests,
    expires=st.integers(1, 2**40),
)
def test_tokens(host: str, port: int | None, seed: bytes, pin: str | None, expires: int) -> None:
    url = f"https://{host}" + ("" if port in (None, 443) else f":{port}")
    token = EnrolmentToken(url, AGENT.public, seed, pin, expires)
    line = token.encode()
    assert line.isascii() and line.isprintable() and " " not in line
    found = EnrolmentToken.decode(f"  {line}\n", now=expires - 1)
    assert (found.relay_url, found.agent.id, found.seed) == (url, AGENT.id, seed)
    assert (found.tls_pin, found.expires_at) == (pin, expires)
    assert found.key.id == token.key.id


@given(keys, generations, digests, ids, st.binary(min_size=1, max_size=2500))
def test_sealed_keys(seed: bytes, generation: int, spki: str, certificate: str, key: bytes) -> None:
    identity = Identity(seed)
    context = SealContext(AGENT.id, identity.id, generation, spki, certificate)
    assert identity.open(identity.recipient.seal(key, context), context) == key


@given(name_sets)
def test_names(names: tuple[str, ...]) -> None:
    assert len(names) <= MAX_NAMES
    for name in names:
        parsed = DnsName.parse(name)
        assert DnsName.parse(str(parsed)) == parsed == name
        assert DnsName.parse(name.upper()) == parsed


@pytest.mark.parametrize("version", ["", "a b", "a/b", "a&wait=0", "é", "a\n", "x" * 65])
def test_a_state_with_another_kind_of_name_is_refused(version: str) -> None:
    with pytest.raises(MalformedMessage, match="'version'"):
        Listing.decode(Listing((), 60, version).encode())


@given(manifests)
def test_a_rehearsals_bundle_passes_for_no_other(manifest: Manifest) -> None:
    types = (PAYLOAD_TYPE, REHEARSAL_TYPE)
    for mine, other in (types, types[::-1]):
        envelope, _ = sign_bundle(manifest, AGENT, payload_type=mine)
        assert parse_envelope(envelope, payload_type=mine).open(AGENT.public)
        with pytest.raises(MalformedBundle):
            parse_envelope(envelope, payload_type=other)
        claimed = envelope.replace(mine.encode(), other.encode())
        with pytest.raises(BadSignature):
            parse_envelope(claimed, payload_type=other).open(AGENT.public)
