"""Bundles, good and hostile: one reason to fail in each."""

from __future__ import annotations

import ipaddress
from base64 import urlsafe_b64encode
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.contract import strict_json
from shared.contract.bundle import REHEARSAL_TYPE, manifest_digest
from shared.contract.key_policy import key_to_der
from shared.contract.x509 import chain_to_pem, spki_sha256
from tests.vectors import chain_vectors, key_vectors
from tests.vectors.bundle_head import bundle_vector
from tests.vectors.vector import Vector
from tests.vectors.world import (
    AGENT,
    DAY,
    GENERATION,
    INTERMEDIATE,
    NAME,
    NOW,
    OTHER_AGENT,
    OTHER_IDENTITY,
    ROOT,
    Bundle,
    certificate,
    changed,
    ec_key,
    envelope,
    leaf,
    pae,
)


def good() -> list[Vector]:
    bundle = Bundle()
    pending = key_to_der(ec_key("Vector Leaf")).hex()
    ahead = NOW + 3600
    wildcard = Bundle(chain=(leaf("*.intra.example.com"), INTERMEDIATE))
    return [
        bundle_vector("good", "success", "a sealed key, as issued", bundle.encode()),
        bundle_vector(
            "good-puller-key",
            "success",
            "the key was made by the puller and waits there",
            changed(members={"key_origin": "puller"}),
            pending_key=pending,
            target_key_origin="puller",
        ),
        bundle_vector(
            "good-resumed",
            "success",
            "the same generation with the same digest: an install that was cut short",
            bundle.encode(),
            floor_generation=str(GENERATION),
            floor_digest=manifest_digest(bundle.payload()),
        ),
        bundle_vector(
            "good-hour-ahead",
            "success",
            "a generation an hour ahead",
            changed(members={"generation": ahead}),
        ),
        *_close_to_limits(),
        bundle_vector("good-wildcard", "success", "a wildcard serves one label", wildcard.encode()),
        bundle_vector(
            "good-begins-soon",
            "success",
            "the leaf begins in 300 s",
            changed(chain=(leaf(begin=NOW + 300), INTERMEDIATE)),
        ),
    ]


def _close_to_limits() -> list[Vector]:
    hundred = tuple(sorted(f"n{number}.example.com" for number in range(100)))
    longest = ".".join(["a" * 63] * 3 + ["b" * 57, "com"])
    long_id = "a" * 200
    assert len(longest) == 253
    return [
        bundle_vector(
            "good-names-100",
            "success",
            "a hundred names",
            changed(chain=(leaf(*hundred), INTERMEDIATE)),
            target_names=hundred[7],
        ),
        bundle_vector(
            "good-names-longest",
            "success",
            "a name of 253 characters, with labels of 63",
            changed(chain=(leaf(longest), INTERMEDIATE)),
            target_names=longest,
        ),
        bundle_vector(
            "good-id-200",
            "success",
            "an id of 200 characters",
            changed(members={"certificate": long_id}),
            target=long_id,
        ),
        bundle_vector(
            "good-last-second",
            "success",
            "the leaf ends in a second",
            changed(chain=(leaf(end=NOW + 1), INTERMEDIATE)),
        ),
    ]


