"""Every address of a name, within a time: a resolver may be silent for longer than anyone waits."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set


def resolve(names: Set[str], seconds: float) -> dict[str, tuple[str, ...] | str]:
    """Return the addresses of each name, or in words why there are none.

    Args:
        names: host names or IP addresses.
        seconds: until which all have to be known.
    """
    found: dict[str, tuple[str, ...] | str] = {}
    looking = []
    for name in names:
        try:
            found[name] = tuple(_ask(name, socket.AI_NUMERICHOST))
            continue
        except (OSError, ValueError):
            pass  # a name, then: it may take long
        # Not of a pool, whose threads the end of the program waits for, however long they hang.
        thread = threading.Thread(target=_resolve, args=(name, found), daemon=True)
        thread.start()
        looking.append(thread)
    end = time.monotonic() + seconds
    for thread in looking:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"the name was not resolved within {seconds:.3g} s"
    return {name: found.get(name, late) for name in names}


def _resolve(name: str, found: dict[str, tuple[str, ...] | str]) -> None:
    try:
        found[name] = _addresses(name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        found[name] = f"the name is not resolved ({reason})"


def _addresses(name: str) -> tuple[str, ...]:
    """Ask as a client does: for IPv6 addresses only where this machine has one itself."""
    try:
        entries = _ask(name, socket.AI_ADDRCONFIG)
    except socket.gaierror:
        entries = _ask(name, 0)
    return tuple(dict.fromkeys(entries))


def _ask(name: str, flags: int) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=flags)
    return [str(address[0]) for *_, address in found]
