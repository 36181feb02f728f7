"""What a receiver of alerts was told, as the store hands it out."""

from __future__ import annotations

from dataclasses import dataclass

from external_agent.facts.issues import Severity


@dataclass(frozen=True, slots=True)
class ToldAlert:
    """Something that a receiver was told and that was not called over since.

    Attributes:
        key: of the concern.
        what: as it was told.
        gone_at: since when it is not so any more; ``None`` while it is.
    """

    key: str
    certificate: str
    severity: Severity
    what: str
    told_at: int
    gone_at: int | None = None


@dataclass(frozen=True, slots=True)
class AlertReceiver:
    """How the last messages to a receiver went; 0 is never.

    Attributes:
        failures: in a row.
        problem: why the last one did not arrive; empty if it did.
    """

    name: str
    last_success_at: int = 0
    last_failure_at: int = 0
    failures: int = 0
    problem: str = ""
