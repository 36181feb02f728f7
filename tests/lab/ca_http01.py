"""http-01 as a public CA asks it: IPv6 first, redirects, 128 bytes, no patience (RFC 8555 8.3)."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import urllib.parse

from .problems import Problem
from .resolver import LookupFailed, Resolver

MAX_ANSWER = 128
MAX_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)


class Http01:
    """Fetches key authorizations.

    Args:
        resolver: finds the addresses, IPv6 first.
        http_port, https_port: where the lab's ports 80 and 443 really are.
        timeout: seconds for each step of one fetch.
    """

    def __init__(
        self, resolver: Resolver, http_port: int, https_port: int, timeout: float = 10.0
    ) -> None:
        self._resolver = resolver
        self._ports = {"http": http_port, "https": https_port}
        self._timeout = timeout

    def check(self, name: str, token: str, expected: str) -> None:
        """Raise a Problem unless `name` serves exactly `expected` for `token`."""
        url = f"http://{name}/.well-known/acme-challenge/{urllib.parse.quote(token, safe='')}"
        for _ in range(MAX_REDIRECTS + 1):
            status, location, body = self._get(url)
            if status not in REDIRECTS:
                break
            url = self._follow(url, location)
        else:
            raise Problem("connection", f"{name}: more than {MAX_REDIRECTS} redirects")
        if status != 200:
            raise Problem("unauthorized", f"{url}: the status is {status}, not 200")
        if body != expected.encode():
            raise Problem(
                "unauthorized",
                f"{url}: the key authorization is not the expected one, but {body[:80]!r}",
            )

    def _follow(self, url: str, location: str | None) -> str:
        if not location:
            raise Problem("connection", f"{url}: a redirect without Location")
        try:
            target = urllib.parse.urljoin(url, location)
            parts = urllib.parse.urlsplit(target)
            port = parts.port
        except ValueError:
            raise Problem("connection", f"{url}: a redirect to nonsense") from None
        if parts.scheme not in self._ports or not parts.hostname:
            raise Problem("connection", f"{url}: a redirect to {parts.scheme!r}")
        if port not in (None, 80, 443, *self._ports.values()):
            raise Problem("connection", f"{url}: a redirect to port {port}")
        try:
            ipaddress.ip_address(parts.hostname)
        except ValueError:
            return target
        raise Problem("connection", f"{url}: a redirect to an address, not a name")

    def _get(self, url: str) -> tuple[int, str | None, bytes]:
        parts = urllib.parse.urlsplit(url)
        name = str(parts.hostname)
        connection = http.client.HTTPConnection(name, timeout=self._timeout)
        connection.sock = self._connect(parts.scheme, name)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": "lab-ca-validation", "Accept": "*/*", "Connection": "close"}
        try:
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                body = response.read(MAX_ANSWER + 1)
                if len(body) <= MAX_ANSWER and response.length:
                    raise http.client.IncompleteRead(body, response.length)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Problem("connection", f"{url}: {error!r}") from None
        finally:
            connection.close()
        if response.status == 200 and len(body) > MAX_ANSWER:
            raise Problem("unauthorized", f"{url}: the answer is longer than {MAX_ANSWER} bytes")
        return response.status, response.getheader("Location"), body

    def _connect(self, scheme: str, name: str) -> socket.socket:
        try:
            addresses = self._resolver.addresses(name)
        except LookupFailed as failed:
            raise Problem("dns", str(failed)) from None
        if not addresses:
            raise Problem("dns", f"{name} has no address")
        chosen = addresses[:1] + [a for a in addresses[1:] if ":" not in a and ":" in addresses[0]]
        error: OSError | None = None
        for address in chosen[:2]:  # one fallback from IPv6 to IPv4, as Boulder does it
            try:
                plain = socket.create_connection((address, self._ports[scheme]), self._timeout)
            except OSError as failed:
                error = failed
                continue
            return plain if scheme == "http" else _unverified_tls(plain, name)
        raise Problem("connection", f"{name} at {chosen[0]} port {self._ports[scheme]}: {error}")


def _unverified_tls(plain: socket.socket, name: str) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except OSError as error:
        plain.close()
        raise Problem("connection", f"{name}: {error}") from None
