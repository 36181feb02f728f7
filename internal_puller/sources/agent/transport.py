"""One HTTP exchange with the agent over httpx: TLS checked, sizes capped, no redirects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urlsplit

import httpcore

from internal_puller.settings.proxies import choose_proxy, without_credentials
from internal_puller.sources.agent.lean_httpx import httpx
from internal_puller.sources.agent.network import (
    BoundedBackend,
    Deadline,
    PinMismatch,
    TlsCheck,
    UntimelyPeer,
    UntrustedPeer,
    connection_pool,
    relay_context,
)
from shared.contract.errors import TransportError

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What goes out.

    Attributes:
        target: path and query as they go on the request line.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; nothing in it is believed yet. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _PoolTransport(httpx.BaseTransport):
    def __init__(self, pool: httpcore.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        response = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.read(),
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        self._pool.close()


class Transport:
    """Where requests to one relay go out.

    The TLS key is compared with the pin first (or last, if ``prefer`` says that the other way
    worked before); where it does not match, chain and host name are verified like any other. Each
    check is on the very connection, before an octet of a request.
    """

    def __init__(
        self,
        relay_url: str,
        pin: str | None,
        *,
        proxy: str = "none",
        roots_file: Path | None = None,
        prefer: str = "",
    ) -> None:
        parts = urlsplit(relay_url)
        self._url = relay_url
        self._host = parts.hostname or ""
        self._pin = pin
        self._roots_file = roots_file
        plain = parts.scheme == "http"
        self._proxy = None if plain else choose_proxy(proxy, self._host)
        self._deadline = Deadline()
        self._clients: dict[TlsCheck, httpx.Client] = {}
        self._checks = self._order(plain, prefer)

    def _order(self, plain: bool, prefer: str) -> list[TlsCheck]:
        if plain:
            return ["none"]
        if self._pin is None:
            return ["roots"]
        return ["roots", "pin"] if prefer == "roots" else ["pin", "roots"]

    @property
    def tls_check(self) -> TlsCheck:
        """How the peer was accepted last."""
        return self._checks[0]

    @property
    def through(self) -> str:
        """Words for an error message: which way the request took."""
        shown = f" through the proxy {without_credentials(self._proxy)}" if self._proxy else ""
        return f"{self._url}{shown}"

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def exchange(self, request: Request, *, seconds: float, max_answer: int) -> Answer:
        """Send one request.

        Args:
            seconds: for everything, from the connection to the last octet of the answer.
            max_answer: octets of body at most.

        Raises:
            TransportError: no answer, a late one, a huge one, or a peer that is not accepted.
        """
        self._deadline.start(seconds)
        refusals: list[TransportError] = []
        for check in tuple(self._checks):
            try:
                answer = self._attempt(check, request, max_answer)
            except (PinMismatch, UntrustedPeer) as error:
                refusals.append(error)
                continue
            self._checks.remove(check)
            self._checks.insert(0, check)
            return answer
        raise refusals[0] if len(refusals) == 1 else _neither(refusals)

    def _attempt(self, check: TlsCheck, request: Request, max_answer: int) -> Answer:
        client = self._client(check)
        message = client.build_request(
            request.method,
            self._url + request.target,
            headers=request.headers,
            content=request.body or None,
        )
        try:
            response = client.send(message, stream=True)
            try:
                return Answer(
                    response.status_code, dict(response.headers), _read(response, max_answer)
                )
            finally:
                response.close()
        except _FAILURES as error:
            raise self._explain(error) from error

    def _client(self, check: TlsCheck) -> httpx.Client:
        if check not in self._clients:
            pin = self._pin if check == "pin" else None
            context = relay_context(pin, self._roots_file, plain=check == "none")
            backend = BoundedBackend(self._deadline, context, pin)
            pool = connection_pool(backend, self._proxy, self._roots_file)
            client = self._clients[check] = httpx.Client(
                transport=_PoolTransport(pool),
                headers={"Accept-Encoding": "identity", "User-Agent": "internal-puller"},
                follow_redirects=False,
                trust_env=False,
                timeout=None,  # the deadline bounds every read and write
            )
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return self._clients[check]

    def _explain(self, error: Exception) -> TransportError:
        if isinstance(error, TimeoutError | httpcore.TimeoutException):
            return TransportError(f"No answer from {self.through} in time.")
        reason = str(error) or type(error).__name__
        return TransportError(f"The agent at {self.through} cannot be reached: {reason:.300}.")


def _neither(refusals: list[TransportError]) -> TransportError:
    what = " ".join(refusal.what for refusal in refusals)
    if any(isinstance(refusal, UntimelyPeer) for refusal in refusals):
        return UntimelyPeer(what)
    return UntrustedPeer(
        what,
        do="Look for a proxy that opens TLS: give its root certificate as roots_file in "
        "puller.toml. If the agent has a new TLS key, enrol again with a new token.",
    )


def _read(response: httpx.Response, max_answer: int) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise TransportError("The answer is encoded in a way that was not asked for.")
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > max_answer:
            raise TransportError(f"The answer is larger than {max_answer} octets.")
    return bytes(body)
