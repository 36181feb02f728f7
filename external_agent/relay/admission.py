"""The one place where the relay API decides who may call, whatever is called.

It stands around the router, so a route that is added later is guarded without asking for it. The
only call that passes is an enrolment: who enrols is not a puller yet, and is admitted by a token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from external_agent.relay.authentication import Caller
from external_agent.store.interface import RelayStore

CERTIFICATE = "certificate"
"""The parameter by which a route's path names a certificate."""


class Admission:
    """
    Args:
        routes: of the router, as they are when a request comes.
        run: calls a function that may block.
        clock: unix seconds.
    """

    def __init__(
        self,
        store: RelayStore,
        routes: Sequence[BaseRoute],
        run: Callable[..., Awaitable[object]],
        clock: Callable[[], float],
    ) -> None:
        self._store, self._routes, self._run, self._clock = store, routes, run, clock

    @asynccontextmanager
    async def of(self, caller: Caller, scope: Scope) -> AsyncIterator[None]:
        """Decide before a verified request is handled, and again before its answer is sent.

        Whatever took its time inside (a parked poll, an examination) is refused at the end if the
        puller was revoked, suspended or lost its grant meanwhile.

        Raises:
            RequestRefused: see ``RelayStore.admit``. StoreError.
        """
        if caller.enrolment is not None:
            yield
            return
        certificate = self._certificate(scope)
        nonce = None if scope["method"] == "GET" else caller.nonce
        await self._decide(caller, certificate, nonce)
        yield
        await self._decide(caller, certificate, None)

    async def _decide(self, caller: Caller, certificate: str | None, nonce: str | None) -> None:
        now = int(self._clock())
        await self._run(self._store.admit, caller.puller, certificate, nonce=nonce, now=now)

    def _certificate(self, scope: Scope) -> str | None:
        """Return what the path names, as it stands there: what is not granted is not looked at."""
        for route in self._routes:
            match, found = route.matches(scope)
            if match is not Match.NONE:
                named = found["path_params"].get(CERTIFICATE)
                return None if named is None else str(named)
        return None
