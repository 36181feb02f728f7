"""Orders: what the lab CA accepts, refuses, reuses, and how it moves them along (RFC 8555 7.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.lab import LabCa
from tests.lab.challenge_site import ChallengeSite

from .raw_client import RawClient, b64, der, make_csr, new_key

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"
OTHER = "app.example.org"
MakeClient = Callable[..., RawClient]


def test_an_order_moves_from_pending_to_valid(
    ca: LabCa, client: RawClient, site: ChallengeSite
) -> None:
    order = client.make_ready(site, NAME, OTHER)
    assert order.json["status"] == "pending"
    assert client.post(order.headers["Location"]).json["status"] == "ready"
    begun = client.post(order.json["finalize"], {"csr": b64(der(make_csr(new_key(), NAME, OTHER)))})
    assert (begun.json["status"], begun.headers["Retry-After"]) == ("processing", "1")
    assert client.post(order.headers["Location"]).json["status"] == "valid"
    assert [(o.names, o.status) for o in ca.orders] == [((OTHER, NAME), "valid")]


def test_the_same_order_is_given_again_until_it_is_finished(
    ca: LabCa, client: RawClient, site: ChallengeSite, make_client: MakeClient
) -> None:
    first = client.new_order(NAME, OTHER)
    again = client.new_order(OTHER, NAME.upper())
    assert (again.status, again.headers["Location"]) == (201, first.headers["Location"])
    assert client.new_order(NAME).headers["Location"] != first.headers["Location"]
    shortlived = client.new_order(NAME, OTHER, profile="shortlived")
    assert shortlived.headers["Location"] != first.headers["Location"]
    stranger = make_client(ca).new_order(NAME, OTHER)
    assert stranger.headers["Location"] != first.headers["Location"]
    client.obtain(site, NAME, OTHER)
    assert client.new_order(NAME, OTHER).headers["Location"] != first.headers["Location"]


def test_order_reuse_can_be_turned_off(make_ca: Any, make_client: MakeClient) -> None:
    client = make_client(make_ca(order_reuse=False))
    assert client.new_order(NAME).headers["Location"] != client.new_order(NAME).headers["Location"]


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({}, "malformed"),
        ({"identifiers": []}, "malformed"),
        ({"identifiers": [{"type": "dns"}]}, "malformed"),
        ({"identifiers": [{"type": "ip", "value": "192.0.2.1"}]}, "unsupportedIdentifier"),
        ({"identifiers": [{"type": "dns", "value": "192.0.2.1"}]}, "rejectedIdentifier"),
        ({"identifiers": [{"type": "dns", "value": "localhost"}]}, "rejectedIdentifier"),
        ({"identifiers": [{"type": "dns", "value": "a..example.com"}]}, "malformed"),
        ({"identifiers": [{"type": "dns", "value": "www.*.example.com"}]}, "malformed"),
        ({"identifiers": [{"type": "dns", "value": "bücher.example.com"}]}, "malformed"),
        ({"identifiers": [{"type": "dns", "value": NAME}], "profile": "x"}, "invalidProfile"),
        ({"identifiers": [{"type": "dns", "value": NAME}], "notAfter": "x"}, "malformed"),
        ({"identifiers": [{"type": "dns", "value": NAME}], "replaces": "x.y"}, "malformed"),
    ],
    ids=str,
)
def test_bad_orders_are_refused(
    ca: LabCa, client: RawClient, payload: dict[str, Any], problem: str
) -> None:
    assert client.post(client.directory["newOrder"], payload).problem == problem
    assert ca.orders == []


def test_several_refused_names_come_as_subproblems(make_ca: Any, make_client: MakeClient) -> None:
    client = make_client(make_ca(refused_names=lambda name: name.endswith("example.org")))
    reply = client.new_order(NAME, OTHER, "b.example.org")
    assert reply.problem == "rejectedIdentifier"
    assert [s["identifier"]["value"] for s in reply.json["subproblems"]] == [OTHER, "b.example.org"]


def csr_cases() -> dict[str, Callable[[RawClient], bytes]]:
    good = new_key()
    broken = bytearray(der(make_csr(good, NAME)))
    broken[-1] ^= 1
    return {
        "other name": lambda client: der(make_csr(good, OTHER)),
        "name too many": lambda client: der(make_csr(good, NAME, OTHER)),
        "no name": lambda client: der(make_csr(good)),
        "bad signature": lambda client: bytes(broken),
        "no CSR": lambda client: b"\x30\x00",
        "account key": lambda client: der(make_csr(client.key, NAME)),
        "small RSA key": lambda client: der(make_csr(rsa.generate_private_key(65537, 1024), NAME)),
        "odd curve": lambda client: der(make_csr(ec.generate_private_key(ec.SECP256K1()), NAME)),
        "Ed25519": lambda client: der(make_csr(ed25519.Ed25519PrivateKey.generate(), NAME)),
    }


def test_bad_csrs_are_refused_and_the_order_stays_ready(
    ca: LabCa, client: RawClient, site: ChallengeSite
) -> None:
    order = client.make_ready(site, NAME)
    for what, make in csr_cases().items():
        reply = client.post(order.json["finalize"], {"csr": b64(make(client))})
        assert reply.problem == "badCSR", what
    assert client.post(order.json["finalize"], {"csr": "a="}).problem == "malformed"
    assert (ca.orders[0].status, ca.issued) == ("ready", [])
    assert client.finalize(order, make_csr(new_key(), NAME)).json["status"] == "valid"


def test_finalize_wants_a_ready_order(client: RawClient, site: ChallengeSite) -> None:
    order = client.new_order(NAME)
    csr = make_csr(new_key(), NAME)
    assert client.finalize(order, csr).problem == "orderNotReady"
    order = client.make_ready(site, NAME)
    assert client.finalize(order, csr).status == 200
    assert client.finalize(order, csr).problem == "orderNotReady"


def test_nobody_sees_what_belongs_to_others(
    ca: LabCa, client: RawClient, make_client: MakeClient, site: ChallengeSite
) -> None:
    order = client.make_ready(site, NAME)
    done = client.finalize(order, make_csr(new_key(), NAME))
    stranger = make_client(ca)
    for url in (
        order.headers["Location"],
        order.json["finalize"],
        order.json["authorizations"][0],
        order.json["authorizations"][0] + "/http-01",
        done.json["certificate"],
        str(client.kid),
        f"{client.kid}/orders",
    ):
        assert stranger.post(url, {}).problem == "unauthorized", url


def test_what_does_not_exist_is_404(client: RawClient) -> None:
    for path in ("order/1", "authz/1", "authz/1/http-01", "cert/1", "cert/1/1", "nothing"):
        assert client.post(f"{client.ca.state.base}/{path}").status == 404


def test_an_expired_order_is_invalid(ca: LabCa, client: RawClient) -> None:
    order = client.new_order(NAME)
    ca.invalidate(ca.orders[0])
    assert client.post(order.headers["Location"]).json["status"] == "invalid"
    assert client.new_order(NAME).headers["Location"] != order.headers["Location"]


def test_the_clock_of_the_ca_expires_things(make_ca: Any, make_client: MakeClient) -> None:
    now = [1_800_000_000.0]
    client = make_client(make_ca(clock=lambda: now[0]))
    order = client.new_order(NAME)
    assert order.headers["Date"] == "Fri, 15 Jan 2027 08:00:00 GMT"
    assert order.json["expires"] == "2027-01-22T08:00:00Z"
    now[0] += 8 * 86400
    assert client.post(order.headers["Location"]).json["status"] == "invalid"
    assert client.post(order.json["authorizations"][0]).json["status"] == "invalid"


def test_a_deactivated_authorization_ends_the_order(ca: LabCa, client: RawClient) -> None:
    order = client.new_order(NAME)
    url = order.json["authorizations"][0]
    assert client.post(url, {"status": "valid"}).problem == "malformed"
    assert client.post(url, {"status": "deactivated"}).json["status"] == "deactivated"
    assert ca.orders[0].status == "invalid"


def test_authorizations_are_reused_when_asked_to(
    make_ca: Any, make_client: MakeClient, site: ChallengeSite
) -> None:
    client = make_client(make_ca(authorization_reuse=True))
    client.obtain(site, NAME)
    assert client.new_order(NAME).json["status"] == "ready"
    assert client.new_order(NAME, OTHER).json["status"] == "pending"


def test_the_orders_list_comes_in_pages(make_ca: Any, make_client: MakeClient) -> None:
    client = make_client(make_ca(orders_page=2))
    made = [client.new_order(f"h{n}.example.com").headers["Location"] for n in range(5)]
    found, url = [], f"{client.kid}/orders"
    while url:
        page = client.post(url)
        found += page.json["orders"]
        links = [link for link in page.headers.get_all("Link") if 'rel="next"' in link]
        url = links[0][1 : links[0].index(">")] if links else ""
    assert found == made
    assert client.post(f"{client.kid}/orders?cursor=x").problem == "malformed"


def test_synchronous_issuance_answers_at_once(
    make_ca: Any, make_client: MakeClient, site: ChallengeSite
) -> None:
    client = make_client(make_ca(asynchronous=False, retry_after=None))
    order = client.make_ready(site, NAME)
    reply = client.post(order.json["finalize"], {"csr": b64(der(make_csr(new_key(), NAME)))})
    assert (reply.json["status"], reply.headers["Retry-After"]) == ("valid", None)
