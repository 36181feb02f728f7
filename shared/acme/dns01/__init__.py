"""dns-01 (RFC 8555 section 8.4): from settings to a solver that both sides use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shared.acme.dns01.names import challenge_name, dns01_value
from shared.acme.dns01.settings import Dns01Settings, read_dns01_settings
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from shared.acme.dns01.propagation import KeyedServers
    from shared.acme.dns01.solver import Dns01Solver, TxtPublisher
    from shared.acme.ports import Clock, Sleep

__all__ = [
    "Dns01Settings",
    "challenge_name",
    "dns01_solver",
    "dns01_value",
    "read_dns01_settings",
]


def dns01_solver(
    settings: Dns01Settings, *, sleep: Sleep = time.sleep, clock: Clock = time.monotonic
) -> Dns01Solver:
    """Return a solver for one order; everything that can be wrong with settings is found here.

    Args:
        sleep: for the pauses while servers are asked; may raise a RelayError to end them.
        clock: for the longest wait; any that goes forward.

    Raises:
        ConfigurationError: no way to write records, or one that cannot be used.
        LooseFileMode: a file of secrets that others may read.
    """
    from shared.acme.authoritative import AuthoritativeDns
    from shared.acme.dns01.propagation import Propagation
    from shared.acme.dns01.solver import Dns01Solver

    publisher, keyed = _publisher(settings)
    dns = AuthoritativeDns(settings.resolver_addresses)
    propagation = None
    if settings.wait:
        propagation = Propagation(
            dns,
            name_servers=settings.name_server_addresses,
            keyed=keyed,
            seconds=settings.wait_seconds,
            clock=clock,
            sleep=sleep,
        )
    return Dns01Solver(publisher, dns, propagation)


def _publisher(settings: Dns01Settings) -> tuple[TxtPublisher, KeyedServers | None]:
    if settings.rfc2136 is not None:
        from shared.acme.dns01.propagation import KeyedServers
        from shared.acme.dns01.rfc2136 import Rfc2136Publisher
        from shared.acme.dns01.tsig_key import read_tsig_key

        key = read_tsig_key(settings.rfc2136)
        publisher = Rfc2136Publisher(settings.rfc2136, key)
        return publisher, KeyedServers(frozenset(publisher.addresses()), key)
    if settings.hook is not None:
        from shared.acme.dns01.hook import HookPublisher

        return HookPublisher(settings.hook), None
    if settings.acme_dns is not None:
        from shared.acme.dns01.acme_dns import AcmeDnsPublisher

        return AcmeDnsPublisher(settings.acme_dns), None
    if settings.lexicon is not None:
        from shared.acme.dns01.lexicon import LexiconPublisher

        return LexiconPublisher(settings.lexicon), None
    raise ConfigurationError(
        "dns-01 is wanted, but no way to write DNS records is configured.",
        do="Add one of [dns01.rfc2136], [dns01.hook], [dns01.acme_dns], [dns01.lexicon] to the "
        "settings file.",
    )
