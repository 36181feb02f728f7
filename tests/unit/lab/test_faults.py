"""Every fault of the lab CA happens when it is asked for, as often as it is asked for."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.lab import LabCa
from tests.lab.ca_faults import HOSTILE_TOKENS
from tests.lab.challenge_site import ChallengeSite

from .raw_client import RawClient, b64, der, make_csr, new_key

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"


def test_bad_nonce_n_times(ca: LabCa, client: RawClient) -> None:
    fault = ca.faults.bad_nonce(times=2)
    replies = [client.post(str(client.kid)) for _ in range(3)]
    assert [reply.status for reply in replies] == [400, 400, 200]
    assert (replies[0].problem, fault.fired) == ("badNonce", 2)


def test_bad_nonce_for_a_share(ca: LabCa, client: RawClient) -> None:
    fault = ca.faults.bad_nonce(times=None, share=0.5)
    for _ in range(40):
        client.post(str(client.kid))
    assert 8 < fault.fired < 32


@pytest.mark.parametrize("after", [30, "Mon, 01 Mar 2027 00:00:00 GMT", None], ids=str)
@pytest.mark.parametrize(("status", "problem"), [(429, "rateLimited"), (503, "serverInternal")])
def test_refusals_with_retry_after(
    ca: LabCa, client: RawClient, status: int, problem: str, after: Any
) -> None:
    ca.faults.refuse("newOrder", status, retry_after=after)
    assert client.post(str(client.kid)).status == 200, "another resource is not concerned"
    reply = client.new_order(NAME)
    assert (reply.status, reply.problem) == (status, problem)
    assert reply.headers["Retry-After"] == (None if after is None else str(after))
    assert client.new_order(NAME).status == 201


def test_a_fault_may_have_a_condition(ca: LabCa, client: RawClient) -> None:
    ca.faults.refuse(None, times=None, when=lambda e: e.request.path.startswith("/account/"))
    assert client.post(str(client.kid)).status == 503
    assert client.new_order("app.example.org").status == 201


def test_slow(ca: LabCa, client: RawClient) -> None:
    ca.faults.slow("account", 0.2)
    began = time.monotonic()
    client.post(str(client.kid))
    assert time.monotonic() - began >= 0.2


def test_a_slow_answer_does_not_hold_up_the_end(site: ChallengeSite) -> None:
    arrived = threading.Event()

    def ask(client: RawClient) -> None:
        with pytest.raises((OSError, http.client.HTTPException)):
            while True:
                client.post(str(client.kid))

    with LabCa(http_port=site.port) as ca, RawClient(ca) as client:
        client.register()
        ca.faults.slow("account", 3600, times=None, when=lambda _: arrived.set() or True)
        asking = threading.Thread(target=ask, args=(client,))
        asking.start()
        assert arrived.wait(5)
        ca.close()
        asking.join(5)
        assert not asking.is_alive()


def test_cut(ca: LabCa, client: RawClient) -> None:
    ca.faults.cut("account")
    with pytest.raises(http.client.IncompleteRead):
        client.post(str(client.kid))
    assert ca.log[-1].outcome == "ok, cut"
    assert client.post(str(client.kid)).status == 200


def test_the_answer_to_new_order_is_lost(ca: LabCa, client: RawClient) -> None:
    ca.faults.lose_answer("newOrder")
    with pytest.raises(http.client.RemoteDisconnected):
        client.new_order(NAME)
    assert [order.names for order in ca.orders] == [(NAME,)]
    assert client.new_order(NAME).headers["Location"] == ca.orders[0].url
    assert len(ca.orders) == 1


def test_nonsense(ca: LabCa, client: RawClient) -> None:
    ca.faults.nonsense("account")
    with pytest.raises(ValueError, match="Expecting"):
        _ = client.post(str(client.kid)).json


def test_date_skew(make_ca: Any) -> None:
    ca = make_ca(clock=lambda: 1_800_000_000.0)
    ca.faults.date_skew(-3600)
    with RawClient(ca) as client:
        reply = client.request("GET", ca.directory_url)
    assert reply.headers.get_all("Date") == ["Fri, 15 Jan 2027 07:00:00 GMT"]


@pytest.mark.parametrize("token", HOSTILE_TOKENS, ids=[f"{t[:12]!r}" for t in HOSTILE_TOKENS])
def test_hostile_tokens(ca: LabCa, client: RawClient, token: str) -> None:
    ca.faults.hostile_token(token)
    order = client.new_order(NAME)
    assert client.challenge(order.json["authorizations"][0])["token"] == token


def test_a_hostile_token_is_no_trap_for_the_lab_itself(
    ca: LabCa, client: RawClient, site: ChallengeSite
) -> None:
    ca.faults.hostile_token("a\r\nX-Injected: 1")
    order = client.new_order(NAME)
    assert client.answer(order.json["authorizations"][0])["status"] == "invalid"
    assert "x-injected" not in site.requests[0].headers


def test_invalid_authorization(ca: LabCa, client: RawClient) -> None:
    ca.faults.invalid_authorization("connection", "no route to host")
    url = client.new_order(NAME).json["authorizations"][0]
    shown = client.answer(url)
    assert shown["status"] == "invalid"
    assert shown["challenges"][0]["error"]["detail"] == "no route to host"


def test_refusal_with_subproblems(ca: LabCa, client: RawClient) -> None:
    ca.faults.refuse("newOrder", 403, kind="rejectedIdentifier", subproblems={NAME: ("caa", "no")})
    shown = client.new_order(NAME).json["subproblems"]
    assert [(one["identifier"]["value"], one["detail"]) for one in shown] == [(NAME, "no")]


def test_issuance_fails(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    ca.faults.fail_issuance("caa", "forbidden")
    done = client.finalize(client.make_ready(site, NAME), make_csr(new_key(), NAME))
    assert (done.json["status"], done.json["error"]["detail"]) == ("invalid", "forbidden")


def test_processing_for_some_polls(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    ca.faults.stay_processing(polls=3)
    done = client.finalize(client.make_ready(site, NAME), make_csr(new_key(), NAME))
    assert done.json["status"] == "valid"
    assert len(ca.requests("order")) >= 3


def test_processing_for_ever(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    ca.faults.stay_processing()
    order = client.make_ready(site, NAME)
    csr = make_csr(new_key(), NAME)
    reply = client.post(order.json["finalize"], {"csr": b64(der(csr))})
    for _ in range(10):
        assert reply.json["status"] == "processing"
        reply = client.post(order.headers["Location"])


def test_wrong_key(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    ca.faults.wrong_key()
    key = new_key()
    client.finalize(client.make_ready(site, NAME), make_csr(key, NAME))
    public = ca.issued[0].leaf.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public != key.public_key()


def test_wrong_names(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    ca.faults.wrong_names(("app.example.org",))
    client.obtain(site, NAME)
    assert ca.issued[0].names == ("app.example.org",)


def test_long_chain(ca: LabCa, client: RawClient, site: ChallengeSite) -> None:
    ca.faults.long_chain(100)
    assert len(client.obtain(site, NAME)) == 100


@pytest.mark.parametrize(
    ("inject", "finalize"),
    [
        (lambda f: f.insecure_url("finalize"), "http://"),
        (lambda f: f.foreign_url("finalize"), "https://ca.example.net/order/"),
        (lambda f: f.url("finalize", "file:///etc/passwd"), "file:///etc/passwd"),
    ],
    ids=["http", "foreign", "file"],
)
def test_urls(ca: LabCa, client: RawClient, inject: Callable[[Any], object], finalize: str) -> None:
    inject(ca.faults)
    assert client.new_order(NAME).json["finalize"].startswith(finalize)
    ca.faults.clear()
    assert client.new_order(NAME).json["finalize"].startswith(ca.state.base)


def test_the_certificate_is_gone_or_cut_once(
    ca: LabCa, client: RawClient, site: ChallengeSite
) -> None:
    order = client.make_ready(site, NAME)
    url = client.finalize(order, make_csr(new_key(), NAME)).json["certificate"]
    ca.faults.refuse("cert", 404)
    ca.faults.cut("cert")
    assert client.post(url).status == 404
    with pytest.raises(http.client.IncompleteRead):
        client.post(url)
    assert len(x509.load_pem_x509_certificates(client.post(url).body)) == 2