def bad_envelopes() -> list[Vector]:
    """1. size and shape of the envelope."""
    fine = Bundle().encode()
    shape = Bundle().envelope()
    payload = shape["payload"]
    signature = shape["signatures"][0]

    def altered(**members: Any) -> bytes:
        return strict_json.encode(shape | members)

    def resigned(**members: Any) -> bytes:
        return altered(signatures=[signature | members])

    loose_end = payload.rstrip("=")
    cases: dict[str, tuple[str, bytes]] = {
        "empty": ("no octets at all", b""),
        "not-json": ("not JSON", b"-----BEGIN CERTIFICATE-----"),
        "not-utf8": ("an octet that UTF-8 never has", fine[:-2] + b"\xff" + fine[-2:]),
        "byte-order-mark": ("a byte order mark before the object", b"\xef\xbb\xbf" + fine),
        "array": ("an array, not an object", b"[" + fine + b"]"),
        "trailing-octets": ("a second object behind the first", fine + b"{}"),
        "too-large": ("larger than any bundle", b'{"payload":"' + b"A" * 360_000 + b'"}'),
        "nested-deep": ("a thousand arrays, one in the other", b'{"payload":' + b"[" * 1000),
        "member-twice": (
            "payload stands twice",
            b'{"payload":"",' + fine[1:],
        ),
        "member-unknown": ("a member that nobody asked for", altered(keyUrl="https://example.org")),
        "member-missing": (
            "no payloadType",
            strict_json.encode({k: v for k, v in shape.items() if k != "payloadType"}),
        ),
        "payload-type": (
            "another payloadType",
            altered(payloadType="application/vnd.in-toto+json"),
        ),
        "payload-base64url": (
            "base64url instead of base64",
            altered(payload=urlsafe_b64encode(b"\xfb\xff" * 30).decode()),
        ),
        "payload-base64-spaces": ("white space within base64", altered(payload=" " + payload)),
        "payload-base64-unpadded": ("padding left out", altered(payload=loose_end[:-1] + "A")),
        "payload-number": ("the payload is a number", altered(payload=7)),
        "signatures-none": ("no signature", altered(signatures=[])),
        "signatures-two": ("two signatures", altered(signatures=[signature, signature])),
        "signature-short": ("63 octets of signature", resigned(sig="A" * 84)),
        "signature-member": ("a certificate beside the signature", resigned(cert="x")),
        "keyid-upper-case": ("a key id in capitals", resigned(keyid=AGENT.id.upper())),
        "lone-surrogate": (
            "half of a surrogate pair",
            fine.replace(b'"payloadType":"application', b'"payloadType":"\\ud800application'),
        ),
    }
    return [
        bundle_vector(f"envelope-{name}", "bundle/malformed", comment, body)
        for name, (comment, body) in cases.items()
    ]


def bad_signatures() -> list[Vector]:
    """2. signature by the pinned agent key."""
    payload = Bundle().payload()
    shape = envelope(payload)
    sig = bytearray(strict_json.decode_base64(shape["signatures"][0]["sig"]) or b"")
    sig[7] ^= 1
    flipped = shape | {
        "signatures": [{"keyid": AGENT.id, "sig": strict_json.encode_base64(bytes(sig))}]
    }
    other = envelope(payload, OTHER_AGENT)
    claimed = other | {"signatures": [other["signatures"][0] | {"keyid": AGENT.id}]}
    swapped = shape | {
        "payload": strict_json.encode_base64(payload.replace(b'"generation":1', b'"generation":2'))
    }
    raw = envelope(payload, signed=payload)
    purpose = envelope(payload, signed=pae(payload, "application/octet-stream"))
    low = bytes.fromhex("01" + "00" * 31)
    low_shape = shape | {
        "signatures": [
            {
                "keyid": manifest_digest(low),
                "sig": strict_json.encode_base64(low + bytes(32)),
            }
        ]
    }
    cases = {
        "flipped-bit": ("one bit of the signature flipped", flipped),
        "payload-changed": ("another generation under the old signature", swapped),
        "other-agent": ("signed by another agent", other),
        "other-agent-claims": ("signed by another agent that claims our key id", claimed),
        "raw-payload": ("signed without DSSE's pre-authentication encoding", raw),
        "other-purpose": ("signed for another payload type", purpose),
    }
    vectors = [
        bundle_vector(
            f"signature-{name}", "bundle/bad-signature", comment, strict_json.encode(body)
        )
        for name, (comment, body) in cases.items()
    ]
    low_order = bundle_vector(
        "signature-low-order-key",
        "bundle/bad-signature",
        "the pinned key is of low order, under which this signature would fit everything",
        strict_json.encode(low_shape),
        agent=low.hex(),
    )
    return [*vectors, low_order]


