"""One total deadline over a whole HTTP exchange: `requests` bounds only single reads."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


class Watchdog:
    """Shuts down every connection that was opened here when an exchange takes too long.

    A socket is held by a duplicate of its descriptor, so that it can be shut down at any stage,
    in the middle of the TLS handshake too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.bit = False

    def watch(self, connected: socket.socket) -> socket.socket:
        """Hold a duplicate of `connected`; give it to `forget` when the connection closes."""
        duplicate = connected.dup()
        with self._lock:
            self._sockets.add(duplicate)
        return duplicate

    def forget(self, duplicate: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(duplicate)
        duplicate.close()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Run the body under a deadline; `bit` tells afterwards whether it was missed."""
        self.bit = False
        timer = threading.Timer(seconds, self._bite)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _bite(self) -> None:
        with self._lock:
            self.bit = True
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class WatchedAdapter(HTTPAdapter):
    """A transport adapter of `requests` whose sockets a watchdog knows."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._pool_classes = _pool_classes(watchdog)
        super().__init__(pool_connections=2, pool_maxsize=2)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager


def _pool_classes(watchdog: Watchdog) -> dict[str, type[HTTPConnectionPool]]:
    class WatchedConnection(HTTPConnection):
        _duplicate: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            connected = super()._new_conn()
            self._duplicate = watchdog.watch(connected)
            return connected

        def close(self) -> None:
            super().close()
            if self._duplicate is not None:
                watchdog.forget(self._duplicate)
                self._duplicate = None

    class WatchedSecureConnection(WatchedConnection, HTTPSConnection):
        pass

    class WatchedPool(HTTPConnectionPool):
        ConnectionCls = WatchedConnection

    class WatchedSecurePool(HTTPSConnectionPool):
        ConnectionCls = WatchedSecureConnection

    return {"http": WatchedPool, "https": WatchedSecurePool}
