"""Any change of any good vector is refused in our own words, or means the same as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.contract.bundle import PAYLOAD_TYPE, REHEARSAL_TYPE
from shared.contract.csr import check_csr
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import (
    AnswerUnauthenticated,
    BundleError,
    CsrRefused,
    RelayError,
    SealBroken,
    TokenExpired,
    TokenMalformed,
)
from shared.contract.key_policy import key_to_der, load_key
from tests.properties.test_decoders import Mutation, mutate, mutations
from tests.vectors.checks import CHECKS, accepted
from tests.vectors.vector import Vector, read_all


def _good(kind: str) -> list[Vector]:
    found = [vector for vector in read_all(kind) if vector.expect == "success"]
    assert found
    return found


def _bundle(payload_type: str) -> Callable[[Vector, bytes], Any]:
    def read(vector: Vector, body: bytes) -> Any:
        one = accepted(Vector(vector.name, vector.head, body), payload_type)
        return one.manifest, one.digest, one.chain_pem, one.key_pem

    return read


def _token(vector: Vector, body: bytes) -> Any:
    return EnrolmentToken.decode(body.decode("latin-1"), now=int(vector.head["now"]))


def _key(_: Vector, body: bytes) -> Any:
    return key_to_der(load_key(body))


def _opened(vector: Vector, body: bytes) -> Any:
    return CHECKS["sealing"](Vector(vector.name, vector.head, body))


def _answer(vector: Vector, body: bytes) -> Any:
    CHECKS["answers"](Vector(vector.name, vector.head, body))
    return body


FAMILIES: dict[str, tuple[Callable[[Vector, bytes], Any], tuple[type[RelayError], ...]]] = {
    "bundle": (_bundle(PAYLOAD_TYPE), (BundleError,)),
    "rehearsal": (_bundle(REHEARSAL_TYPE), (BundleError,)),
    "token": (_token, (TokenMalformed, TokenExpired)),
    "keys": (_key, (BundleError,)),
    "sealing": (_opened, (SealBroken,)),
    "answers": (_answer, (AnswerUnauthenticated,)),
}
GOOD = [(kind, vector) for kind in FAMILIES for vector in _good(kind)]


@given(st.sampled_from(GOOD), mutations)
def test_a_changed_good_vector_is_refused_or_equal(
    chosen: tuple[str, Vector], mutation: Mutation
) -> None:
    kind, vector = chosen
    read, family = FAMILIES[kind]
    before = read(vector, vector.body)
    try:
        after = read(vector, mutate(vector.body, mutation))
    except family:
        return
    assert after == before


@given(st.sampled_from(_good("csr")), mutations)
def test_a_changed_good_csr_is_refused(vector: Vector, mutation: Mutation) -> None:
    changed = mutate(vector.body, mutation)
    try:
        check_csr(changed, vector.head["names"].split(","))
    except CsrRefused:
        return
    assert changed == vector.body
