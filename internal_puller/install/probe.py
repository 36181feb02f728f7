"""Looks at the certificate that a server really serves; trusts nothing, compares everything."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from internal_puller.install.presets import probe_points
from internal_puller.install.starttls import begin_tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.settings.targets import ProbePoint, Target

CONNECT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.1
# Servers change their workers one by one: one good answer may come from the first of them.
IN_A_ROW: Final = 3
AT_A_TIME: Final = 16


@dataclass(frozen=True)
class Served:
    """What one probe point served.

    Args:
        address, port, sni: where, and for which name.
        leaf_sha256: lowercase hex SHA-256 of the leaf's DER; None if none was served.
        not_after: unix seconds.
        matched: it is the leaf that was expected.
        error: why nothing was seen.
    """

    address: str
    port: int
    sni: str
    leaf_sha256: str | None
    not_after: int | None
    matched: bool
    error: str | None = None

    def describe(self) -> str:
        """Return it as a clause for a message."""
        seen = f"leaf {self.leaf_sha256[:16]}" if self.leaf_sha256 else self.error
        return f"{self.sni} at {self.address} port {self.port}: {seen}"


def look(
    point: ProbePoint, expected_leaf_sha256: str | None, timeout: float = CONNECT_SECONDS
) -> Served:
    """Connect once by TLS and read the leaf; never raises for what the server does."""
    where = (point.address, point.port, point.sni)
    try:
        leaf = _fetch_leaf(point, timeout)
        not_after = int(x509.load_der_x509_certificate(leaf).not_valid_after_utc.timestamp())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Served(*where, None, None, False, reason)
    digest = hashlib.sha256(leaf).hexdigest()
    return Served(*where, digest, not_after, digest == expected_leaf_sha256)


def _fetch_leaf(point: ProbePoint, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Whom the server convinces is not asked here, only what it shows: expired, foreign, anything.
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((point.address, point.port), timeout) as connection:
        begin_tls(connection, point.protocol, deadline)
        connection.settimeout(max(deadline - time.monotonic(), 0.05))
        with context.wrap_socket(connection, server_hostname=point.sni) as tls:
            leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        raise ValueError("the server showed no certificate")
    return leaf


def probe_target(target: Target, expected_leaf_sha256: str | None = None) -> tuple[Served, ...]:
    """Look once at every probe point of a target, without waiting (for ``status``)."""
    return look_all(probe_points(target), expected_leaf_sha256)


def look_all(points: tuple[ProbePoint, ...], expected: str | None) -> tuple[Served, ...]:
    """Look once at every point, at some of them at a time."""
    if len(points) < 2:
        return tuple(look(point, expected) for point in points)
    with ThreadPoolExecutor(min(len(points), AT_A_TIME)) as pool:
        return tuple(pool.map(lambda point: look(point, expected), points))


def await_leaf(
    points: tuple[ProbePoint, ...],
    expected: str,
    timeout: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[Served, ...]:
    """Look until every point has served the expected leaf some times in a row, or time is up.

    Returns the last round; all of it ``matched`` means success.
    """
    deadline = clock() + timeout
    in_a_row = 0
    while True:
        served = look_all(points, expected)
        in_a_row = in_a_row + 1 if all(each.matched for each in served) else 0
        if in_a_row >= IN_A_ROW or not points:
            return served
        if clock() >= deadline:
            return served
        sleep(PAUSE_SECONDS)
