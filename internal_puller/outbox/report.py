"""What came of one pull: for the terminal, for ``--json``, and for the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field

from internal_puller.outbox.outcome import EXIT_EXPIRING, Outcome, error_members, worst_code
from shared.contract.errors import RelayError


@dataclass(slots=True)
class PullReport:
    """
    Attributes:
        contact: why the agent could not be asked, if so.
        fault: what on this machine ended the pull before its end.
        outcomes: one for each target that was worked on, and for each certificate that could not
            be; empty means nothing was new.
        standing: what is in place since an earlier run, was not seen to be served, and was not
            looked at in this one.
        warnings: certificates with little life left, and what else an operator should know.
        expiring: certificates with little life left.
        csrs_left: certificates for whose next generation a CSR was left with the agent.
        come_back: seconds until the agent expects something new.
    """

    contact: RelayError | None = None
    fault: RelayError | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    standing: list[Outcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    expiring: list[str] = field(default_factory=list)
    csrs_left: list[str] = field(default_factory=list)
    come_back: int = 0

    @property
    def errors(self) -> list[RelayError]:
        found = [one.error for one in self.outcomes if one.error] + self.standing_errors
        return [*found, self.contact] if self.contact else found

    @property
    def standing_errors(self) -> list[RelayError]:
        """What stands as an earlier run left it."""
        return [one.error for one in self.standing if one.error]

    @property
    def exit_code(self) -> int:
        """0, or the worst of what happened."""
        codes = {error.exit_code for error in self.errors}
        return worst_code(codes | {EXIT_EXPIRING} if self.expiring else codes)

    def members(self) -> dict[str, object]:
        """Return it for ``--json``."""
        return {
            "exit_code": self.exit_code,
            "contact": error_members(self.contact),
            "certificates": [one.members() for one in self.outcomes],
            "standing": [one.members() for one in self.standing],
            "csrs_left": self.csrs_left,
            "expiring": self.expiring,
            "warnings": self.warnings,
        }
