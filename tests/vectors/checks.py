"""What the product says of a vector, in the words of docs/FORMAT.md."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from external_agent.records.model import PullerStatus
from external_agent.records.rows import PullerRow, TokenRow
from external_agent.relay.admission import Admission
from external_agent.relay.authentication import Authenticator
from external_agent.relay.enrolment import redeem
from external_agent.relay.problems import problem_of
from external_agent.relay.signed_messages import SignedMessages, caller_of
from external_agent.store.interface import RelayStore
from internal_puller.state.floor import Floor
from internal_puller.trust import Accepted, Wanted, accept
from shared.contract import strict_json
from shared.contract.batches import BatchAnswer, decode_batch
from shared.contract.bundle import PAYLOAD_TYPE, REHEARSAL_TYPE
from shared.contract.csr import check_csr
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import (
    CsrRefused,
    KeyMismatch,
    MalformedBundle,
    MalformedMessage,
    RelayError,
)
from shared.contract.http_signatures import verify_response
from shared.contract.key_policy import load_key
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import VerifyKey, key_id
from shared.contract.wire import (
    EnrolmentAnswer,
    Listing,
    Problem,
    Receipt,
    clamp_come_back,
)
from shared.contract.x509 import load_roots, spki_sha256
from tests.vectors.vector import HERE, Vector
from tests.vectors.world import AGENT


def outcome(kind: str, vector: Vector) -> str:
    """Return ``success``, or what docs/FORMAT.md calls the refusal."""
    try:
        refusal = CHECKS[kind](vector)
    except RelayError as error:
        assert error.what.endswith((".", "…"))
        return spoken(kind, vector, error)
    return refusal or "success"


def spoken(kind: str, vector: Vector, error: RelayError) -> str:
    """Return the name that docs/FORMAT.md has for an error: that of a bundle has two parts."""
    if kind == "json":
        return "malformed"
    if isinstance(error, CsrRefused):
        return "csr-refused"
    if isinstance(error, MalformedMessage) and vector.head.get("of") == "request":
        return "malformed-request"
    return error.type if error.type.startswith("bundle/") else error.type.rpartition("/")[2]


# --- what a puller reads ------------------------------------------------------------------------


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


def _bundle(vector: Vector) -> None:
    accepted(vector)


def _rehearsal(vector: Vector) -> None:
    accepted(vector, REHEARSAL_TYPE)


def _keys(vector: Vector) -> None:
    if spki_sha256(load_key(vector.body)) != vector.head["spki-sha256"]:
        raise KeyMismatch("The key is another one's.")


def _sealing(vector: Vector) -> None:
    head = vector.head
    context = SealContext(
        head["agent-id"],
        head["recipient"],
        int(head["generation"]),
        head["spki-sha256"],
        head["certificate"],
    )
    opened = Identity(bytes.fromhex(head["identity"])).open(vector.body, context)
    assert opened.hex() == head["opens-to"]


def _token(vector: Vector) -> None:
    EnrolmentToken.decode(vector.body.decode(), now=int(vector.head["now"]))


def _answers(vector: Vector) -> None:
    head = vector.head
    fields = ("content-digest", "signature-input", "signature")
    verify_response(
        int(head["status"]),
        {name: head[name] for name in fields if head[name]},
        vector.body,
        bytes.fromhex(head["request-signature"]),
        VerifyKey(bytes.fromhex(head["key"])),
    )


def _listing(vector: Vector) -> None:
    listing = Listing.decode(vector.body)
    assert clamp_come_back(listing.come_back) == int(vector.head["come-back"])


def _receipts(vector: Vector) -> None:
    if vector.head["of"] == "answer":
        found = [one.index for one in BatchAnswer.decode(vector.body).refused]
    else:
        read = decode_batch(vector.body, "receipts", Receipt.read)
        found = [place for place, one in enumerate(read) if isinstance(one, MalformedMessage)]
    assert ",".join(map(str, found)) == vector.head["refused"]


# --- what an agent reads ------------------------------------------------------------------------


def _csr(vector: Vector) -> None:
    try:
        check_csr(vector.body, vector.head["names"].split(","))
    except RelayError as error:
        assert vector.head["says"] in error.what  # each is refused for its own reason
        raise


class _Directory:
    """The one key that is known, under the one id that it has."""

    def __init__(self, head: dict[str, str]) -> None:
        self._key, self._id = bytes.fromhex(head["key"]), head["keyid"]
        self._enrols = head["path"] == "/v1/enrolments"

    def puller(self, puller: str) -> PullerRow | None:
        if self._enrols or puller != self._id:
            return None
        return PullerRow(puller, self._key, "", b"", "", PullerStatus.ACTIVE, 0, None, "")

    def token(self, token_id: str) -> TokenRow | None:
        if not self._enrols or token_id != self._id:
            return None
        return TokenRow(token_id, self._key, (), 0, 2**40, None, None, None)


class _Store:
    """Admits every call, and takes every token that was verified."""

    def admit(self, *_: object, **__: object) -> None:
        return None

    def redeem_token(self, _: str, *, signing_key: bytes, **__: object) -> EnrolmentAnswer:
        return EnrolmentAnswer(key_id(signing_key), ())


async def _run(call: Callable[..., object], *args: object, **named: object) -> object:
    return call(*args, **named)


def _request(vector: Vector) -> str:
    """Send it to the product's own door; return what the problem document says, if it is one."""
    head, now = vector.head, float(vector.head["now"])
    store = _Store()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        caller = caller_of(scope)
        status, body = 200, b""
        if caller.enrolment is not None:
            try:
                body = redeem(cast(Any, store), caller, int(now)).encode()
            except RelayError as error:
                refusal = problem_of(error)
                status, body = refusal.status, refusal.body
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    door = SignedMessages(
        app,
        Authenticator(_Directory(head), [head["authority"]], _run),
        Admission(cast(RelayStore, store), (), _run, lambda: now),
        AGENT,
        clock=lambda: now,
    )
    return asyncio.run(_asked(door, vector))


async def _asked(door: SignedMessages, vector: Vector) -> str:
    head = vector.head
    fields = [
        (name.encode(), head[name].encode())
        for name in ("signature-input", "signature", "content-digest")
        if head[name]
    ]
    scope = {
        "type": "http",
        "method": head["method"],
        "path": head["path"],
        "raw_path": head["path"].encode(),
        "query_string": head["query"].encode(),
        "headers": [*fields, (b"content-length", str(len(vector.body)).encode())],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": vector.body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await door(scope, receive, send)
    start, end = sent
    return "" if start["status"] == 200 else Problem.decode(end["body"]).slug


# --- both ---------------------------------------------------------------------------------------


def _json(vector: Vector) -> None:
    strict_json.decode_object(vector.body, "The text", max_size=65_536, error=MalformedBundle)
    assert strict_json.encode(json.loads(vector.body)).hex() == vector.head["written"]


CHECKS: dict[str, Callable[[Vector], str | None]] = {
    "bundle": _bundle,
    "rehearsal": _rehearsal,
    "keys": _keys,
    "sealing": _sealing,
    "token": _token,
    "request": _request,
    "enrolment": _request,
    "answers": _answers,
    "listing": _listing,
    "receipts": _receipts,
    "csr": _csr,
    "json": _json,
}
