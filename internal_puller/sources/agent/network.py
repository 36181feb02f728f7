"""Connections to the agent: every step under one deadline, the peer checked before any request.

Neither httpx nor what it stands on has a deadline for a whole exchange: a peer that sends one
octet a second would hold a puller for ever. So each read and write gets what is left of it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpcore

from internal_puller.settings.proxies import credentials, without_credentials
from internal_puller.sources.agent.peer_key import NotACertificate, spki_sha256
from shared.contract.errors import ConfigurationError, TransportError
from shared.contract.outside_validity import untimely
from shared.host.trusted_file import read_trusted

TlsCheck = Literal["pin", "roots", "none"]
CONNECT_TIMEOUT = 10.0
_RECORD = 16384


class PinMismatch(TransportError):
    """The relay shows another TLS key than the token pinned; nothing was sent to it."""

    do = "Look for a proxy that opens TLS; give its root certificate: roots_file in puller.toml."


class UntrustedPeer(TransportError):
    """A TLS certificate does not verify; no request was sent."""


class UntimelyPeer(UntrustedPeer):
    """It does not verify for the time of day alone."""

    do = "Look at this machine's clock: timedatectl. If it is right, that certificate is not."


class Deadline:
    """When the exchange at hand has to be over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._end = 0.0

    def start(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = self._clock() + seconds

    def left(self) -> float:
        """Return the seconds that are left. Raises ``TransportError`` when there are none."""
        left = self._end - self._clock()
        if left <= 0:
            raise TransportError(
                f"The exchange with the agent took longer than {self._seconds:g} s."
            )
        return left


class BoundedBackend(httpcore.NetworkBackend):
    """TCP as httpcore does it, with every wait bounded by the deadline."""

    def __init__(self, deadline: Deadline, relay: ssl.SSLContext, pin: str | None) -> None:
        self.deadline = deadline
        self.relay = relay
        self.pin = pin
        self._tcp = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        bounded = min(CONNECT_TIMEOUT, self.deadline.left())
        stream = self._tcp.connect_tcp(host, port, bounded, local_address, socket_options)
        return _BoundedStream(stream, self)

    def check_peer(self, stream: httpcore.NetworkStream) -> None:
        """Raise ``PinMismatch`` unless the peer at the other end has the pinned key."""
        if self.pin is None:
            return
        der = stream.get_extra_info("ssl_object").getpeercert(True)
        try:
            found = spki_sha256(der or b"")
        except NotACertificate as error:
            raise PinMismatch(f"The relay's TLS certificate cannot be read: {error}.") from error
        if found != self.pin:
            raise PinMismatch(f"The relay's TLS key is {found[:16]}…, pinned is {self.pin[:16]}…")


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, backend: BoundedBackend) -> None:
        self._inner = inner
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._backend.deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._backend.deadline.left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            inner = self._handshake(ssl_context, server_hostname)
        except (httpcore.ConnectError, ssl.SSLCertVerificationError) as error:
            cause = error if isinstance(error, ssl.SSLError) else error.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                refusal = UntimelyPeer if untimely(cause) else UntrustedPeer
                raise refusal(
                    f"The TLS certificate of {server_hostname} does not verify: "
                    f"{cause.verify_message.rstrip('.')}."
                ) from error
            raise
        if ssl_context is self._backend.relay:
            try:
                self._backend.check_peer(inner)
            except TransportError:
                inner.close()
                raise
        return _BoundedStream(inner, self._backend)

    def _handshake(
        self, context: ssl.SSLContext, server_hostname: str | None
    ) -> httpcore.NetworkStream:
        if self._inner.get_extra_info("ssl_object") is not None:
            return _TlsInTls(self, context, server_hostname)
        return self._inner.start_tls(context, server_hostname, self._backend.deadline.left())

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _TlsInTls(httpcore.NetworkStream):
    """TLS to the agent through a proxy that is itself reached by TLS; each record is bounded."""

    def __init__(
        self, outer: httpcore.NetworkStream, context: ssl.SSLContext, server_hostname: str | None
    ) -> None:
        self._outer = outer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        try:
            self._drive(self._tls.do_handshake)
        except BaseException:
            self.close()
            raise

    def _drive(self, action: Callable[[], Any]) -> Any:
        while True:
            try:
                result, done = action(), True
            except ssl.SSLWantReadError:
                result, done = None, False
            if pending := self._outgoing.read():
                self._outer.write(pending)
            if done:
                return result
            if octets := self._outer.read(_RECORD):
                self._incoming.write(octets)
            else:
                self._incoming.write_eof()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            octets: bytes = self._drive(partial(self._tls.read, max_bytes))
        except ssl.SSLZeroReturnError:
            return b""
        return octets

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        while buffer:
            buffer = buffer[self._drive(partial(self._tls.write, buffer)) :]

    def close(self) -> None:
        self._outer.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._outer.get_extra_info(info)


def relay_context(
    pin: str | None, roots_file: Path | None, *, plain: bool = False
) -> ssl.SSLContext:
    """Return the TLS settings: for a pin alone, or for an ordinary check of chain and name.

    Raises:
        ConfigurationError: the file with more roots cannot be read.
        LooseFileMode: another account could put its own there.
    """
    if pin is not None or plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the key itself is compared: check_peer
        return context
    return verifying_context(roots_file)


def verifying_context(roots_file: Path | None) -> ssl.SSLContext:
    """Return the ordinary check, against the public roots and those of ``roots_file``."""
    from shared.host.public_roots import public_roots_file  # a pin needs none

    context = ssl.create_default_context(cafile=str(public_roots_file()))
    if roots_file is not None:
        roots = read_trusted(roots_file, "file of roots_file").decode("ascii", "ignore")
        try:
            context.load_verify_locations(cadata=roots)
        except (ValueError, ssl.SSLError) as error:
            raise ConfigurationError(f"roots_file {roots_file} holds no certificates.") from error
    return context


def connection_pool(
    backend: BoundedBackend, proxy: str | None, roots_file: Path | None
) -> httpcore.ConnectionPool:
    """Return where requests go out: directly, or through a proxy (CONNECT)."""
    if proxy is None:
        return httpcore.ConnectionPool(
            ssl_context=backend.relay, network_backend=backend, max_connections=1
        )
    through_tls = proxy.startswith("https:")
    return httpcore.HTTPProxy(
        without_credentials(proxy),
        proxy_auth=credentials(proxy),
        ssl_context=backend.relay,
        proxy_ssl_context=verifying_context(roots_file) if through_tls else None,
        network_backend=backend,
        max_connections=1,
    )
