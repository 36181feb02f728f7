"""Finds out who asks: users of this machine, bearers of access tokens (RFC 6750), anybody."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Mapping

from external_agent.facts.access import PREFIX, digest_of
from external_agent.operator.callers import ANYBODY, Caller
from external_agent.operator.hosts import is_loopback
from external_agent.operator.limits import Failures
from external_agent.operator.problems import Refused
from external_agent.operator.services import Services
from external_agent.records.rows import AccessRow
from external_agent.settings.addresses import network_of
from external_agent.store.access import USE_NOTED_EVERY

_CHALLENGE = 'Bearer realm="external-agent"'
_MOST_KNOWN = 1000
_MAX_TOKEN = 200


class Identity:
    """Looks tokens up, and keeps who guesses from asking the store without end.

    A token that was good before is looked up even while its peer has to wait: behind a reverse
    proxy all peers have one address, and one who guesses must not lock out the others.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._failures = Failures()
        self._known: OrderedDict[str, None] = OrderedDict()

    async def caller(self, headers: Mapping[str, str], peer: str) -> Caller | None:
        """Return who asks over TCP; ``None`` without a token.

        Raises:
            Refused: a token that is not good, or too many of them.
            StoreError: the tokens cannot be looked up.
        """
        field = headers.get("authorization")
        if field is None:
            return ANYBODY if self._is_open(headers, peer) else None
        scheme, _, token = field.partition(" ")
        digest = digest_of(token.strip()[:_MAX_TOKEN])
        now = self._services.clock()
        peer = network_of(peer) or peer
        wait = self._failures.wait(peer, now)
        if wait and digest not in self._known:
            self._services.observe_access("limited")
            raise Refused("too-many-failures", headers={"Retry-After": str(wait)})
        row = None
        if scheme.lower() == "bearer" and token.strip().startswith(PREFIX):
            row = await self._services.run(self._services.store.access_by_digest, digest)
        # The look-up compares in the database; this comparison leaks nothing of the digest.
        if not isinstance(row, AccessRow) or not hmac.compare_digest(row.digest, digest):
            raise self._failed(peer, now, "unknown")
        if not row.is_live(int(now)):
            raise self._failed(peer, now, "ended")
        await self._used(row, digest, int(now))
        return Caller(f"token {row.name}", row.role, row.expires_at, row.id)

    async def require_live(self, caller: Caller) -> None:
        """Decide again about somebody who was let in a while ago.

        Raises:
            Refused: their token was voided or has expired. StoreError.
        """
        if caller.token:
            row = await self._services.run(self._services.store.access_token, caller.token)
            if row is None or not row.is_live(self._services.now):
                raise ended()

    async def _used(self, row: AccessRow, digest: str, now: int) -> None:
        self._services.observe_access("good")
        self._known[digest] = None
        self._known.move_to_end(digest)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        if row.used_at is None or not row.used_at <= now < row.used_at + USE_NOTED_EVERY:
            await self._services.run(self._services.store.note_access_used, row.id, now=now)

    def _failed(self, peer: str, now: float, outcome: str) -> Refused:
        self._failures.add(peer, now)
        self._services.observe_access(outcome)
        return ended()

    def _is_open(self, headers: Mapping[str, str], peer: str) -> bool:
        """A reverse proxy on this machine is loopback, too, but its callers are not."""
        forwarded = any(name.startswith(("forwarded", "x-forwarded", "via")) for name in headers)
        host = headers.get("host", "")
        return (
            self._services.open_read and is_loopback(peer) and is_loopback(host) and not forwarded
        )


def ended() -> Refused:
    """Return the refusal of a token that was good before (RFC 6750 section 3.1)."""
    return not_authenticated('error="invalid_token"')


def not_authenticated(more: str = "") -> Refused:
    """Return the refusal that asks for a token (RFC 6750 section 3)."""
    challenge = f"{_CHALLENGE}, {more}" if more else _CHALLENGE
    return Refused("not-authenticated", headers={"WWW-Authenticate": challenge})
