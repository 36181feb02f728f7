"""Every vector file is met: success, or exactly the one error that its head names."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_puller.state.floor import Floor
from internal_puller.trust import Accepted, Wanted, accept
from shared.contract.bundle import PAYLOAD_TYPE, REHEARSAL_TYPE
from shared.contract.csr import check_csr
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import RelayError
from shared.contract.http_signatures import SignedTarget, parse_signatures, verify_request
from shared.contract.key_policy import load_key
from shared.contract.sealing import Identity
from shared.contract.signing import VerifyKey
from shared.contract.x509 import load_roots, spki_sha256
from tests.vectors import generate
from tests.vectors.vector import HERE, Vector, read_all


def _ids(vectors: list[Vector]) -> dict[str, list[Vector] | list[str]]:
    return {"argvalues": vectors, "ids": [vector.name for vector in vectors]}


def _token(vector: Vector) -> None:
    EnrolmentToken.decode(vector.body.decode(), now=int(vector.head["now"]))


def _request(vector: Vector) -> None:
    head = vector.head
    target = SignedTarget(head["method"], head["authority"], head["path"], head["query"])
    presented = parse_signatures(head["signature-input"], head["signature"])[head["label"]]
    key = VerifyKey(bytes.fromhex(head["key"]))
    verify_request(presented, target, vector.body, head["content-digest"], key)


def _csr(vector: Vector) -> None:
    try:
        check_csr(vector.body, vector.head["names"].split(","))
    except RelayError as error:
        assert vector.head["says"] in error.what  # each is refused for its own reason
        raise


def accepted(vector: Vector, payload_type: str = PAYLOAD_TYPE) -> Accepted:
    """Return what a vector's bundle gives, checked as its head says."""
    head = vector.head
    floor = int(head["floor-generation"])
    pending = bytes.fromhex(head["pending-key"])
    return accept(
        vector.body,
        agent=VerifyKey(bytes.fromhex(head["agent"])),
        identity=Identity(bytes.fromhex(head["identity"])),
        wanted=Wanted(
            certificate=head["target"],
            names=tuple(head["target-names"].split(",")),
            own_key_only=head["target-key-origin"] == "puller",
            anchors=(load_roots((HERE / "bundle" / head["root"]).read_bytes()),),
        ),
        floor=Floor(floor, head["floor-digest"]) if floor else None,
        pending_keys={spki_sha256(load_key(pending)): pending} if pending else {},
        now=int(head["now"]),
        payload_type=payload_type,
    )


def outcome(check: object, vector: Vector) -> str:
    assert callable(check)
    try:
        check(vector)
    except RelayError as error:
        assert error.what.endswith((".", "…"))
        return error.type
    return "success"


@pytest.mark.parametrize("vector", **_ids(read_all("bundle")))
def test_bundle(vector: Vector) -> None:
    assert outcome(accepted, vector) == vector.expect


@pytest.mark.parametrize("vector", **_ids(read_all("rehearsal")))
def test_rehearsal(vector: Vector) -> None:
    assert outcome(lambda one: accepted(one, REHEARSAL_TYPE), vector) == vector.expect


@pytest.mark.parametrize("vector", **_ids(read_all("token")))
def test_token(vector: Vector) -> None:
    assert outcome(_token, vector) == vector.expect


@pytest.mark.parametrize("vector", **_ids(read_all("request")))
def test_request_signature(vector: Vector) -> None:
    assert outcome(_request, vector) == vector.expect


@pytest.mark.parametrize("vector", **_ids(read_all("csr")))
def test_csr(vector: Vector) -> None:
    assert outcome(_csr, vector) == vector.expect


def test_the_generator_writes_exactly_the_files_that_are_kept(tmp_path: Path) -> None:
    count = generate.write(tmp_path)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*/*")}
    kept = {
        path.relative_to(HERE): path.read_bytes()
        for kind in generate.everything()
        for path in (HERE / kind).iterdir()
    }
    assert count > 100
    assert written == kept


def test_there_are_at_least_forty_hostile_bundles() -> None:
    hostile = [vector for vector in read_all("bundle") if vector.expect != "success"]
    assert len(hostile) >= 40
    assert len({vector.body for vector in hostile} | {b""}) >= 40
