"""The floor: the highest generation of a certificate that ever passed every check here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Floor:
    """
    Attributes:
        generation: nothing below it is accepted.
        digest: hex manifest digest of that very generation.
    """

    generation: int
    digest: str