def bad_payloads() -> list[Vector]:
    """3. shape of the payload."""
    members = Bundle().payload_members()
    hundred_and_one = sorted(f"n{number}.example.com" for number in range(101))

    def text(old: bytes, new: bytes) -> bytes:
        payload = Bundle().payload()
        if old not in payload:
            raise ValueError(old)
        return strict_json.encode(envelope(payload.replace(old, new)))

    generation = b'"generation":%d' % GENERATION
    cases: dict[str, tuple[str, bytes]] = {
        "not-object": ("a list", strict_json.encode(envelope(b"[]"))),
        "not-json": ("not JSON", strict_json.encode(envelope(b"generation=1"))),
        "format-2": ("a format to come", changed(members={"format": 2})),
        "format-true": ("true where 1 belongs", changed(members={"format": True})),
        "generation-float": ("1.0 is no integer here", text(generation, b'"generation":1.0')),
        "generation-exponent": ("1e3 is no integer here", text(generation, b'"generation":1e3')),
        "generation-zero": ("0", changed(members={"generation": 0})),
        "generation-negative": ("below zero", changed(members={"generation": -5})),
        "generation-2-63": ("2^63", changed(members={"generation": 2**63})),
        "generation-text": ("a string of digits", changed(members={"generation": "17"})),
        "generation-huge": (
            "five thousand digits",
            text(generation, b'"generation":' + b"9" * 5000),
        ),
        "member-twice": ("two generations", text(generation, generation + b"," + generation)),
        "member-unknown-path": ("a path to write to", changed(members={"path": "/etc/passwd"})),
        "member-unknown-command": (
            "a command to run",
            changed(members={"reload_command": ["/bin/sh", "-c", "id"]}),
        ),
        "certificate-traversal": (
            "an id that climbs",
            changed(members={"certificate": "../../etc/passwd"}),
        ),
        "certificate-dots": ("dots side by side", changed(members={"certificate": "a..b"})),
        "certificate-nul": ("NUL in the id", changed(members={"certificate": "www\0x"})),
        "certificate-crlf": ("CR LF in the id", changed(members={"certificate": "www\r\nx: y"})),
        "names-unsorted": (
            "not sorted",
            changed(members={"names": ["www.intra.example.com", "a.example.com"]}),
        ),
        "names-twice": ("a name twice", changed(members={"names": [NAME, NAME]})),
        "names-none": ("no name", changed(members={"names": []})),
        "names-capitals": ("capitals", changed(members={"names": ["WWW.intra.example.com"]})),
        "names-u-label": ("a U-label", changed(members={"names": ["bücher.example.com"]})),
        "names-101": ("a hundred and one names", changed(members={"names": hundred_and_one})),
        "names-number": ("a number among the names", changed(members={"names": [7]})),
        "key-origin": ("made by somebody else", changed(members={"key_origin": "escrow"})),
        "sealed-key-missing": ("no sealed key", changed(without=("sealed_key",))),
        "sealed-key-not-wanted": (
            "a sealed key though the puller made its own",
            changed(members={"key_origin": "puller", "sealed_key": members["sealed_key"]}),
        ),
        "digest-capitals": (
            "a digest in capitals",
            changed(members={"spki_sha256": members["spki_sha256"].upper()}),
        ),
    }
    cases |= {
        f"without-{name.replace('_', '-')}": (f"no {name}", changed(without=(name,)))
        for name in sorted(set(members) - {"sealed_key"})
    }
    return [
        bundle_vector(f"payload-{name}", "bundle/malformed", comment, body)
        for name, (comment, body) in cases.items()
    ]


