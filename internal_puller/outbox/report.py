"""What came of one pull: for the terminal, for ``--json``, and for the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.contract.errors import RelayError

# A certificate here comes near its end; only codes that need a person sooner go before it.
EXIT_EXPIRING = 13  # shared.host.watching.NEEDS_ATTENTION; the lean path does not import it
_WORST_FIRST = (12, 9, 8, 1, 3, 4, 5, EXIT_EXPIRING, 11, 7, 6, 10)


@dataclass(frozen=True, slots=True)
class CertificateOutcome:
    """
    Attributes:
        outcome: ``installed``, ``rolled_back``, ``refused`` (the bundle), or ``failed`` (before
            anything was tried).
        changed: whether anything was changed in place.
        directories: of the targets.
        served: addresses at which the new leaf was seen.
    """

    certificate: str
    generation: int
    outcome: str
    changed: bool
    error: RelayError | None = None
    not_after: int = 0
    directories: tuple[str, ...] = ()
    served: tuple[str, ...] = ()


@dataclass(slots=True)
class PullReport:
    """
    Attributes:
        contact: why the agent could not be asked, if so.
        fault: what on this machine ended the pull before its end.
        outcomes: one for each certificate that was worked on; empty means nothing was new.
        warnings: certificates with little life left, and what else an operator should know.
        expiring: certificates with little life left.
        csrs_left: certificates for whose next generation a CSR was left with the agent.
        come_back: seconds until the agent expects something new.
    """

    contact: RelayError | None = None
    fault: RelayError | None = None
    outcomes: list[CertificateOutcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    expiring: list[str] = field(default_factory=list)
    csrs_left: list[str] = field(default_factory=list)
    come_back: int = 0

    @property
    def errors(self) -> list[RelayError]:
        found = [one.error for one in self.outcomes if one.error]
        return [*found, self.contact] if self.contact else found

    @property
    def exit_code(self) -> int:
        """0, or the worst of what happened."""
        codes = {error.exit_code for error in self.errors}
        if self.expiring:
            codes.add(EXIT_EXPIRING)
        return next((code for code in _WORST_FIRST if code in codes), max(codes, default=0))

    def members(self) -> dict[str, object]:
        """Return it for ``--json``."""
        return {
            "exit_code": self.exit_code,
            "contact": _error(self.contact),
            "certificates": [
                {
                    "certificate": one.certificate,
                    "generation": one.generation,
                    "outcome": one.outcome,
                    "changed": one.changed,
                    "not_after": one.not_after,
                    "directories": list(one.directories),
                    "served": list(one.served),
                    "error": _error(one.error),
                }
                for one in self.outcomes
            ],
            "csrs_left": self.csrs_left,
            "expiring": self.expiring,
            "warnings": self.warnings,
        }


def _error(error: RelayError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {"type": error.type, "what": error.what, "do": error.do}
