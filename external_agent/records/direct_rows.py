"""A certificate that a puller gets by itself, as the store hands it out."""

from __future__ import annotations

from dataclasses import dataclass

from external_agent.records.model import PullerStatus
from external_agent.records.rows import ServedRow


@dataclass(frozen=True, slots=True)
class DirectRow:
    """What a puller said last of a certificate that it gets by itself.

    Attributes:
        served: as it was seen last; a report of a failed order leaves it.
        at: the puller's time; ``received_at`` is ours.
    """

    puller: str
    host: str
    puller_status: PullerStatus
    certificate: str
    names: tuple[str, ...]
    generation: int
    not_after: int
    leaf_sha256: str | None
    next_renewal: int
    outcome: str
    error: str
    served: tuple[ServedRow, ...]
    at: int
    received_at: int
