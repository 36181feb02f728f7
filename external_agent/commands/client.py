"""The command line as a client of the operator API: one way to change things.

While the agent runs, it is asked over its socket. Otherwise the very same app answers in this
process, over the store that the command has opened.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import httpx

from external_agent.operator import local_socket
from shared.contract.errors import (
    ConfigurationError,
    PolicyError,
    RelayError,
    StoreUnavailable,
    TransportError,
)

if TYPE_CHECKING:
    from external_agent.orders.certificate_authority import Connector
    from external_agent.settings.config import Settings
    from external_agent.store.interface import Store
    from shared.contract.diagnosis import Half

_SECONDS = 600.0  # a CA may take its time over a revocation
_ORIGIN = "http://localhost"
_BY_STATUS: Mapping[int, type[RelayError]] = {
    403: PolicyError,
    404: PolicyError,
    409: PolicyError,
    500: RelayError,
    503: StoreUnavailable,
}


class Send(Protocol):
    """Sends one request and returns status and body."""

    def __call__(self, request: httpx.Request) -> httpx.Response: ...


class Api:
    """Calls of the operator API.

    Args:
        send: raises ``httpx.HTTPError``.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def get(self, *path: str, **query: object) -> Any:
        """Return the answer's JSON; parameters that are ``None`` are left out.

        Raises:
            RelayError: the refusal, as the class it was where it arose.
        """
        return self._call("GET", path, query={k: v for k, v in query.items() if v is not None})

    def post(self, *path: str, body: object = None) -> Any:
        """As :meth:`get`."""
        return self._call("POST", path, body)

    def put(self, *path: str, body: object = None) -> Any:
        """As :meth:`get`."""
        return self._call("PUT", path, body)

    def patch(self, *path: str, body: object = None) -> Any:
        """As :meth:`get`."""
        return self._call("PATCH", path, body)

    def delete(self, *path: str) -> Any:
        """As :meth:`get`."""
        return self._call("DELETE", path)

    def pages(self, *path: str, cursor: str = "after", **query: object) -> Iterator[Any]:
        """Give every item of a list, page by page."""
        more: dict[str, object] = {}
        while True:
            page = self.get(*path, **query, **more)
            yield from page["items"]
            if page["next"] is None:
                return
            more = {cursor: page["next"]}

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        body: object = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        url = "/".join((_ORIGIN, "v1", *(quote(part, safe="") for part in path)))
        request = httpx.Request(method, url, json=body, params=query or None)
        try:
            answer = self._send(request)
        except httpx.HTTPError as error:
            raise TransportError(
                f"The running agent did not answer: {error}.",
                do="Look at its log; it may be about to stop.",
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise error_of(answer.status_code, answer.content)


def error_of(status: int, body: bytes) -> RelayError:
    """Return the error that a problem document tells of."""
    try:
        document = json.loads(body)
        what = str(document["detail"])
    except (ValueError, LookupError, TypeError):
        return TransportError(
            f"The running agent answered with HTTP status {status}.",
            do="A bug in the agent: look at its log, and please report it.",
        )
    for fault in document.get("faults") or () if "error" not in document else ():
        what = f"{fault['member']}: {fault['what']}."
    kind = _kinds().get(str(document.get("error"))) or _BY_STATUS.get(status, ConfigurationError)
    return kind(what, do=document.get("do") or None)


def _kinds(above: type[RelayError] = RelayError) -> dict[str, type[RelayError]]:
    found = {above.type: above}
    for kind in above.__subclasses__():
        found = {**_kinds(kind), **found}
    return found


@contextmanager
def running_agent(path: Path) -> Iterator[Api | None]:
    """Give the API of the agent that listens at a socket; ``None`` where none does."""
    if not local_socket.answers(path):
        yield None
        return
    with (
        local_socket.reachable(path) as short,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=short, verify=False),
            timeout=_SECONDS,
            trust_env=False,
        ) as client,
    ):
        yield Api(client.send)


def own_api(settings: Settings, store: Store, clock: Callable[[], int]) -> Api:
    """Return the API over an opened store, in this process."""
    from external_agent.operator.app import behind_gate, operator_api
    from external_agent.operator.callers import LOCAL_USER, user_name
    from external_agent.operator.services import Services
    from external_agent.relay import enrolment
    from external_agent.settings import keys

    async def at_once(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        return function(*args, **named)

    def make() -> enrolment.TokenMaker:
        return enrolment.token_maker(settings, keys.load_keys(settings.state_directory))

    def authorities() -> Connector:
        # web servers and all: only if needed
        from external_agent.composition.authorities import authorities_of

        return authorities_of(lambda: settings, store)

    def loud(error: Exception) -> None:
        raise error

    async def examine(certificates: Sequence[str]) -> Half:
        from external_agent.doctor.doctor import Doctor

        return Doctor(store, lambda: settings, authorities, None, clock).examine(certificates)

    services = Services(
        store,
        clock,
        at_once,
        settings=lambda: settings,
        token_maker=make,
        authorities=authorities,
        examine=examine,
        random=secrets.token_bytes,
        unexpected=loud,
    )
    app = behind_gate(operator_api(services), services)
    state = {LOCAL_USER: user_name(os.geteuid())}

    async def as_user(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": state}, receive, send)

    async def ask(request: httpx.Request) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(as_user), trust_env=False
        ) as client:
            answer = await client.send(request)
            await answer.aread()
            return answer

    return Api(lambda request: asyncio.run(ask(request)))
