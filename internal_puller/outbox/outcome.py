"""What came of one certificate at one target: one record from the judge to the receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internal_puller.outbox.look import Look
    from internal_puller.outbox.verdict import Verdict
    from shared.contract.errors import RelayError


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    Attributes:
        generation: what it is about; 0 where it is about none.
        verdict: the judge's; ``None`` where nothing came so far: refused, or a fault here.
        error: what went wrong, in words, with the receipt's type and the exit code.
        changed: whether this run changed what is in place, if only for a while.
        directory: of the target; empty where it is about none.
        active: the generation in place now; ``None`` for none.
        digest: manifest digest of ``generation``, hex; empty if not known.
        not_after: unix seconds, of ``generation``; 0 if not known.
        before, looks: what the probe points answered before anything was changed, and now.
    """

    certificate: str
    generation: int
    verdict: Verdict | None
    error: RelayError | None = None
    changed: bool = False
    directory: str = ""
    active: int | None = None
    digest: str = ""
    not_after: int = 0
    before: tuple[Look, ...] = ()
    looks: tuple[Look, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a command ends with after this."""
        return self.error.exit_code if self.error else 0