def bad_name_members() -> list[Vector]:
    """3. The grammar of names (section 1), whatever the leaf is for."""
    long = ".".join(["a" * 49] * 5)
    cases = {
        "dot": ("a dot at the end", NAME + "."),
        "single-label": ("one label", "intranet"),
        "address": ("an IP address", "192.0.2.1"),
        "address-6": ("an IPv6 address", "2001:db8::1"),
        "numeric-top": ("a top-level domain of digits", "www.example.1"),
        "underscore": ("an underscore", "_acme.example.com"),
        "empty-label": ("an empty label", "www..example.com"),
        "hyphen-first": ("a label that begins with a hyphen", "-www.example.com"),
        "hyphen-last": ("a label that ends with a hyphen", "www-.example.com"),
        "label-64": ("a label of 64 characters", f"{'a' * 64}.example.com"),
        "254": ("254 characters", f"{long}.abcd"),
        "wildcard-inside": ("a wildcard that is not the first label", "www.*.example.com"),
        "wildcard-part": ("a wildcard for a part of a label", "w*.example.com"),
        "wildcard-top": ("a wildcard for every domain there is", "*.com"),
        "wildcard-alone": ("a wildcard of nothing", "*"),
        "newline": ("a newline at the end", NAME + "\n"),
        "escape": ("a terminal's escape sequence", "\x1b[2J.example.com"),
    }
    return [
        bundle_vector(
            f"payload-names-{kind}",
            "bundle/malformed",
            comment,
            changed(members={"names": [name]}),
        )
        for kind, (comment, name) in cases.items()
    ]


def other_purposes() -> list[Vector]:
    """A rehearsal's bundle is none, with its own type and under the other one's."""
    payload = Bundle().payload()
    as_rehearsal = envelope(payload, signed=pae(payload, REHEARSAL_TYPE))
    return [
        bundle_vector(
            "envelope-rehearsal",
            "bundle/malformed",
            "a bundle of a rehearsal",
            strict_json.encode(as_rehearsal | {"payloadType": REHEARSAL_TYPE}),
        ),
        bundle_vector(
            "signature-rehearsal",
            "bundle/bad-signature",
            "a bundle of a rehearsal that says it is to be installed",
            strict_json.encode(as_rehearsal),
        ),
    ]


def rehearsals() -> list[Vector]:
    """The same checks, for the other type."""
    payload = Bundle().payload()
    good = envelope(payload, signed=pae(payload, REHEARSAL_TYPE)) | {"payloadType": REHEARSAL_TYPE}
    return [
        bundle_vector("good", "success", "as an agent signs it", strict_json.encode(good)),
        bundle_vector(
            "to-be-installed",
            "bundle/malformed",
            "a bundle that is to be installed",
            Bundle().encode(),
        ),
        bundle_vector(
            "signature-to-be-installed",
            "bundle/bad-signature",
            "a bundle that is to be installed and says it is of a rehearsal",
            strict_json.encode(envelope(payload) | {"payloadType": REHEARSAL_TYPE}),
        ),
    ]


def wrong_parties() -> list[Vector]:
    """4. agent and recipient; 5. certificate and key origin."""
    return [
        bundle_vector(
            "agent-other",
            "bundle/wrong-agent",
            "our agent's signature under another agent's statement",
            changed(members={"agent": OTHER_AGENT.id}),
        ),
        bundle_vector(
            "recipient-other",
            "bundle/wrong-recipient",
            "meant for another puller",
            changed(members={"recipient": OTHER_IDENTITY.id}),
        ),
        bundle_vector(
            "certificate-other",
            "bundle/unknown-certificate",
            "a certificate that is no target here",
            changed(members={"certificate": "mail.intra.example.com"}),
        ),
        bundle_vector(
            "key-origin-planted",
            "bundle/key-origin-refused",
            "a key made by the agent for a target that makes its own",
            Bundle().encode(),
            target_key_origin="puller",
        ),
    ]


