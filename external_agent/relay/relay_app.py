"""The relay API: what enrolled pullers may ask. Every request here was verified and admitted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from external_agent.doctor.halves import Halves, for_a_puller
from external_agent.doctor.turns import Turns
from external_agent.relay.admission import CERTIFICATE
from external_agent.relay.change_notifier import Bell, TooManyWaits
from external_agent.relay.enrolment import redeem
from external_agent.relay.problems import Answer, problem, problem_of, slug_of
from external_agent.relay.rehearsal import Rehearsals
from external_agent.relay.signed_messages import caller_of
from external_agent.store.interface import Store
from shared.contract.batches import BatchAnswer, Refusal, decode_batch
from shared.contract.diagnosis import DOCTOR_PATH, Half
from shared.contract.errors import (
    ConfigurationError,
    MalformedMessage,
    PolicyError,
    RelayError,
    RequestRefused,
)
from shared.contract.rehearsal import RehearsalAnswer
from shared.contract.strict_json import MAX_INTEGER, Members
from shared.contract.wire import (
    CERTIFICATES_PATH,
    DIRECT_PATH,
    ENROLMENTS_PATH,
    HOST,
    INSTALLATION,
    JSON_TYPE,
    MAX_WAIT,
    RECEIPTS_PATH,
    VERSION,
    DirectReport,
    Listing,
    Machine,
    Receipt,
)

_ACCEPTED = b'{"accepted":true}'
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")
Run = Callable[..., Awaitable[Any]]
T = TypeVar("T")


class RelayApp:
    """The calls of the relay API.

    Args:
        store: called in threads by ``run``.
        bell: rung on publication, revocation and shutdown.
        clock: unix seconds.
        run: calls a function that may block.
        own_keys: gives SPKI digests of keys that no certificate may have.
        doctor: makes the agent's half of a diagnosis; ``None`` where there is none.
        halves: where the pullers' halves are kept.
        rehearsals: ``None`` where nothing can be ordered.
    """

    def __init__(
        self,
        store: Store,
        bell: Bell,
        clock: Callable[[], float],
        run: Run,
        own_keys: Callable[[], frozenset[str]] = frozenset,
        *,
        doctor: Turns | None = None,
        halves: Halves | None = None,
        rehearsals: Rehearsals | None = None,
    ) -> None:
        self._store = store
        self._bell = bell
        self._clock = clock
        self._run = run
        self._own_keys = own_keys
        self._doctor = doctor
        self._halves = halves or Halves()
        self._rehearsals = rehearsals

    def asgi(self) -> Starlette:
        """Return the app, for ``SignedMessages`` with an ``Admission`` of its routes."""
        one = f"{CERTIFICATES_PATH}/{{{CERTIFICATE}}}"
        routes = [
            Route(ENROLMENTS_PATH, self.enrol, methods=["POST"]),
            Route(CERTIFICATES_PATH, self.list_certificates, methods=["GET"]),
            Route(f"{one}/bundle", self.bundle, methods=["GET"]),
            Route(f"{one}/csr", self.leave_csr, methods=["PUT"]),
            Route(f"{one}/rehearsal", self.begin_rehearsal, methods=["POST"]),
            Route(f"{one}/rehearsal", self.rehearsal, methods=["GET"]),
            Route(RECEIPTS_PATH, self.receive_receipts, methods=["POST"]),
            Route(DIRECT_PATH, self.receive_direct, methods=["POST"]),
            Route(DOCTOR_PATH, self.diagnose, methods=["POST"]),
        ]
        app = Starlette(
            routes=routes,
            exception_handlers={
                RelayError: _refuse,
                TooManyWaits: lambda request, error: _response(problem("too-many-waits")),
                HTTPException: lambda request, error: _response(problem("not-found")),
            },
        )
        app.router.redirect_slashes = False
        return app

    def _now(self) -> int:
        return int(self._clock())

    async def enrol(self, request: Request) -> Response:
        _query(request)
        try:
            answer = await self._run(redeem, self._store, caller_of(request.scope), self._now())
        finally:
            self._bell.ring()  # a refusal too: it may have suspended somebody whose poll is parked
        return _ok(answer.encode())

    async def list_certificates(self, request: Request) -> Response:
        """Everything granted; held until the version is not ``since``, at most ``wait`` s."""
        members = _query(request, since=VERSION, wait=_NUMBER, installation=INSTALLATION, host=HOST)
        since = members.get("since", "")
        wait = min(int(members.get("wait", "0")), MAX_WAIT)
        puller = caller_of(request.scope).puller
        machine = _machine(members)
        if not wait:
            return _ok((await self._listing(puller, machine)).encode())
        return await self._wait_for_news(request, puller, machine, since, wait)

    async def _listing(self, puller: str, machine: Machine | None) -> Listing:
        listing = await self._run(self._store.listing_for, puller, now=self._now(), machine=machine)
        assert isinstance(listing, Listing)
        return listing

    async def _wait_for_news(
        self, request: Request, puller: str, machine: Machine | None, since: str, wait: int
    ) -> Response:
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        async with self._bell.parked(puller) as rung:
            gone = loop.create_task(_until_gone(request))
            try:
                while True:
                    rung.clear()  # before reading, so that no ring in between is lost
                    listing = await self._listing(puller, machine)
                    machine = None  # it asks once, however often the list is read
                    left = end - loop.time()
                    if listing.version != since or left <= 0 or self._bell.closed or gone.done():
                        return _ok(listing.encode())
                    bell = loop.create_task(rung.wait())
                    await asyncio.wait(
                        (bell, gone), timeout=left, return_when=asyncio.FIRST_COMPLETED
                    )
                    bell.cancel()
            finally:
                gone.cancel()

    async def bundle(self, request: Request) -> Response:
        """The newest bundle above ``after``."""
        after = int(_query(request, after=_NUMBER).get("after", "0"))
        if after > MAX_INTEGER:
            raise MalformedMessage("A generation is below 2^53.")
        caller = caller_of(request.scope)
        answer = await self._run(
            self._store.bundle_for,
            caller.puller,
            request.path_params[CERTIFICATE],
            after,
            now=self._now(),
        )
        return _ok(answer.encode())

    async def leave_csr(self, request: Request) -> Response:
        """The CSR for the next generation of a certificate whose key the puller makes."""
        _query(request)
        caller = caller_of(request.scope)
        await self._run(
            self._store.leave_csr,
            caller.puller,
            request.path_params[CERTIFICATE],
            await request.body(),
            now=self._now(),
            own_keys=self._own_keys(),
        )
        return _ok(_ACCEPTED)

    async def receive_receipts(self, request: Request) -> Response:
        """What a puller installed, and what its servers serve."""
        sent = await _batch(request, "receipts", Receipt.read)
        return await self._record(request, sent, self._store.record_receipts)

    async def receive_direct(self, request: Request) -> Response:
        """How certificates stand that the puller gets by itself."""
        sent = await _batch(request, "reports", DirectReport.read)
        return await self._record(request, sent, self._store.record_direct)

    async def _record(
        self, request: Request, sent: Sequence[object], record: Callable[..., object]
    ) -> Response:
        """Record what could be read, and say what was refused of all that was sent."""
        puller = caller_of(request.scope).puller
        refused: dict[int, RelayError] = {
            place: one for place, one in enumerate(sent) if isinstance(one, MalformedMessage)
        }
        readable = [place for place in range(len(sent)) if place not in refused]
        found = await self._run(
            record, puller, [sent[place] for place in readable], now=self._now()
        )
        refused |= {readable[place]: error for place, error in found.items()}
        told = (Refusal(place, slug_of(one), one.what) for place, one in sorted(refused.items()))
        return _ok(BatchAnswer(tuple(told)).encode())

    async def begin_rehearsal(self, request: Request) -> Response:
        """Order from a staging CA, sealed to the puller that asks; nothing is published."""
        _query(request)
        if self._rehearsals is None:
            return _response(problem("not-found"))
        puller, certificate = caller_of(request.scope).puller, request.path_params[CERTIFICATE]
        try:
            state = await self._run(self._rehearsals.begin, certificate, puller)
        except ConfigurationError as error:
            raise RequestRefused(f"{error.what} {error.do}", problem_type="rehearsal") from error
        return _ok(RehearsalAnswer(state).encode())

    async def rehearsal(self, request: Request) -> Response:
        """How it stands, and the bundle once it is done."""
        _query(request)
        if self._rehearsals is None:
            return _response(problem("not-found"))
        puller, certificate = caller_of(request.scope).puller, request.path_params[CERTIFICATE]
        state, bundle = await self._run(self._rehearsals.state, certificate, puller)
        return _ok(RehearsalAnswer(state, bundle).encode())

    async def diagnose(self, request: Request) -> Response:
        """Take the puller's half of a diagnosis, and answer with ours of what it may fetch."""
        _query(request)
        puller = caller_of(request.scope).puller
        half = Half.decode(await request.body(), "puller")
        if self._doctor is None:
            return _response(problem("not-found"))
        granted = (await self._run(self._store.grants_of, [puller])).get(puller, ())
        if not granted:
            raise PolicyError("No certificate is granted to this puller.")
        found = await self._doctor.of_puller(puller, granted)
        own = {one.name for one in found.names}
        about = tuple(one for one in half.names if one.name in own)  # of others it has no say
        await self._run(self._store.admit, puller, now=self._now())  # it took its time
        self._halves.keep(puller, replace(half, names=about))
        return _ok(for_a_puller(found).encode())


async def _batch(
    request: Request, name: str, read: Callable[[Members], T]
) -> Sequence[T | MalformedMessage]:
    _query(request)
    return decode_batch(await request.body(), name, read)


def _machine(members: Mapping[str, str]) -> Machine | None:
    """Which machine asks; one half alone says nothing."""
    if "installation" not in members or "host" not in members:
        return None
    return Machine(members["installation"], members["host"])


def _query(request: Request, **permitted: re.Pattern[str]) -> dict[str, str]:
    raw = request.scope["query_string"].decode("ascii")
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, strict_parsing=True, max_num_fields=4)
    except ValueError as error:
        raise MalformedMessage("The query is malformed.") from error
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedMessage("A member of the query stands twice.")
    for name, value in members.items():
        if name not in permitted or not permitted[name].match(value):
            raise MalformedMessage(f"The query's member {name!r:.40} is not acceptable here.")
    return members


async def _until_gone(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


def _ok(body: bytes) -> Response:
    return _response(Answer(200, body, JSON_TYPE))


def _response(answer: Answer) -> Response:
    return Response(
        answer.body, answer.status, dict(answer.headers), media_type=answer.content_type
    )


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RelayError)
    return _response(problem_of(error))
