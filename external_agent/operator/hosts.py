"""Which Host and Origin a request may carry: a page elsewhere must not reach us by its own name.

With DNS rebinding a browser sends requests to our address under the attacker's name. That name
stands in ``Host`` (RFC 9110 section 7.2); an IP address there cannot be rebound.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def is_known_host(host: str, allowed: Collection[str]) -> bool:
    """
    Args:
        host: field value, with or without a port.
        allowed: further names, lower case, without ports.
    """
    name = _name(host)
    return name == "localhost" or name in allowed or _is_ip(name)


def is_known_origin(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Tell whether a browser's page may call: our own (RFC 6454), or of an allowed name."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return False
    own = parts.netloc.lower() == host.lower()
    return (own and is_known_host(host, allowed)) or _name(parts.netloc) in allowed


def is_loopback(host: str) -> bool:
    """Tell whether a field value or a peer's address names this machine only."""
    name = _name(host)
    return name == "localhost" or (_is_ip(name) and ipaddress.ip_address(name).is_loopback)


def _name(host: str) -> str:
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text if text.count(":") > 1 else text.partition(":")[0]


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
