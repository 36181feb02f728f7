"""The ten checks, each failing alone, and in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from internal_puller.state.floor import Floor
from internal_puller.trust import Accepted, Wanted, accept, describe
from shared.contract.bundle import MAX_ENVELOPE, Manifest, sign_bundle
from shared.contract.errors import (
    BadSignature,
    BundleError,
    ConflictingGeneration,
    FutureGeneration,
    KeyMismatch,
    KeyOriginRefused,
    MalformedBundle,
    NameMismatch,
    OutsideValidity,
    SealBroken,
    StaleGeneration,
    UnknownCertificate,
    UnsuitableKey,
    UntrustedChain,
    WrongAgent,
    WrongRecipient,
)
from shared.contract.key_policy import key_to_der
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import SigningKey
from shared.contract.x509 import chain_to_pem, spki_sha256
from tests.authority import Authority, Builder, common_authority, new_key
from tests.vectors.checks import accepted
from tests.vectors.vector import read_all

NOW = 1_790_000_000
NAME = "www.intra.example.com"
AGENT = SigningKey.generate()
IDENTITY = Identity.generate()
OTHER = Identity.generate()


@dataclasses.dataclass
class Case:
    """A good bundle, and what may be changed about it before it is signed."""

    names: tuple[str, ...] = (NAME,)
    key: ec.EllipticCurvePrivateKey = dataclasses.field(default_factory=new_key)
    ca: Authority = dataclasses.field(default_factory=common_authority)
    not_before: int = NOW - 60
    lifetime: int = 90 * 86400
    edit_leaf: Callable[[Builder], Builder] = lambda builder: builder
    server_auth: bool = True
    identity: Identity = IDENTITY
    generation: int = NOW
    sealed_for: dict[str, Any] = dataclasses.field(default_factory=dict)

    def manifest(self, **members: Any) -> Manifest:
        leaf = self.ca.leaf(
            self.names,
            self.key,
            not_before=self.not_before,
            lifetime=self.lifetime,
            edit=self.edit_leaf,
            server_auth=self.server_auth,
        )
        facts = {
            "agent": AGENT.id,
            "recipient": self.identity.id,
            "generation": self.generation,
            "spki_sha256": spki_sha256(leaf),
            "certificate": NAME,
        }
        context = SealContext(**facts | self.sealed_for)
        made: dict[str, Any] = facts | {
            "names": tuple(sorted(self.names)),
            "issued_at": NOW,
            "not_after": int(leaf.not_valid_after_utc.timestamp()),
            "key_origin": "agent",
            "chain": chain_to_pem(self.ca.chain(leaf)),
            "sealed_key": self.identity.recipient.seal(key_to_der(self.key), context),
        }
        return Manifest(**made | members)


def wanted(**members: Any) -> Wanted:
    facts: dict[str, Any] = {
        "certificate": NAME,
        "names": (NAME,),
        "own_key_only": False,
        "anchors": ((common_authority().root,),),
    }
    return Wanted(**facts | members)


def offer(
    manifest: Manifest | bytes,
    *,
    want: Wanted | None = None,
    floor: Floor | None = None,
    now: float = NOW,
    signed_by: SigningKey = AGENT,
    pending: dict[str, bytes] | None = None,
) -> Accepted:
    envelope = manifest if isinstance(manifest, bytes) else sign_bundle(manifest, signed_by)[0]
    return accept(
        envelope,
        agent=AGENT.public,
        identity=IDENTITY,
        wanted=want or wanted(),
        floor=floor,
        pending_keys=pending or {},
        now=now,
    )


def refuse(kind: type[BundleError], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(BundleError) as caught:
        offer(*args, **kwargs)
    assert type(caught.value) is kind, caught.value


def test_good_bundle() -> None:
    case = Case()
    found = offer(case.manifest())
    assert key_to_der(found.key) == key_to_der(case.key)
    assert found.floor.generation == NOW
    assert "PrivateKey" not in repr(found)


def test_1_envelope() -> None:
    refuse(MalformedBundle, b"")
    refuse(MalformedBundle, b"{" * 40)
    refuse(MalformedBundle, b" " * (MAX_ENVELOPE + 1))


def test_2_signature() -> None:
    refuse(BadSignature, Case().manifest(), signed_by=SigningKey.generate())


def test_3_payload() -> None:
    from shared.contract.bundle import PAYLOAD_TYPE
    from shared.contract.signing import sign_envelope

    refuse(MalformedBundle, sign_envelope(b'{"format":1}', PAYLOAD_TYPE, AGENT))


def test_4_parties() -> None:
    refuse(WrongAgent, Case().manifest(agent="0" * 64))
    refuse(WrongRecipient, Case(identity=OTHER).manifest())


def test_5_certificate_and_key_origin() -> None:
    refuse(UnknownCertificate, Case().manifest(certificate="app.example.org"))
    refuse(KeyOriginRefused, Case().manifest(), want=wanted(own_key_only=True))


def test_6_generation() -> None:
    manifest = Case().manifest()
    digest = offer(manifest).digest
    refuse(StaleGeneration, manifest, floor=Floor(NOW + 1, digest))
    refuse(ConflictingGeneration, manifest, floor=Floor(NOW, "0" * 64))
    assert offer(manifest, floor=Floor(NOW, digest)).floor == Floor(NOW, digest)
    assert offer(manifest, floor=Floor(NOW - 1, "0" * 64))
    assert offer(Case(generation=NOW + 3600).manifest())
    refuse(FutureGeneration, Case(generation=NOW + 3601).manifest())
    refuse(FutureGeneration, Case(generation=2**53 - 1).manifest())


def test_7_dates() -> None:
    manifest = Case().manifest()
    end = manifest.not_after
    far = Case(generation=1).manifest(not_after=end)
    assert offer(far, now=end - 1)
    refuse(OutsideValidity, far, now=end)
    refuse(OutsideValidity, Case().manifest(not_after=end + 1))
    assert offer(Case(not_before=NOW + 300).manifest())
    refuse(OutsideValidity, Case(not_before=NOW + 301).manifest())


def test_8_chain() -> None:
    refuse(UntrustedChain, Case(ca=Authority.make()).manifest())
    refuse(UntrustedChain, Case().manifest(), want=wanted(anchors=()))
    refuse(UntrustedChain, Case().manifest(), want=wanted(anchors=((),)))
    refuse(UntrustedChain, Case(server_auth=False).manifest())
    another = ((common_authority().root,), (Authority.make().root,))
    refuse(UntrustedChain, Case().manifest(), want=wanted(anchors=another))
    alone = chain_to_pem(x509.load_pem_x509_certificates(Case().manifest().chain.encode())[:1])
    refuse(UntrustedChain, Case().manifest(chain=alone), now=NOW)


def test_8_says_which_rule_was_broken() -> None:
    said = {
        "chain-sha1": "Certificate 1 of the chain is signed with another algorithm",
        "chain-wrong-order": "Certificate 2 of the chain did not sign certificate 1",
        "chain-with-root": "Certificate 3 of the chain is a root",
        "chain-issuer-rsa-1024": "breaks a rule of X.509 (RSA key is too weak)",
        "chain-no-intermediate": 'The chain ends at "Vector Intermediate", which is not trusted',
    }
    for vector in read_all("bundle"):
        if vector.name in said:
            with pytest.raises(UntrustedChain) as refused:
                accepted(vector)
            assert said.pop(vector.name) in refused.value.what
            assert ("--root" in refused.value.do) == (vector.name == "chain-no-intermediate")
    assert not said


def test_9_names() -> None:
    refuse(NameMismatch, Case().manifest(names=("app.example.org", NAME)))
    refuse(NameMismatch, Case(names=("app.example.org",)).manifest())
    refuse(NameMismatch, Case().manifest(), want=wanted(names=(NAME, "app.example.org")))
    with pytest.raises(NameMismatch) as refused:
        offer(Case().manifest(), want=wanted(names=(NAME, "app.example.org")))
    assert f"target change {NAME} --remove-name app.example.org" in refused.value.do
    wildcard = Case(names=("*.intra.example.com",))
    assert offer(wildcard.manifest())
    refuse(NameMismatch, wildcard.manifest(), want=wanted(names=("a.b.intra.example.com",)))
    refuse(NameMismatch, Case().manifest(), want=wanted(names=("*.intra.example.com",)))
    assert offer(wildcard.manifest(), want=wanted(names=("*.intra.example.com",)))


@pytest.mark.parametrize(
    "other",
    [
        {"generation": NOW - 1},
        {"certificate": "app.example.org"},
        {"spki_sha256": "0" * 64},
        {"agent": "0" * 64},
    ],
)
def test_10_seal_for_something_else(other: dict[str, Any]) -> None:
    refuse(SealBroken, Case(sealed_for=other).manifest())


def test_10_key() -> None:
    refuse(SealBroken, Case().manifest(sealed_key=b"nothing"))
    refuse(KeyMismatch, Case().manifest(spki_sha256="0" * 64))
    case = Case()
    manifest = case.manifest()
    context = SealContext(AGENT.id, IDENTITY.id, NOW, manifest.spki_sha256, NAME)
    swapped = IDENTITY.recipient.seal(key_to_der(new_key()), context)
    refuse(KeyMismatch, dataclasses.replace(manifest, sealed_key=swapped))
    nonsense = IDENTITY.recipient.seal(b"not a key", context)
    refuse(UnsuitableKey, dataclasses.replace(manifest, sealed_key=nonsense))


def test_10_key_of_our_own() -> None:
    case = Case()
    manifest = case.manifest(key_origin="puller", sealed_key=None)
    refuse(KeyMismatch, manifest)
    ours = {manifest.spki_sha256: key_to_der(case.key)}
    assert offer(manifest, pending=ours, want=wanted(own_key_only=True)).key
    refuse(KeyMismatch, manifest, pending={manifest.spki_sha256: key_to_der(new_key())})


def test_certificate_whose_extensions_do_not_parse() -> None:
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.35"), b"\x30\x80")

    def edit(builder: Builder) -> Builder:
        kept = [one for one in builder._extensions if one.oid != broken.oid]
        builder = Builder(
            builder._issuer_name,
            builder._subject_name,
            builder._public_key,
            builder._serial_number,
            builder._not_valid_before,
            builder._not_valid_after,
            kept,
        )
        return builder.add_extension(broken, critical=False)

    with pytest.raises(BundleError):
        offer(Case(edit_leaf=edit).manifest())


def test_first_failing_check_decides() -> None:
    """Every later check would fail too."""
    bad = Case(ca=Authority.make(), names=("app.example.org",), generation=NOW + 9999)
    manifest = bad.manifest(spki_sha256="0" * 64, certificate="other", agent="0" * 64)
    refuse(BadSignature, manifest, signed_by=SigningKey.generate())
    refuse(WrongAgent, manifest)
    refuse(UnknownCertificate, dataclasses.replace(manifest, agent=AGENT.id))
    manifest = dataclasses.replace(manifest, agent=AGENT.id, certificate=NAME)
    refuse(FutureGeneration, manifest)
    manifest = dataclasses.replace(manifest, generation=NOW)
    refuse(OutsideValidity, manifest, now=NOW + 365 * 86400)
    refuse(UntrustedChain, manifest)
    roots = wanted(anchors=((bad.ca.root,),))
    refuse(NameMismatch, manifest, want=roots)
    fitting = dataclasses.replace(roots, names=("app.example.org",))
    refuse(KeyMismatch, manifest, want=fitting)


def test_describe_names_the_manifest_or_the_bytes() -> None:
    envelope, digest = sign_bundle(Case().manifest(), AGENT)
    assert describe(envelope, AGENT.public) == (digest, NOW)
    stranger = describe(envelope, SigningKey.generate().public)
    assert stranger[0] != digest
    assert stranger[1] is None
    assert len(describe(b"nonsense", AGENT.public)[0]) == 64
