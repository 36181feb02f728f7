"""Looks once at each address of each probe point: trusts nothing, compares everything."""

from __future__ import annotations

import hashlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from internal_puller.install.active import read_active
from internal_puller.install.probe import kinds
from internal_puller.install.probe.addresses import resolve
from internal_puller.install.probe.handshake import Seen
from internal_puller.install.probe.leaf import not_after, whose
from internal_puller.install.probe.proxy_protocol import header
from internal_puller.install.probe.starttls import AskedToWait, NoTls, begin_tls
from internal_puller.outbox.look import Answer, Look, Trouble
from internal_puller.settings.protocols import split
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.settings.probe_point import ProbePoint
    from internal_puller.settings.targets import Target

AT_A_TIME: Final = 16
RESOLVING: Final = 0.5
"""The share of a look's limit that its name may take."""


def look(point: ProbePoint, timeout: float, kind: str | None = None) -> tuple[Look, ...]:
    """Look once at every address of a point; never raises for what a server does.

    Args:
        timeout: seconds for the whole look, whatever it meets.
        kind: of the key wanted (``"rsa"``, ``"ecdsa"``) where a listener has several.
    """
    return look_all((point,), timeout, kind)


def look_all(
    points: tuple[ProbePoint, ...], timeout: float, kind: str | None = None
) -> tuple[Look, ...]:
    """Look once at every address of every point, at some of them at a time; see ``look``."""
    begun = time.monotonic()
    found = resolve({point.address for point in points}, timeout * RESOLVING)
    left = timeout - (time.monotonic() - begun)
    looks: list[Callable[[], Look]] = []
    for point in points:
        addresses = found[point.address]
        if isinstance(addresses, str):
            looks.append(partial(_unresolved, point, addresses))
        else:
            looks += [partial(_look_at, point, one, left, kind) for one in addresses]
    if len(looks) < 2:
        return tuple(one() for one in looks)
    with ThreadPoolExecutor(min(len(looks), AT_A_TIME)) as pool:
        return tuple(pool.map(lambda one: one(), looks))


def probe_target(target: Target) -> tuple[Look, ...]:
    """Look once at every probe point of a target, for the kind of key that is in place there."""
    from internal_puller.install.presets import probe_points  # it loads what writes files

    return look_all(probe_points(target), target.probe_timeout, kind_in_place(target))


def kind_in_place(target: Target) -> str | None:
    """Return the kind of key of the generation in place; ``None`` if there is none, or unknown."""
    try:
        active = read_active(target)
    except ConfigurationError:
        return None
    return active.key_kind if active else None


def _unresolved(point: ProbePoint, why: str) -> Look:
    return Look(point.address, point.port, point.sni, Answer.NOT_KNOWN, why=why)


def _look_at(point: ProbePoint, address: str, timeout: float, kind: str | None) -> Look:
    deadline = time.monotonic() + timeout
    seen = kinds.see(partial(_attempt, point, address, deadline), kind)
    where = (address, point.port, point.sni)
    trouble = Trouble(seen.trouble) if seen.trouble else None
    if seen.leaf is None:
        answer = Answer.NONE if seen.known else Answer.NOT_KNOWN
        return Look(*where, answer, why=seen.why, trouble=trouble)
    return Look(
        *where,
        Answer.PROVEN if seen.proven else Answer.SHOWN,
        hashlib.sha256(seen.leaf).hexdigest(),
        not_after(seen.leaf),
        seen.why,
        trouble,
        whose(seen.leaf),
    )


def _attempt(point: ProbePoint, address: str, deadline: float, shake: kinds.Shake) -> Seen:
    """Connect once, say what has to be said before TLS, and shake hands."""
    try:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        with socket.create_connection((address, point.port), left) as connection:
            proxy, scheme = split(point.protocol)
            if proxy:
                connection.sendall(header(connection, proxy))
            begin_tls(connection, scheme, point.sni, deadline)
            return shake(connection, point.sni, deadline)
    except TimeoutError:
        return Seen(known=False, why="no answer in time")
    except AskedToWait as error:
        return Seen(known=False, why=str(error))
    except (ConnectionError, NoTls) as error:
        return Seen(why=_first_lower(error.strerror or str(error)))
    except (OSError, ValueError) as error:  # no way there, no descriptor left: none is a no
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Seen(known=False, why=_first_lower(reason))


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
