"""The lab CA believes no request that RFC 8555 section 6 tells it not to believe."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.lab import LabCa

from .raw_client import RawClient, b64, jwk_of, jws, new_key

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["ES256", "ES384", "ES512", "RS256", "EdDSA"],
)
def test_every_usual_account_key_works(ca: LabCa, key: Any) -> None:
    with RawClient(ca, key) as client:
        assert client.register().status == 201
        assert client.post(str(client.kid)).json["status"] == "valid"


def test_a_nonce_is_good_once(client: RawClient) -> None:
    body = client.signed(str(client.kid))
    assert client.send(str(client.kid), body).status == 200
    again = client.send(str(client.kid), body)
    assert (again.status, again.problem) == (400, "badNonce")
    assert client.nonce is not None, "a refusal carries a fresh nonce"
    assert client.post(str(client.kid)).status == 200


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"nonce": "made-up"}, 400, "badNonce"),
        ({"nonce": None}, 400, "badNonce"),
        ({"url": "https://ca.example.net/account/1"}, 401, "unauthorized"),
        ({"url": None}, 401, "unauthorized"),
        ({"alg": "ES384"}, 400, "malformed"),
        ({"alg": "HS256"}, 400, "badSignatureAlgorithm"),
        ({"alg": "none"}, 400, "badSignatureAlgorithm"),
        ({"kid": "https://127.0.0.1/account/none"}, 400, "accountDoesNotExist"),
        ({"jwk": {}}, 400, "malformed"),
        ({"kid": None}, 400, "malformed"),
        ({"crit": ["x"]}, 400, "malformed"),
    ],
    ids=str,
)
def test_a_bad_header_is_refused(
    client: RawClient, changes: dict[str, Any], status: int, problem: str
) -> None:
    reply = client.post(str(client.kid), **changes)
    assert (reply.status, reply.problem) == (status, problem)


def test_jwk_where_kid_belongs_is_refused(client: RawClient) -> None:
    reply = client.post(client.directory["newOrder"], {}, kid=None, jwk=jwk_of(client.key))
    assert reply.problem == "malformed"


def test_kid_where_jwk_belongs_is_refused(client: RawClient) -> None:
    assert client.post(client.directory["newAccount"], {}).problem == "malformed"


def test_the_signature_of_another_key_is_refused(client: RawClient) -> None:
    assert client.post(str(client.kid), key=new_key()).problem == "malformed"


def test_a_changed_payload_is_refused(client: RawClient) -> None:
    body = client.signed(str(client.kid), {"contact": []})
    body["payload"] = b64(json.dumps({"status": "deactivated"}).encode())
    assert client.send(str(client.kid), body).problem == "malformed"
    assert client.ca.accounts[0].status == "valid"


def test_the_content_type_matters(client: RawClient) -> None:
    reply = client.send(str(client.kid), client.signed(str(client.kid)), "application/json")
    assert (reply.status, reply.problem) == (415, "malformed")


@pytest.mark.parametrize("extra", [{"header": {}}, {"signatures": []}], ids=str)
def test_only_a_flattened_jws_is_accepted(client: RawClient, extra: dict[str, Any]) -> None:
    body = client.signed(str(client.kid)) | extra
    assert client.send(str(client.kid), body).problem == "malformed"


@pytest.mark.parametrize("part", ["protected", "payload", "signature"])
def test_padding_is_refused(client: RawClient, part: str) -> None:
    body = client.signed(str(client.kid))
    body[part] += "=" * (-len(body[part]) % 4 or 4)
    assert client.send(str(client.kid), body).problem == "malformed"


def test_nothing_but_the_public_resources_is_read_by_get(client: RawClient) -> None:
    reply = client.request("GET", str(client.kid))
    assert (reply.status, reply.problem) == (405, "malformed")
    assert client.request("GET", client.directory["newNonce"]).status == 204
    assert client.request("HEAD", client.directory["newNonce"]).status == 200


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": b64(bytes(32)), "y": b64(bytes(32))},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        jwk_of(new_key()) | {"d": b64(b"secret")},
        jwk_of(rsa.generate_private_key(65537, 1024)),
    ],
    ids=lambda jwk: str(jwk.get("kty")),
)
def test_a_bad_account_key_is_refused(ca: LabCa, jwk: dict[str, str]) -> None:
    with RawClient(ca) as client:
        reply = client.post(client.directory["newAccount"], {}, jwk=jwk)
        assert reply.problem == "badPublicKey"
    assert ca.accounts == []


def test_the_log_tells_what_happened(ca: LabCa, client: RawClient) -> None:
    client.post(str(client.kid), nonce="made-up")
    assert [(e.resource, e.status, e.outcome) for e in ca.log][-2:] == [
        ("newAccount", 201, "ok"),
        ("account", 400, "badNonce"),
    ]


def test_a_deactivated_account_can_do_nothing(ca: LabCa, client: RawClient) -> None:
    assert client.post(str(client.kid), {"status": "deactivated"}).status == 200
    assert (client.post(str(client.kid)).status, ca.accounts[0].status) == (401, "deactivated")
    assert client.new_order("www.intra.example.com").problem == "unauthorized"
    assert client.register().problem == "unauthorized"


# --- accounts ---


def test_the_same_key_is_the_same_account(ca: LabCa, client: RawClient) -> None:
    kid = client.kid
    assert client.register(onlyReturnExisting=True).status == 200
    assert client.kid == kid
    with RawClient(ca) as stranger:
        reply = stranger.register(onlyReturnExisting=True)
        assert (reply.status, reply.problem) == (400, "accountDoesNotExist")
    assert len(ca.accounts) == 1


@pytest.mark.parametrize(
    ("contact", "problem"),
    [
        (["tel:+15551234"], "unsupportedContact"),
        (["mailto:nobody"], "invalidContact"),
        (["mailto:a@example.com,b@example.com"], "invalidContact"),
        ("mailto:a@example.com", "malformed"),
    ],
)
def test_contacts_are_checked(client: RawClient, contact: Any, problem: str) -> None:
    assert client.post(str(client.kid), {"contact": contact}).problem == problem
    changed = client.post(str(client.kid), {"contact": ["mailto:b@example.com"]})
    assert changed.json["contact"] == ["mailto:b@example.com"]


def test_terms_must_be_agreed_to(make_ca: Any) -> None:
    with RawClient(make_ca(terms_of_service="https://ca.example.net/terms")) as client:
        assert client.register().problem == "userActionRequired"
        assert client.register(termsOfServiceAgreed=True).status == 201


def test_the_account_key_can_be_rolled(ca: LabCa, client: RawClient) -> None:
    url, old, new = client.directory["keyChange"], client.key, new_key()
    claim = {"account": client.kid, "oldKey": jwk_of(old)}
    for inner in (
        jws(new, claim | {"account": "x"}, url=url, jwk=jwk_of(new)),
        jws(new, claim | {"oldKey": jwk_of(new)}, url=url, jwk=jwk_of(new)),
        jws(new, claim, url=url + "x", jwk=jwk_of(new)),
        jws(old, claim, url=url, jwk=jwk_of(new)),
    ):
        assert client.post(url, inner).problem == "malformed"
    assert client.post(url, jws(old, claim, url=url, jwk=jwk_of(old))).status == 409
    assert client.post(url, jws(new, claim, url=url, jwk=jwk_of(new))).status == 200
    assert client.post(str(client.kid)).problem == "malformed"
    client.key = new
    assert client.post(str(client.kid)).status == 200


def test_external_account_binding_is_asked_for_and_checked(make_ca: Any) -> None:

    ca = make_ca(eab={"kid-1": b"s" * 32})

    def binding(client: RawClient, **changes: Any) -> dict[str, str]:
        url = client.directory["newAccount"]
        secret = changes.pop("secret", b"s" * 32)
        bound = changes.pop("bound", jwk_of(client.key))
        head = b64(json.dumps({"alg": "HS256", "kid": "kid-1", "url": url} | changes).encode())
        body = b64(json.dumps(bound).encode())
        mac = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
        return {"protected": head, "payload": body, "signature": b64(mac)}

    with RawClient(ca) as client:
        assert client.directory["meta"]["externalAccountRequired"] is True
        assert client.register().problem == "externalAccountRequired"
        for changes, problem in (
            ({"secret": b"t" * 32}, "unauthorized"),
            ({"kid": "kid-2"}, "unauthorized"),
            ({"alg": "ES256"}, "badSignatureAlgorithm"),
            ({"url": "https://ca.example.net/"}, "malformed"),
            ({"nonce": "x"}, "malformed"),
            ({"bound": jwk_of(new_key())}, "malformed"),
        ):
            wrong = binding(client, **changes)
            assert client.register(externalAccountBinding=wrong).problem == problem
        assert client.register(externalAccountBinding=binding(client)).status == 201
    assert ca.accounts[0].eab_kid == "kid-1"
