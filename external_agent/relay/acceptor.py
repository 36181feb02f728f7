"""Lets a bounded number of connections in: who is silent gives way to who comes.

The event loop's own server counts nothing, and waits a minute for a TLS handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol, cast

_HANDSHAKE_SECONDS = 10.0
_BACKLOG = 1024
_NO_DESCRIPTOR_SECONDS = 0.2


class Guest(Protocol):
    """What speaks on one connection."""

    def is_inside(self) -> bool:
        """Tell whether the connection, with its TLS, has been made."""

    def is_at_work(self) -> bool:
        """Tell whether a request is being answered."""

    def turn_out(self) -> None:
        """End the connection now."""


class Door:
    """Accepts connections of one listener.

    Args:
        make: gives the protocol of a new connection; it calls what it is given when it is over.
        tls: ``None`` for none.
        most: connections at once, those in their TLS handshake among them. Above it the oldest
            one without a request under way is ended; where all are at work, the new one is.
    """

    def __init__(
        self,
        make: Callable[[Callable[[Guest], None]], Guest],
        tls: ssl.SSLContext | None,
        most: int,
        handshake_seconds: float = _HANDSHAKE_SECONDS,
    ) -> None:
        self._make, self._tls, self._most = make, tls, most
        self._handshake_seconds = handshake_seconds
        self._guests: dict[Guest, asyncio.Task[None]] = {}  # in the order of their coming
        self._accepting: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._guests)

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
        under_way = [task for guest, task in self._guests.items() if not guest.is_inside()]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*self._accepting, *under_way, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # it is gone already, or there are no more descriptors
                await asyncio.sleep(_NO_DESCRIPTOR_SECONDS)
                continue
            if len(self._guests) >= self._most and not self._make_room():
                connection.close()
                continue
            guest = self._make(self._leave)
            self._guests[guest] = asyncio.create_task(self._receive(guest, connection))

    def _make_room(self) -> bool:
        for guest, task in self._guests.items():
            if not guest.is_inside():
                task.cancel()
            elif not guest.is_at_work():
                guest.turn_out()
            else:
                continue
            del self._guests[guest]
            return True
        return False

    async def _receive(self, guest: Guest, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast(asyncio.Protocol, guest),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._handshake_seconds,
            )
        except OSError:  # no TLS, or none in time
            pass
        finally:
            if not guest.is_inside():
                self._leave(guest)
                with contextlib.suppress(OSError):
                    connection.close()

    def _leave(self, guest: Guest) -> None:
        self._guests.pop(guest, None)
