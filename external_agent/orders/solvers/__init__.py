"""What makes challenges succeed: the solvers for one order, by the certificate's challenge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from external_agent.clock import Clock
from external_agent.orders.persist_watch import look_of
from external_agent.orders.solvers.http01 import Board, ChallengeTable, Http01Solver
from external_agent.records.rows import Claim
from external_agent.store.interface import PersistStore
from shared.acme.dns01 import Dns01Settings, dns01_solver
from shared.acme.dns_persist import Offer
from shared.acme.dns_persist_use import (
    NameReport,
    PersistClient,
    PersistSolver,
    persist_lookup,
)
from shared.acme.ports import ChallengeSolver, Sleep
from shared.contract.errors import PolicyError


class SolverStore(ChallengeTable, PersistStore, Protocol):
    """What solvers keep."""

    @property
    def spread_seconds(self) -> float: ...


@dataclass(frozen=True)
class SolverTools:
    """What solvers work with.

    Attributes:
        dns01: the settings as they are now.
        sleep: for waiting until records are seen; may raise a RelayError to end it.
        client: of the CA and the account, which dns-persist-01 records name.
    """

    store: SolverStore
    board: Board
    clock: Clock
    dns01: Callable[[], Dns01Settings] = Dns01Settings
    sleep: Sleep = time.sleep
    client: PersistClient | None = None


def solvers_for(challenge: str, tools: SolverTools, claim: Claim) -> dict[str, ChallengeSolver]:
    """Return the solvers for one order of a certificate that wants ``challenge``.

    Raises:
        PolicyError: there is no such solver.
        ConfigurationError, LooseFileMode: it is not configured, or cannot be used.
    """
    solver: ChallengeSolver
    if challenge == "http-01":
        solver = Http01Solver(
            tools.store,
            tools.board,
            claim,
            tools.clock,
            spread_seconds=tools.store.spread_seconds,
            sleep=tools.sleep,
        )
    elif challenge == "dns-01":
        solver = dns01_solver(tools.dns01(), sleep=tools.sleep)
    elif challenge == "dns-persist-01" and tools.client is not None:
        solver = PersistSolver(
            tools.client,
            persist_lookup(tools.dns01()),
            clock=tools.clock,
            observe=partial(_keep_look, tools, claim.certificate),
        )
    else:
        raise PolicyError(
            f"Certificate {claim.certificate} wants {challenge}, which this agent has no solver "
            "for.",
            do="Use http-01, dns-01 or dns-persist-01.",
        )
    return {challenge: solver}


def _keep_look(tools: SolverTools, certificate: str, offer: Offer, report: NameReport) -> None:
    seen = look_of(report, tools.clock())
    tools.store.record_persist_look(certificate, report.name, offer, seen)


def check_solver(challenge: str, dns01: Dns01Settings) -> None:
    """Find out before a certificate is wanted whether its challenge can be solved here.

    Raises:
        ConfigurationError, LooseFileMode: as :func:`solvers_for`.
    """
    if challenge == "dns-01":
        dns01_solver(dns01)
