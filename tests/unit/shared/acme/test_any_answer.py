"""Whatever a CA answers, only our own errors come of it, and every message is printable."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from shared.acme.answers import (
    read_authorization,
    read_challenge,
    read_directory,
    read_order,
    read_order_list,
)
from shared.acme.ari import read_renewal_window
from shared.acme.authorizations import Authorizer
from shared.acme.chain import check_issued_chain
from shared.acme.network import Answer
from shared.acme.origin import Origin
from shared.acme.ports import AuthorizationState
from shared.acme.problems import describe, read_problem, refusal
from shared.contract.errors import RelayError
from tests.unit.shared.acme.doubles import RecordedSolver, csr_for
from tests.unit.shared.acme.fake_ca import FakeCa

NAME = "app.example.org"
URL = "https://ca.example.org/x"
ORIGIN = Origin(URL, frozenset())
CSR = csr_for([NAME])
MEMBERS = (
    "status",
    "identifiers",
    "identifier",
    "type",
    "value",
    "wildcard",
    "challenges",
    "url",
    "token",
    "error",
    "detail",
    "title",
    "subproblems",
    "authorizations",
    "finalize",
    "certificate",
    "expires",
    "orders",
    "meta",
    "profiles",
    "newNonce",
    "newAccount",
    "newOrder",
    "termsOfService",
    "suggestedWindow",
    "start",
    "end",
    "explanationURL",
)
WORDS = ("pending", "ready", "valid", "invalid", "processing", "dns", "http-01", NAME, URL)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
    | st.sampled_from(WORDS)
)
KEYS = st.sampled_from(MEMBERS) | st.text(max_size=5)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=30,
)


CHALLENGES = st.fixed_dictionaries(
    {"type": st.sampled_from(("http-01", "dns-01")) | DOCUMENTS, "url": st.just(URL) | DOCUMENTS},
    optional={"status": st.sampled_from(WORDS), "token": st.text(min_size=20), "error": DOCUMENTS},
)
AUTHORIZATIONS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(("pending", "valid", "invalid")),
        "identifier": st.fixed_dictionaries({"type": st.just("dns"), "value": st.just(NAME)}),
        "challenges": st.lists(CHALLENGES, max_size=3),
    },
    optional={"wildcard": DOCUMENTS},
)


def only_ours(call: Callable[[], object]) -> None:
    """Run it; a RelayError with a printable message is the only way to fail."""
    try:
        call()
    except RelayError as error:
        assert error.what.isprintable()


@given(DOCUMENTS)
def test_any_document(document: object) -> None:
    answer = Answer(URL, json.dumps(document).encode(), {}, None)
    only_ours(lambda: read_directory(answer, ORIGIN))
    only_ours(lambda: read_order(answer, URL, ORIGIN))
    only_ours(lambda: read_order_list(answer, ORIGIN))
    only_ours(lambda: read_renewal_window(answer))
    only_ours(lambda: drive_authorization(read_authorization(answer, URL, ORIGIN)))
    if isinstance(document, dict):
        only_ours(lambda: read_challenge(document, ORIGIN))


@given(AUTHORIZATIONS)
def test_any_authorization(document: object) -> None:
    answer = Answer(URL, json.dumps(document).encode(), {}, None)
    only_ours(lambda: drive_authorization(read_authorization(answer, URL, ORIGIN)))


def drive_authorization(state: AuthorizationState) -> None:
    ca = FakeCa([NAME])
    ca.authorizations = {URL: state}
    solver = RecordedSolver()
    with contextlib.suppress(StopIteration):
        Authorizer(ca, frozenset([NAME]), {"http-01": solver}).advance([URL])
    assert all(one.identifier == NAME for one in solver.ever)
    assert all(one.token.isascii() and len(one.token) >= 22 for one in solver.ever)


@given(DOCUMENTS, st.integers(100, 999))
def test_any_problem(document: object, status: int) -> None:
    problem = read_problem(document, status)
    assert describe(problem).isprintable()
    assert refusal("The CA refused", problem).what.isprintable()


@given(st.binary(max_size=300))
def test_any_body(body: bytes) -> None:
    answer = Answer(URL, body, {}, None)
    only_ours(lambda: read_order(answer, URL, ORIGIN))
    only_ours(lambda: check_issued_chain(body, CSR, [NAME]))
