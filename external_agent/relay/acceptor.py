"""Lets a bounded number of connections in: who has shown no credentials gives way to who comes.

A whole intranet comes from one address, so an address says little. A connection is a *stranger*
until credentials were verified on it (a puller's signature, an operator's token); strangers count
against their address and are the first to go. One that has shown credentials is *known*, counts for
their holder, and is *at work* while a request with credentials is being answered: such a one is
never ended for another's sake.

The event loop's own server counts nothing, and waits a minute for a TLS handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from starlette.types import Scope

from external_agent.settings.addresses import network_of

_HANDSHAKE_SECONDS = 10.0
_BACKLOG = 1024
_NO_DESCRIPTOR_SECONDS = 0.2
MOST_KNOWN = 64
"""Connections of one holder of credentials; a puller needs one, and parks four polls at most."""
_PEER = "acceptor.peer"
_Groups = dict[str | None, dict["Peer", None]]
"""Connections by what they count for, each in the order of their coming."""


class Peer(Protocol):
    """What speaks on one connection."""

    def is_inside(self) -> bool:
        """Tell whether the connection, with its TLS, has been made."""

    def is_at_work(self) -> bool:
        """Tell whether a request whose credentials were verified is being answered."""

    def turn_out(self) -> None:
        """End the connection now."""

    def vouch(self, holder: str) -> None:
        """The request that is being read has shown good credentials."""


def state_with(peer: Peer, more: dict[str, Any]) -> dict[str, Any]:
    """Return the ``state`` that a connection's requests have, so that :func:`vouch` finds it."""
    return {_PEER: peer, **more}


def vouch(scope: Scope, holder: str) -> None:
    """Say that a request's credentials were verified: its connection is at work, and known.

    Args:
        holder: whose credentials they are.
    """
    peer = (scope.get("state") or {}).get(_PEER)
    if peer is not None:
        cast(Peer, peer).vouch(holder)


class Acceptor:
    """Accepts connections of one listener.

    Args:
        make: gives the protocol of a new connection, which calls :meth:`leave` when it is over
            and :meth:`know` when it has shown credentials.
        tls: ``None`` for none.
        most: connections at once, those in their TLS handshake among them. Above it the oldest
            stranger of the address that has most of them is ended, then the oldest known one that
            is not at work; where all are at work, the new one is.

    Strangers of one address are half of ``most`` at most. An address of this machine is a reverse
    proxy's, and stands for everybody behind it: there is no such limit for it.
    """

    def __init__(
        self,
        make: Callable[[Acceptor], Peer],
        tls: ssl.SSLContext | None,
        most: int,
        handshake_seconds: float = _HANDSHAKE_SECONDS,
    ) -> None:
        self._make, self._tls, self._most = make, tls, most
        self._most_strangers = max(1, most // 2)
        self._handshake_seconds = handshake_seconds
        self._peers: dict[Peer, asyncio.Task[None]] = {}  # in the order of their coming
        self._strangers: _Groups = {}  # by network
        self._known: _Groups = {}  # by holder
        self._group: dict[Peer, tuple[_Groups, str | None]] = {}  # each is in one
        self._accepting: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def strangers(self) -> int:
        """How many have shown no credentials."""
        return sum(len(peers) for peers in self._strangers.values())

    def open(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on bound sockets, in the running loop."""
        for one in sockets:
            one.setblocking(False)
            one.listen(_BACKLOG)
            self._accepting.append(asyncio.create_task(self._accept(one)))

    async def close(self) -> None:
        """Accept no more; end the handshakes under way, and nothing else."""
        for task in self._accepting:
            task.cancel()
        under_way = [task for peer, task in self._peers.items() if not peer.is_inside()]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*self._accepting, *under_way, return_exceptions=True)

    def know(self, peer: Peer, holder: str) -> None:
        """Count a connection for who has shown credentials on it."""
        if peer in self._peers:
            self._put(peer, self._known, holder)
            if len(self._known[holder]) > MOST_KNOWN:
                self._end_idle(self._known[holder])

    def leave(self, peer: Peer) -> None:
        """Count a connection no more."""
        self._peers.pop(peer, None)
        self._take(peer)

    def _put(self, peer: Peer, groups: _Groups, name: str | None) -> None:
        if peer not in groups.get(name, {}):
            self._take(peer)
            groups.setdefault(name, {})[peer] = None
            self._group[peer] = (groups, name)

    def _take(self, peer: Peer) -> None:
        groups, name = self._group.pop(peer, ({}, None))
        members = groups.get(name, {})
        members.pop(peer, None)
        if not members:
            groups.pop(name, None)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError:  # it is gone already, or there are no more descriptors
                await asyncio.sleep(_NO_DESCRIPTOR_SECONDS)
                continue
            network = network_of(address)
            neighbours = self._strangers.get(network, {})
            if network is not None and len(neighbours) >= self._most_strangers:
                self._end(next(iter(neighbours)))
            if len(self._peers) >= self._most and not self._make_room():
                connection.close()
                continue
            peer = self._make(self)
            self._put(peer, self._strangers, network)
            self._peers[peer] = asyncio.create_task(self._receive(peer, connection))

    def _make_room(self) -> bool:
        if self._strangers:
            crowded = max(self._strangers, key=lambda network: len(self._strangers[network]))
            self._end(next(iter(self._strangers[crowded])))
            return True
        return self._end_idle(self._peers)

    def _end_idle(self, peers: dict[Peer, Any]) -> bool:
        """End the oldest of these that is not at work."""
        idle = next((peer for peer in peers if not peer.is_at_work()), None)
        if idle is not None:
            self._end(idle)
        return idle is not None

    def _end(self, peer: Peer) -> None:
        if peer.is_inside():
            peer.turn_out()
        else:
            self._peers[peer].cancel()
        self.leave(peer)

    async def _receive(self, peer: Peer, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast(asyncio.Protocol, peer),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._handshake_seconds,
            )
        except OSError:  # no TLS, or none in time
            pass
        finally:
            if not peer.is_inside():
                self.leave(peer)
                with contextlib.suppress(OSError):
                    connection.close()
