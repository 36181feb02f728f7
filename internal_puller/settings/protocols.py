"""How TLS begins at a probe point: at once, after STARTTLS, behind a PROXY protocol header."""

from __future__ import annotations

from typing import Final

from internal_puller.settings.nearest import nearest
from shared.contract.errors import ConfigurationError

PORTS: Final = {
    "tls": 443,
    "https": 443,
    "smtps": 465,
    "imaps": 993,
    "pop3s": 995,
    "ldaps": 636,
    "ftps": 990,
    "xmpps": 5223,
    "smtp": 25,
    "lmtp": 24,
    "imap": 143,
    "pop3": 110,
    "sieve": 4190,
    "ftp": 21,
    "ldap": 389,
    "mysql": 3306,
    "postgresql": 5432,
    "xmpp": 5222,
    "xmpp-server": 5269,
}
"""The schemes, and the port where each is usual."""
STARTTLS: Final = tuple(PORTS)[list(PORTS).index("smtp") :]
"""Those that speak in clear before TLS; with the others it begins at once."""
PROXY: Final = {"proxy": 1, "proxy2": 2}
"""What may stand before a scheme and a plus sign, to the version of the PROXY protocol."""


def split(protocol: str) -> tuple[int, str]:
    """Return the version of the PROXY protocol (0: none) and the scheme of ``[PROXY+]SCHEME``.

    Raises:
        ConfigurationError: one of them is not known; a near one is named.
    """
    before, plus, scheme = protocol.rpartition("+")
    if scheme in PORTS and (not plus or before in PROXY):
        return PROXY.get(before, 0), scheme
    known = [*PORTS, *(f"{one}+{scheme}" for one in PROXY for scheme in PORTS)]
    raise ConfigurationError(
        f"{protocol!r:.60} is not a way to probe{nearest(protocol, known)}.",
        do=f"Use one of {', '.join(PORTS)}; behind a proxy protocol: "
        f"{', '.join(f'{one}+tls' for one in PROXY)} and so on.",
    )


def usual_port(protocol: str) -> int:
    """Return where a protocol is usually spoken; see ``split`` for the error."""
    return PORTS[split(protocol)[1]]
