"""The states that certificates' attempts and pullers go through, and the permitted moves."""

from __future__ import annotations

from enum import StrEnum


class PullerStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    """Its token was offered again by other keys; an operator confirms or revokes it."""
    REVOKED = "revoked"


class AttemptState(StrEnum):
    """The life of one generation."""

    PREPARED = "prepared"
    """CSR and sealed keys are durable; perhaps the CA has an order that we could not record."""
    ORDERED = "ordered"
    """The order's URL is durable: it is resumed, never replaced."""
    FINALIZING = "finalizing"
    """The CSR may have reached the CA."""
    CERTIFIED = "certified"
    """The CA has issued; the chain is downloaded from the same order as often as it takes."""
    ISSUED = "issued"
    FAILED = "failed"
    ABANDONED = "abandoned"


_ENDS = frozenset((AttemptState.FAILED, AttemptState.ABANDONED))
MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    AttemptState.PREPARED: frozenset((AttemptState.ORDERED,)) | _ENDS,
    AttemptState.ORDERED: frozenset(
        (AttemptState.ORDERED, AttemptState.FINALIZING, AttemptState.CERTIFIED)
    )
    | _ENDS,
    AttemptState.FINALIZING: frozenset((AttemptState.FINALIZING, AttemptState.CERTIFIED)) | _ENDS,
    AttemptState.CERTIFIED: frozenset((AttemptState.CERTIFIED, AttemptState.ISSUED)) | _ENDS,
    AttemptState.ISSUED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.ABANDONED: frozenset(),
}
UNFINISHED = frozenset(state for state, moves in MOVES.items() if moves)


def may_move(before: AttemptState, after: AttemptState) -> bool:
    return after in MOVES[before]
