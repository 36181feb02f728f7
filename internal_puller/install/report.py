"""What came of an installation, for the receipt, the exit code and the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from internal_puller.outbox.look import Look
    from shared.contract.errors import RelayError


@dataclass(frozen=True)
class InstallReport:
    """The verdict on one generation of one target.

    Args:
        certificate: its id.
        generation: the one that was asked for.
        outcome: ``installed`` (it is in place) or ``rolled_back`` (it is not).
        changed: whether this run changed what is in place, even if only for a while.
        error: what failed; ``RollbackFailed`` has the first failure as its ``__cause__``.
        active: the generation in place now.
        served_before: what the probe points served before anything was changed.
        served: what they serve now.
    """

    certificate: str
    generation: int
    outcome: Literal["installed", "rolled_back"]
    changed: bool
    error: RelayError | None
    active: int | None
    served_before: tuple[Look, ...] = ()
    served: tuple[Look, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a command ends with after this."""
        return self.error.exit_code if self.error else 0
