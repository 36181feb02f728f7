"""Looks at the certificate that a server really serves; trusts nothing, compares everything."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from cryptography import x509

from internal_puller.install.presets import probe_points
from internal_puller.install.starttls import begin_tls
from internal_puller.outbox.look import Answer, Look, shows

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.settings.targets import ProbePoint, Target

CONNECT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.1
# Servers change their workers one by one: one good answer may come from the first of them.
IN_A_ROW: Final = 3
AT_A_TIME: Final = 16


def look(point: ProbePoint, timeout: float = CONNECT_SECONDS) -> Look:
    """Connect once by TLS and read the leaf; never raises for what the server does."""
    where = (point.address, point.port, point.sni)
    try:
        leaf = _fetch_leaf(point, timeout)
        not_after = int(x509.load_der_x509_certificate(leaf).not_valid_after_utc.timestamp())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        unknown = isinstance(error, TimeoutError | socket.gaierror)
        return Look(*where, Answer.NOT_KNOWN if unknown else Answer.NONE, why=reason)
    return Look(*where, Answer.PROVEN, hashlib.sha256(leaf).hexdigest(), not_after)


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


def probe_target(target: Target) -> tuple[Look, ...]:
    """Look once at every probe point of a target, without waiting (for ``status``)."""
    return look_all(probe_points(target))


def look_all(points: tuple[ProbePoint, ...]) -> tuple[Look, ...]:
    """Look once at every point, at some of them at a time."""
    if len(points) < 2:
        return tuple(look(point) for point in points)
    with ThreadPoolExecutor(min(len(points), AT_A_TIME)) as pool:
        return tuple(pool.map(look, points))


def await_leaf(
    points: tuple[ProbePoint, ...],
    expected: str,
    timeout: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[Look, ...]:
    """Look until every point has served the expected leaf some times in a row, or time is up.

    Returns the last round; all of it showing ``expected`` means success.
    """
    deadline = clock() + timeout
    in_a_row = 0
    while True:
        served = look_all(points)
        in_a_row = in_a_row + 1 if shows(served, expected) else 0
        if in_a_row >= IN_A_ROW or not points:
            return served
        if clock() >= deadline:
            return served
        sleep(PAUSE_SECONDS)
