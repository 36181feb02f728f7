"""The books of a revocation: the same ones, whichever way a certificate is named to us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from external_agent.orders.certificate_authority import Connector
from external_agent.orders.revocation import Revoked, revoke_file, revoke_generation
from external_agent.records.rows import GenerationRow, IssuedLeaf
from external_agent.store.interface import Store
from shared.acme.keys import AccountKey, load_account_key
from shared.contract.x509 import chain_to_pem, leaf_sha256, spki_sha256
from shared.issuing.renewal import DAY
from tests.agent_world import enrol
from tests.authority import Key, common_authority, new_key
from tests.unit.external_agent.conftest import NOW
from tests.unit.external_agent.issued import claim, finish, prepare

NAME = "www.intra.example.com"
OURS, USUAL, OTHER = (f"https://{ca}.example.com/dir" for ca in ("ours", "usual", "other"))
COMPROMISE, SUPERSEDED = 1, 4


class Ca:
    """Revokes whatever it is asked to, once; notes which directory was asked, and how."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.revoked: set[bytes] = set()

    @contextmanager
    def connect(self, directory_url: str, sleep: object) -> Iterator[Ca]:
        self.asked.append((directory_url, "account"))
        yield self

    @contextmanager
    def visit(self, directory_url: str, sleep: object) -> Iterator[Ca]:
        self.asked.append((directory_url, "key"))
        yield self

    def revoke(self, chain_pem: bytes, reason: int, *, key: AccountKey | None = None) -> bool:
        fresh = chain_pem not in self.revoked
        self.revoked.add(chain_pem)
        return fresh


class Books:
    """A store with one certificate, and what was issued of it."""

    def __init__(self, store: Store) -> None:
        self.store, self.ca = store, Ca()
        self.keys: dict[bytes, Key] = {}
        store.add_certificate(NAME, [NAME], directory_url=OURS, now=NOW)
        enrol(store, [NAME], now=NOW)

    def leaf(self, key: Key | None = None) -> tuple[bytes, IssuedLeaf, str]:
        key = key or new_key()
        chain = common_authority().chain(common_authority().leaf([NAME], key, not_before=NOW))
        text = chain_to_pem(chain)
        self.keys[text.encode()] = key
        issued = IssuedLeaf(text, leaf_sha256(chain[0]), "1", NOW, NOW + 90 * DAY, NOW)
        return text.encode(), issued, spki_sha256(chain[0])

    def issue(self) -> tuple[int, bytes]:
        self.store.request_renewal(NAME, "a test", now=NOW)
        chain, issued, spki = self.leaf()
        held = claim(self.store, NAME, now=NOW)
        generation = prepare(self.store, held, now=NOW, spki=spki)
        finish(self.store, held, generation, now=NOW, certified=issued)
        return generation, chain

    def by_name(self, chain: bytes, reason: int) -> Revoked:
        return revoke_generation(
            self.store, self.connector, NAME, self.generation(chain).generation, reason, **_WHEN
        )

    def by_file(self, chain: bytes, reason: int, ca: str | None = None) -> Revoked:
        return revoke_file(
            *(self.store, self.connector, chain, None, reason),
            directory_url=ca,
            usual_ca=USUAL,
            **_WHEN,
        )

    def by_key(self, chain: bytes, reason: int, ca: str | None = None) -> Revoked:
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key = load_account_key(self.keys[chain].private_bytes(*form))
        return revoke_file(
            *(self.store, self.connector, chain, key, reason),
            directory_url=ca,
            usual_ca=USUAL,
            **_WHEN,
        )

    @property
    def connector(self) -> Connector:
        return cast(Connector, self.ca)

    def generation(self, chain: bytes) -> GenerationRow:
        found = [one for one in self.store.generations(NAME) if one.chain == chain.decode()]
        assert len(found) == 1
        return found[0]

    def noted(self, chain: bytes) -> tuple[int | None, str | None]:
        row = self.generation(chain)
        return row.revoked_at, row.revoked_reason

    def wants_another(self) -> bool:
        row = self.store.certificate(NAME)
        assert row is not None
        return row.wanted > row.satisfied

    def events(self) -> list[tuple[str | None, dict[str, Any]]]:
        found = [one for one in self.store.events() if one.kind == "revoked"]
        return [(one.certificate, dict(one.details)) for one in found]


