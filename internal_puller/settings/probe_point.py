"""Where to look at what is served."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from internal_puller.settings.protocols import split
from shared.contract.errors import ConfigurationError

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
NAME: Final = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)+{_LABEL}")


@dataclass(frozen=True)
class ProbePoint:
    """Where to look at what is served.

    Args:
        address: IP address or host name, as it is to be connected to.
        port: TCP port.
        sni: the name sent in the TLS server_name extension; not a wildcard.
        protocol: ``[PROXY+]SCHEME`` of ``settings.protocols``: how TLS begins there.
    """

    address: str
    port: int
    sni: str
    protocol: str = "tls"

    def __post_init__(self) -> None:
        if not self.address or not self.address.isascii() or set(self.address) & set(" \t\r\n/"):
            raise ConfigurationError(f"{self.address!r} is no address to probe.")
        if not 0 < self.port < 65536:
            raise ConfigurationError(f"{self.port} is no TCP port to probe.")
        if not NAME.fullmatch(self.sni) or self.sni.startswith("*"):
            raise ConfigurationError(f"{self.sni!r} is no name to probe for.")
        split(self.protocol)