def bad_moments() -> list[Vector]:
    """6. generation; 7. dates."""
    old = Bundle(chain=(leaf(begin=NOW - 50 * DAY, end=NOW - 1), INTERMEDIATE))
    return [
        bundle_vector(
            "generation-stale",
            "bundle/stale-generation",
            "below what was installed already",
            Bundle().encode(),
            floor_generation=str(GENERATION + 1),
            floor_digest="ab" * 32,
        ),
        bundle_vector(
            "generation-conflict",
            "bundle/conflicting-generation",
            "the same generation with another content",
            Bundle().encode(),
            floor_generation=str(GENERATION),
            floor_digest="ab" * 32,
        ),
        bundle_vector(
            "generation-future",
            "bundle/future-generation",
            "an hour and a second ahead",
            changed(members={"generation": NOW + 3601}),
        ),
        bundle_vector(
            "generation-end-of-time",
            "bundle/future-generation",
            "the largest generation there is",
            changed(members={"generation": 2**53 - 1}),
        ),
        bundle_vector(
            "expires-now",
            "bundle/outside-validity",
            "the leaf's end is now",
            changed(chain=(leaf(begin=NOW - DAY, end=NOW), INTERMEDIATE)),
        ),
        bundle_vector("expired", "bundle/outside-validity", "expired a second ago", old.encode()),
        bundle_vector(
            "begins-later",
            "bundle/outside-validity",
            "begins in 301 s",
            changed(chain=(leaf(begin=NOW + 301), INTERMEDIATE)),
        ),
        bundle_vector(
            "not-after-differs",
            "bundle/outside-validity",
            "the manifest promises another end than the leaf",
            changed(members={"not_after": NOW + 90 * DAY}),
        ),
    ]