_WHEN: dict[str, Any] = {"sleep": lambda seconds: None, "now": NOW + 9, "actor": "user root"}
Way = Callable[[Books, bytes, int], Revoked]
every_way = pytest.mark.parametrize("revoke", [Books.by_name, Books.by_file, Books.by_key])
by_its_file = pytest.mark.parametrize("revoke", [Books.by_file, Books.by_key])


@pytest.fixture
def books(store: Store) -> Books:
    return Books(store)


@every_way
def test_the_newest_generation_is_noted_and_replaced(books: Books, revoke: Way) -> None:
    generation, chain = books.issue()
    done = revoke(books, chain, COMPROMISE)
    assert done == Revoked(NAME, generation, before=False, renewed=True)
    assert books.noted(chain) == (NOW + 9, "keyCompromise")
    assert books.wants_another()
    assert books.events() == [(NAME, {"generation": generation, "reason": "keyCompromise"})]
    assert [url for url, _ in books.ca.asked] == [OURS], "the CA that issued it"


@every_way
def test_superseded_needs_no_other(books: Books, revoke: Way) -> None:
    generation, chain = books.issue()
    done = revoke(books, chain, SUPERSEDED)
    assert done == Revoked(NAME, generation, before=False, renewed=False)
    assert books.noted(chain) == (NOW + 9, "superseded")
    assert not books.wants_another()


@every_way
def test_an_older_generation_is_noted_only(books: Books, revoke: Way) -> None:
    (older, chain), (_, newest) = books.issue(), books.issue()
    done = revoke(books, chain, COMPROMISE)
    assert done == Revoked(NAME, older, before=False, renewed=False)
    assert books.noted(chain) == (NOW + 9, "keyCompromise")
    assert books.noted(newest) == (None, None)
    assert not books.wants_another()


@every_way
def test_what_the_ca_had_revoked_already_is_noted_and_replaced(books: Books, revoke: Way) -> None:
    """Asked elsewhere, or an earlier call was killed before it could take note."""
    generation, chain = books.issue()
    books.ca.revoked.add(chain)
    done = revoke(books, chain, COMPROMISE)
    assert done == Revoked(NAME, generation, before=True, renewed=True)
    assert books.noted(chain) == (NOW + 9, "keyCompromise")
    assert books.wants_another()


@every_way
def test_of_a_removed_certificate_it_is_noted_and_no_other_wanted(
    books: Books, revoke: Way
) -> None:
    generation, chain = books.issue()
    books.store.remove_certificate(NAME, now=NOW + 1)
    done = revoke(books, chain, COMPROMISE)
    assert done == Revoked(NAME, generation, before=False, renewed=False)
    assert books.noted(chain) == (NOW + 9, "keyCompromise")
    assert not books.wants_another()


@by_its_file
@pytest.mark.parametrize("with_our_key", [False, True])
def test_a_certificate_that_is_not_ours(books: Books, revoke: Way, *, with_our_key: bool) -> None:
    """With our key: one that the CA issued twice for a CSR; ours is as good as it was."""
    _, ours = books.issue()
    foreign, issued, _ = books.leaf(books.keys[ours] if with_our_key else None)
    assert revoke(books, foreign, COMPROMISE) == Revoked("", 0, before=False, renewed=False)
    assert foreign in books.ca.revoked
    assert books.noted(ours) == (None, None)
    assert not books.wants_another()
    assert books.events() == [
        (None, {"leaf_sha256": issued.leaf_sha256, "reason": "keyCompromise"})
    ]
    assert [url for url, _ in books.ca.asked] == [USUAL]


@by_its_file
def test_a_ca_that_is_named_is_asked(
    books: Books, revoke: Callable[[Books, bytes, int, str], Revoked]
) -> None:
    _, chain = books.issue()
    assert revoke(books, chain, COMPROMISE, OTHER).renewed
    assert [url for url, _ in books.ca.asked] == [OTHER]
