"""The lab CA's certificates pass for the Web PKI's, and it revokes and advises as CAs do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from tests.lab import LabCa
from tests.lab.ca_model import certid
from tests.lab.challenge_site import ChallengeSite

from .raw_client import RawClient, b64, der, jwk_of, make_csr, new_key

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"
OTHER = "app.example.org"
MakeClient = Callable[..., RawClient]


def verify(root_pem: str, chain: list[x509.Certificate], name: str = NAME) -> int:
    roots = Store(x509.load_pem_x509_certificates(root_pem.encode()))
    verifier = PolicyBuilder().store(roots).build_server_verifier(x509.DNSName(name))
    return len(verifier.verify(chain[0], chain[1:]))


def test_both_chains_verify_with_default_policy(
    ca: LabCa, client: RawClient, site: ChallengeSite
) -> None:
    order = client.make_ready(site, NAME)
    url = client.finalize(order, make_csr(new_key(), NAME)).json["certificate"]
    main = client.post(url)
    assert main.headers["Content-Type"] == "application/pem-certificate-chain"
    assert verify(ca.root_pem, x509.load_pem_x509_certificates(main.body)) == 3
    alternates = [link for link in main.headers.get_all("Link") if 'rel="alternate"' in link]
    other = client.post(alternates[0][1 : alternates[0].index(">")])
    chain = x509.load_pem_x509_certificates(other.body)
    assert verify(ca.alternate_root_pem, chain) == 3
    assert chain[0] == ca.issued[0].leaf
    assert client.post(url + "/2").status == 404


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-384", "RSA"],
)
def test_other_certificate_keys_work(
    ca: LabCa, client: RawClient, site: ChallengeSite, key: Any
) -> None:
    client.finalize(client.make_ready(site, NAME, OTHER), make_csr(key, NAME, OTHER))
    leaf = ca.issued[0].leaf
    assert leaf.public_key() == key.public_key()
    assert verify(ca.root_pem, list(ca.issued[0].chains[0]), OTHER) == 3
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_encipherment == isinstance(key, rsa.RSAPrivateKey)


@pytest.mark.parametrize(
    ("profile", "hours"),
    [(None, 90 * 24), ("classic", 90 * 24), ("tlsserver", 45 * 24), ("shortlived", 160)],
)
def test_profiles_decide_the_validity(
    client: RawClient, site: ChallengeSite, profile: str | None, hours: int
) -> None:
    assert "shortlived" in client.directory["meta"]["profiles"]
    leaf = client.obtain(site, NAME, **({"profile": profile} if profile else {}))[0]
    length = leaf.not_valid_after_utc - leaf.not_valid_before_utc + dt.timedelta(seconds=1)
    assert length == dt.timedelta(hours=hours)


def test_validity_can_be_any_and_follows_the_clock(
    make_ca: Any, make_client: MakeClient, site: ChallengeSite
) -> None:
    now = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)
    ca = make_ca(validity=dt.timedelta(minutes=10), clock=now.timestamp)
    leaf = make_client(ca).obtain(site, NAME)[0]
    assert leaf.not_valid_before_utc == now - dt.timedelta(minutes=1)
    assert leaf.not_valid_after_utc == now + dt.timedelta(minutes=9, seconds=-1)


def test_a_ca_can_go_on_with_its_roots(make_ca: Any) -> None:
    first = make_ca()
    assert make_ca(hierarchy=first.state.pki).root_pem == first.root_pem


# --- revocation ---


def test_the_account_revokes(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    leaf = client.obtain(site, NAME)[0]
    url, body = client.directory["revokeCert"], {"certificate": b64(der(leaf))}
    assert client.post(url, body | {"reason": 2}).problem == "badRevocationReason"
    assert client.post(url, body | {"reason": True}).problem == "badRevocationReason"
    assert client.post(url, body | {"reason": 1}).status == 200
    assert client.post(url, body).problem == "alreadyRevoked"
    assert ca.revoked == {leaf.serial_number: 1}


def test_the_certificate_key_revokes(client: RawClient, site: ChallengeSite) -> None:
    key, other = new_key(), new_key()
    order = client.make_ready(site, NAME)
    client.finalize(order, make_csr(key, NAME))
    body = {"certificate": b64(client.ca.issued[0].der)}
    url = client.directory["revokeCert"]
    wrong = client.post(url, body, key=other, kid=None, jwk=jwk_of(other))
    assert wrong.problem == "unauthorized"
    assert client.post(url, body, key=key, kid=None, jwk=jwk_of(key)).status == 200


def test_who_controls_the_name_revokes(
    ca: LabCa, client: RawClient, make_client: MakeClient, site: ChallengeSite
) -> None:
    body = {"certificate": b64(der(client.obtain(site, NAME)[0]))}
    stranger = make_client(ca)
    assert stranger.post(stranger.directory["revokeCert"], body).problem == "unauthorized"
    stranger.make_ready(site, NAME)
    assert stranger.post(stranger.directory["revokeCert"], body).status == 200


def test_unknown_certificates_are_not_revoked(client: RawClient) -> None:
    reply = client.post(client.directory["revokeCert"], {"certificate": b64(b"x")})
    assert reply.status == 404


# --- renewal information ---


def test_the_window_is_suggested(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    leaf = client.obtain(site, NAME)[0]
    url = f"{client.directory['renewalInfo']}/{certid(leaf)}"
    window = client.request("GET", url).json["suggestedWindow"]
    start, end = (dt.datetime.fromisoformat(window[member]) for member in ("start", "end"))
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert leaf.not_valid_before_utc + life / 2 < start < end < leaf.not_valid_after_utc

    ca.set_renewal_window((1_800_000_000, 1_800_003_600))
    ca.set_renewal_answer(retry_after=60, explanation_url="https://ca.example.net/why")
    reply = client.request("GET", url)
    assert reply.json == {
        "suggestedWindow": {"start": "2027-01-15T08:00:00Z", "end": "2027-01-15T09:00:00Z"},
        "explanationURL": "https://ca.example.net/why",
    }
    assert reply.headers["Retry-After"] == "60"
    ca.set_renewal_window((0, 3600), certid(leaf))
    assert client.request("GET", url).json["suggestedWindow"]["end"] == "1970-01-01T01:00:00Z"
    assert client.request("GET", url[:-4]).status == 404


def test_the_name_of_a_certificate_in_ari() -> None:
    # RFC 9773 section 4.1: the serial 00:87:65:43:21 keeps its leading zero.
    key = new_key()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(0x87654321)
        .not_valid_before(dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2027, 2, 1, tzinfo=dt.UTC))
        .add_extension(
            x509.AuthorityKeyIdentifier(
                bytes.fromhex("69885B6B87461741E1B37B847BA0AE2CDE01C8D4"), None, None
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    assert certid(leaf) == "aYhba4dGF0Hhs3uEe6CuLN4ByNQ.AIdlQyE"


def test_replaces_is_taken_once(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    old = certid(client.obtain(site, NAME)[0])
    assert client.new_order(OTHER, replaces=old).status == 400
    first = client.new_order(NAME, replaces=old)
    assert first.json["replaces"] == old
    again = client.new_order(NAME, replaces=old)
    assert again.headers["Location"] == first.headers["Location"], "reuse comes first"
    taken = client.new_order(NAME, OTHER, replaces=old)
    assert (taken.status, taken.problem) == (409, "alreadyReplaced")
    ca.invalidate(ca.orders[-1])
    assert client.new_order(NAME, OTHER, replaces=old).status == 201


def test_replaces_is_for_the_same_account(
    ca: LabCa, client: RawClient, make_client: MakeClient, site: ChallengeSite
) -> None:
    old = certid(client.obtain(site, NAME)[0])
    assert make_client(ca).new_order(NAME, replaces=old).problem == "unauthorized"


def test_ari_and_profiles_can_be_absent(make_ca: Any) -> None:
    with RawClient(make_ca(ari=False, profiles=None)) as client:
        assert "renewalInfo" not in client.directory
        assert "profiles" not in client.directory["meta"]
