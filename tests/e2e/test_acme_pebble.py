"""The ACME client and driver against Debian's Pebble."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from shared.acme.client import AcmeClient
from shared.acme.keys import generate_account_key, load_account_key
from shared.acme.order import drive_order
from shared.acme.ports import ExternalAccountBinding, IssuedChain, OrderState
from shared.contract.chain_rules import check_chain
from shared.contract.errors import (
    ConfigurationError,
    IssuanceRejected,
    IssuanceUnavailable,
    OrderGone,
)
from shared.contract.x509 import dns_names, load_chain
from tests.pebble import ChallTestSrv, Pebble, available, pebble_with_challenges
from tests.unit.shared.acme.doubles import ChallTestSrvSolver, RecordedJournal, csr_for

pytestmark = [
    pytest.mark.pebble,
    pytest.mark.skipif(not available(), reason="pebble is not installed"),
]

NAME = "www.intra.example.com"
CONTACT = ("mailto:ops@example.com",)


@pytest.fixture(scope="module")
def peers() -> Iterator[tuple[Pebble, ChallTestSrv]]:
    with pebble_with_challenges() as both:
        yield both


def registered(pebble: Pebble, **settings: object) -> AcmeClient:
    client = AcmeClient(
        pebble.directory_url,
        load_account_key(generate_account_key()),
        trusted_roots=pebble.minica,
        **settings,  # type: ignore[arg-type]
    )
    client.ensure_account(CONTACT, terms_agreed=True)
    return client


class Run:
    """One certificate wanted from one Pebble."""

    def __init__(self, client: AcmeClient, challenges: ChallTestSrv, *names: str) -> None:
        self.client, self.names = client, names or (NAME,)
        self.csr_pem = csr_for(self.names)
        self.journal = RecordedJournal()
        self.solver = ChallTestSrvSolver(server=challenges)

    def drive(self, order_url: str | None = None, **more: object) -> IssuedChain:
        return drive_order(
            self.client,
            names=self.names,
            csr_pem=self.csr_pem,
            order_url=order_url,
            solvers={"http-01": self.solver},
            journal=self.journal,
            **{"deadline_seconds": 60.0, "adopt_unfinished": True, **more},  # type: ignore[arg-type]
        )

    def authorize(self, order: OrderState) -> None:
        """Bring a pending order to ready by hand, as a run that then dies would."""
        from shared.acme.authorizations import Authorizer

        authorizer = Authorizer(self.client, frozenset(self.names), {"http-01": self.solver})
        while authorizer.advance(order.authorizations) is not None:
            pass
        authorizer.clean_up()


def test_one_name_is_issued_and_verifies(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, challenges = peers
    with registered(pebble) as client:
        run = Run(client, challenges)
        issued = run.drive()
    chain = load_chain(issued.chain_pem.decode())
    root = x509.load_pem_x509_certificate(pebble.issuing_root())
    check_chain(chain, [root], chain[0].not_valid_before_utc.timestamp() + 60)
    assert dns_names(chain[0]) == (NAME,)
    assert run.journal.lines == ["order_created", "finalizing", "certificate_url"]
    assert run.journal.order_url == issued.order_url
    assert not run.solver.present_now
    assert abs(client.clock_skew() or 0) < 5


def test_several_names_are_one_certificate(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, challenges = peers
    names = tuple(sorted(f"host-{number}.example.org" for number in range(5)))
    with registered(pebble) as client:
        issued = Run(client, challenges, *names).drive()
    assert dns_names(load_chain(issued.chain_pem.decode())[0]) == names


def test_an_account_is_registered_once(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, _ = peers
    key = load_account_key(generate_account_key())
    with AcmeClient(pebble.directory_url, key, trusted_roots=pebble.minica) as first:
        url = first.ensure_account(CONTACT, terms_agreed=True)
        assert first.ensure_account(CONTACT, terms_agreed=True) == url
    with AcmeClient(pebble.directory_url, key, trusted_roots=pebble.minica) as second:
        assert second.ensure_account(CONTACT, terms_agreed=True) == url


def test_an_unknown_account_is_said_clearly(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, _ = peers
    key = load_account_key(generate_account_key())
    elsewhere = pebble.directory_url.replace("/dir", "/my-account/4711")
    with AcmeClient(
        pebble.directory_url, key, trusted_roots=pebble.minica, account_url=elsewhere
    ) as client:
        with pytest.raises(IssuanceRejected, match="accountDoesNotExist") as refused:
            client.ensure_account(terms_agreed=True)
        assert "register again" in refused.value.do
        with pytest.raises(IssuanceRejected, match="ccount"):
            client.new_order([NAME])


def test_terms_must_be_agreed_to(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, _ = peers
    key = load_account_key(generate_account_key())
    with (
        AcmeClient(pebble.directory_url, key, trusted_roots=pebble.minica) as client,
        pytest.raises(ConfigurationError, match="terms of service"),
    ):
        client.ensure_account(terms_agreed=False)


@pytest.mark.parametrize("status", ["pending", "ready", "processing", "valid"])
def test_an_order_is_resumed_by_its_url(peers: tuple[Pebble, ChallTestSrv], status: str) -> None:
    pebble, challenges = peers
    with registered(pebble) as client:
        run = Run(client, challenges)
        order = client.new_order(run.names)
        if status != "pending":
            run.authorize(order)
            order = client.fetch_order(order.url)
        if status in ("processing", "valid"):
            order = client.finalize(order, run.csr_pem)
        while status == "valid" and order.status != "valid":
            order = client.fetch_order(order.url)
        before = pebble.calls("/order-plz")
        assert before
        issued = run.drive(order.url)
        assert pebble.calls("/order-plz") == before
    assert issued.order_url == order.url


@pytest.mark.parametrize("authorized", [False, True])
def test_an_order_whose_answer_was_lost_is_adopted(
    peers: tuple[Pebble, ChallTestSrv], authorized: bool
) -> None:
    pebble, challenges = peers
    with registered(pebble) as client:
        run = Run(client, challenges)
        for other in range(4):
            client.new_order([f"other-{other}.example.org"])
        lost = client.new_order(run.names)
        if authorized:
            run.authorize(lost)
        before = pebble.calls("/order-plz")
        assert run.drive().order_url == lost.url
        assert pebble.calls("/order-plz") == before
        assert run.drive().order_url != lost.url


def test_an_order_that_never_was_is_gone(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, challenges = peers
    with registered(pebble) as client, pytest.raises(OrderGone):
        Run(client, challenges).drive(pebble.directory_url.replace("/dir", "/my-order/nowhere"))


def test_a_failed_challenge_is_explained_and_cleaned_up(
    peers: tuple[Pebble, ChallTestSrv],
) -> None:
    pebble, challenges = peers
    with registered(pebble) as client:
        run = Run(client, challenges)
        run.solver.honest = False
        with pytest.raises(IssuanceRejected) as refused:
            run.drive()
        assert run.solver.ever and not run.solver.present_now
        words = refused.value.explain()
        assert f"could not validate {NAME}" in words
        assert "http-01: unauthorized:" in words
        assert refused.value.problem is not None
        assert run.journal.order_url is not None
        with pytest.raises(IssuanceRejected, match=f"could not validate {NAME}|ended the order"):
            run.drive(run.journal.order_url)


def test_a_wildcard_without_a_dns_challenge_is_refused(
    peers: tuple[Pebble, ChallTestSrv],
) -> None:
    pebble, challenges = peers
    with (
        registered(pebble) as client,
        pytest.raises(IssuanceRejected, match="offers dns-01 for"),
    ):
        Run(client, challenges, "*.example.org").drive()


def test_a_certificate_is_revoked(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, challenges = peers
    with registered(pebble) as client:
        issued = Run(client, challenges).drive()
        serial = load_chain(issued.chain_pem.decode())[0].serial_number
        assert pebble.certificate_status(serial) == "Valid"
        client.revoke(issued.chain_pem, reason=4)
        assert pebble.certificate_status(serial) == "Revoked"


def test_roots_of_the_environment_are_not_used(
    peers: tuple[Pebble, ChallTestSrv], monkeypatch: pytest.MonkeyPatch
) -> None:
    pebble, _ = peers
    key = load_account_key(generate_account_key())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pebble.minica))
    with (
        AcmeClient(pebble.directory_url, key) as client,
        pytest.raises(IssuanceUnavailable, match="not trusted"),
    ):
        client.directory()


def test_trusted_roots_stand_against_the_environment(
    peers: tuple[Pebble, ChallTestSrv], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pebble, _ = peers
    (tmp_path / "other.pem").write_bytes(pebble.issuing_root())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with registered(pebble) as client:
        assert client.account_url


def test_issued_although_nine_of_ten_nonces_are_refused() -> None:
    with (
        pebble_with_challenges(nonce_reject=90) as (pebble, challenges),
        registered(pebble) as client,
    ):
        assert Run(client, challenges).drive().chain_pem


def test_account_binding() -> None:
    mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    with pebble_with_challenges(eab_keys={"kid-1": mac}) as (pebble, _):
        key = load_account_key(generate_account_key())
        with AcmeClient(pebble.directory_url, key, trusted_roots=pebble.minica) as client:
            with pytest.raises(ConfigurationError, match="external account binding"):
                client.ensure_account(terms_agreed=True)
            with pytest.raises(IssuanceRejected):
                client.ensure_account(terms_agreed=True, eab=ExternalAccountBinding("kid-2", mac))
            binding = ExternalAccountBinding("kid-1", mac)
            assert client.ensure_account(CONTACT, terms_agreed=True, eab=binding)


def test_a_preferred_chain_is_chosen() -> None:
    with pebble_with_challenges(alternate_roots=2) as (pebble, challenges):
        wanted = x509.load_pem_x509_certificate(pebble.issuing_root(2))
        name = str(wanted.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        with registered(pebble) as client:
            issued = Run(client, challenges).drive(preferred_chain=name)
    assert load_chain(issued.chain_pem.decode())[-1].issuer == wanted.subject


def test_an_account_key_is_rolled_over(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, challenges = peers
    with registered(pebble) as client:
        before, url = client.thumbprint, client.account_url
        client.roll_over(load_account_key(generate_account_key()))
        assert (client.thumbprint != before, client.account_url) == (True, url)
        assert client.confirm_account() == url
        assert Run(client, challenges).drive().chain_pem
        # Pebble answers 500 where RFC 8555 section 7.3.5 wants 409
        with registered(pebble) as other, pytest.raises(IssuanceUnavailable):
            taken = load_account_key(generate_account_key())
            other.roll_over(taken)
            client.roll_over(taken)  # a key belongs to one account


def test_a_closed_account_orders_nothing(peers: tuple[Pebble, ChallTestSrv]) -> None:
    pebble, _ = peers
    with registered(pebble) as client:
        client.update_contact(["mailto:new@example.com"])
        client.deactivate()
        with pytest.raises(IssuanceRejected):
            client.new_order([NAME])


def test_revoked_by_account_and_by_the_certificates_key(
    peers: tuple[Pebble, ChallTestSrv],
) -> None:
    pebble, challenges = peers
    with registered(pebble) as client, registered(pebble) as stranger:
        issued = Run(client, challenges).drive()
        with pytest.raises(IssuanceRejected):
            stranger.revoke(issued.chain_pem, 1)
        assert client.revoke(issued.chain_pem, 1)
        assert not client.revoke(issued.chain_pem, 1)  # it is revoked already
        run = Run(client, challenges)
        key = load_account_key(generate_account_key())
        run.csr_pem = csr_for(run.names, key)
        chain = run.drive().chain_pem
        with pytest.raises(IssuanceRejected):
            stranger.revoke(chain, 1, key=load_account_key(generate_account_key()))
        assert stranger.revoke(chain, 4, key=key)
        assert stranger.confirm_account()  # the account's key signs again