def bad_chains() -> list[Vector]:
    """8. the chain."""
    own_key = leaf(issuer="Vector Leaf")
    stranger = leaf(issuer="Stranger CA")
    stranger_ca = certificate(
        "Stranger CA", "Stranger Root", ca=True, begin=NOW - DAY, end=NOW + 400 * DAY
    )
    not_a_ca = leaf("ca.example.com", subject="Leaf as CA")
    by_leaf = leaf(issuer="Leaf as CA")
    expired = certificate(
        "Vector Intermediate", "Vector Root", ca=True, begin=NOW - 400 * DAY, end=NOW - DAY
    )
    forged = leaf(signed_by="Forger")
    client = leaf(usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    key_pem = (
        ec_key("Vector Leaf")
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )
    chain = chain_to_pem((leaf(), INTERMEDIATE))
    eleven = chain_to_pem((leaf(), *[INTERMEDIATE] * 10))
    untrusted: dict[str, tuple[str, bytes]] = {
        "stranger": ("a root that nobody trusts", changed(chain=(stranger, stranger_ca))),
        "self-signed": ("the leaf signed itself", changed(chain=(own_key,))),
        "no-intermediate": ("the link to the root is missing", changed(chain=(leaf(),))),
        "leaf-signs": (
            "signed by a leaf that is no CA",
            changed(chain=(by_leaf, not_a_ca, INTERMEDIATE)),
        ),
        "intermediate-expired": ("an expired link", changed(chain=(leaf(), expired))),
        "forged": (
            "the issuer's name, a forger's signature",
            changed(chain=(forged, INTERMEDIATE)),
        ),
        "client-auth": ("not for TLS servers", changed(chain=(client, INTERMEDIATE))),
        "no-usage": (
            "does not say what it is for",
            changed(chain=(leaf(usage=None), INTERMEDIATE)),
        ),
    }
    malformed: dict[str, tuple[str, bytes]] = {
        "eleven": ("eleven certificates", changed(chain_pem=eleven)),
        "empty": ("no certificate", changed(chain_pem="")),
        "with-key": ("a private key in the chain", changed(chain_pem=chain + key_pem)),
        "with-text": ("text before the chain", changed(chain_pem="subject=x\n" + chain)),
        "no-certificate": (
            "PEM around something else",
            changed(chain_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ),
    }
    root_only = bundle_vector(
        "chain-reordered",
        "bundle/untrusted-chain",
        "the intermediate stands where the leaf belongs",
        changed(
            chain_pem=chain_to_pem((INTERMEDIATE, leaf())),
            members={"not_after": int(INTERMEDIATE.not_valid_after_utc.timestamp())},
        ),
    )
    return [
        *[
            bundle_vector(f"chain-{name}", "bundle/untrusted-chain", comment, body)
            for name, (comment, body) in untrusted.items()
        ],
        *[
            bundle_vector(f"chain-{name}", "bundle/malformed", comment, body)
            for name, (comment, body) in malformed.items()
        ],
        root_only,
    ]


def bad_names() -> list[Vector]:
    """9. names."""
    address = x509.IPAddress(ipaddress.ip_address("192.0.2.1"))
    with_address = leaf(sans=(x509.DNSName(NAME), address))
    wildcard = Bundle(chain=(leaf("*.intra.example.com"), INTERMEDIATE))
    both = leaf(NAME, "extra.example.com")
    cases: dict[str, tuple[str, bytes, dict[str, str]]] = {
        "leaf-has-more": (
            "the leaf is for one name more than the manifest says",
            changed(chain=(both, INTERMEDIATE), members={"names": [NAME]}),
            {},
        ),
        "leaf-has-fewer": (
            "the manifest claims one name more than the leaf has",
            changed(members={"names": ["extra.example.com", NAME]}),
            {},
        ),
        "target-not-covered": (
            "the target wants a name that the leaf does not have",
            Bundle().encode(),
            {"target_names": f"{NAME},api.intra.example.com"},
        ),
        "wildcard-two-labels": (
            "a wildcard does not cover two labels",
            wildcard.encode(),
            {"target_names": "a.b.intra.example.com"},
        ),
        "wildcard-apex": (
            "a wildcard does not cover its own domain",
            wildcard.encode(),
            {"target_names": "intra.example.com"},
        ),
        "wildcard-wanted": (
            "a wanted wildcard needs itself",
            Bundle().encode(),
            {"target_names": "*.intra.example.com"},
        ),
        "address-in-leaf": (
            "an IP address beside the name",
            changed(chain=(with_address, INTERMEDIATE), members={"names": [NAME]}),
            {},
        ),
    }
    return [
        bundle_vector(f"names-{name}", "bundle/name-mismatch", comment, body, **head)
        for name, (comment, body, head) in cases.items()
    ]


def bad_keys() -> list[Vector]:
    """10. the key."""
    sealed = {
        "other-machine": ("sealed to another machine", changed(sealed_to=OTHER_IDENTITY)),
        "other-generation": (
            "sealed for another generation",
            changed(context={"generation": GENERATION - 1}),
        ),
        "other-certificate": (
            "sealed for another certificate",
            changed(context={"certificate": "mail.intra.example.com"}),
        ),
        "other-agent": ("sealed by another agent", changed(context={"agent": OTHER_AGENT.id})),
        "other-key": (
            "sealed for another public key",
            changed(context={"spki_sha256": spki_sha256(ec_key("Another Key"))}),
        ),
        "cut": (
            "cut short",
            changed(members={"sealed_key": strict_json.encode_base64(b"x" * 40)}),
        ),
    }
    mismatched = {
        "of-another-leaf": (
            "opens to another leaf's key",
            changed(key_der=key_to_der(ec_key("Another Key"))),
        ),
        "spki-not-the-leafs": (
            "the manifest names another public key than the leaf's",
            changed(
                members={"spki_sha256": spki_sha256(ec_key("Another Key"))},
                context={"spki_sha256": spki_sha256(ec_key("Another Key"))},
            ),
        ),
        "not-pending": (
            "made by the puller, which knows no such key",
            changed(members={"key_origin": "puller"}),
        ),
    }
    return [
        *[
            bundle_vector(f"seal-{name}", "bundle/seal-broken", comment, body)
            for name, (comment, body) in sealed.items()
        ],
        *[
            bundle_vector(f"key-{name}", "bundle/key-mismatch", comment, body)
            for name, (comment, body) in mismatched.items()
        ],
    ]


def vectors() -> list[Vector]:
    return [
        *good(),
        *bad_envelopes(),
        *bad_signatures(),
        *bad_payloads(),
        *bad_name_members(),
        *other_purposes(),
        *wrong_parties(),
        *bad_moments(),
        *bad_chains(),
        *chain_vectors.vectors(),
        *bad_names(),
        *bad_keys(),
        *key_vectors.vectors(),
    ]


def root_pem() -> bytes:
    return chain_to_pem([ROOT]).encode()
