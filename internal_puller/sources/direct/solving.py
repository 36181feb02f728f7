"""How challenges are answered in direct mode: TXT records written, or one that stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from internal_puller.sources.direct.settings import DirectSettings
from shared.acme.authoritative import AuthoritativeDns
from shared.acme.caa import explain_caa_refusal
from shared.acme.client import AcmeClient
from shared.acme.dns01 import Dns01Settings, dns01_solver, read_dns01_settings
from shared.acme.dns_persist_use import NameReport, PersistSolver, TxtLookup, persist_lookup
from shared.acme.ports import ChallengeSolver, Clock, Sleep
from shared.contract.errors import IssuanceRejected


def dns_settings(direct: DirectSettings) -> Dns01Settings:
    """Return the checked ``[dns01]`` table. Raises ``ConfigurationError``."""
    return read_dns01_settings(direct.dns01, where="dns01")


def public_dns(direct: DirectSettings) -> TxtLookup:
    """Return look-ups by the public resolvers that ``[dns01]`` names."""
    return persist_lookup(dns_settings(direct))


def longest_wait(challenge: str, direct: DirectSettings) -> float:
    """Return the seconds that writing TXT records and waiting for them may take."""
    return dns_settings(direct).longest_wait if challenge == "dns-01" else 0.0


def check_challenge(direct: DirectSettings, challenge: str) -> None:
    """Refuse at once what could not be answered later. Raises ``ConfigurationError``."""
    settings = dns_settings(direct)
    if challenge == "dns-01":
        dns01_solver(settings)


def solver_for(
    challenge: str,
    direct: DirectSettings,
    client: AcmeClient,
    *,
    clock: Clock,
    sleep: Sleep,
    observe: Callable[[NameReport], None],
) -> ChallengeSolver:
    """Return the solver of one order.

    Args:
        clock: unix seconds.
        sleep: for pauses; may raise to end the order early.
        observe: told of every dns-persist-01 record that was looked at.

    Raises:
        ConfigurationError: nothing that writes TXT records is configured.
    """
    if challenge == "dns-01":
        return dns01_solver(dns_settings(direct), sleep=sleep)
    return PersistSolver(
        client, public_dns(direct), clock=clock, observe=lambda offer, report: observe(report)
    )


def explained(
    error: IssuanceRejected, direct: DirectSettings, client: AcmeClient, names: Sequence[str]
) -> IssuanceRejected:
    """Return a refusal with the CAA record that it rests on, if it does."""
    dns = AuthoritativeDns(dns_settings(direct).resolver_addresses)
    return explain_caa_refusal(error, names, lambda: client.directory().caa_identities, dns)
