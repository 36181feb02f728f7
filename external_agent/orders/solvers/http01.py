"""http-01 (RFC 8555 section 8.3): the solver that presents through the store and the listener.

The database holds them too, so that a restarted listener, or another process's, has them again.
"""

from __future__ import annotations

import time
from typing import Protocol

from external_agent.clock import Clock
from external_agent.records.rows import Claim
from shared.acme.ports import PendingChallenge, Sleep


class ChallengeTable(Protocol):
    def put_challenge(
        self, claim: Claim, token: str, key_authorization: str, name: str, *, now: int
    ) -> None: ...


class Board(Protocol):
    """Where the challenge listener looks."""

    def put(self, token: str, key_authorization: str) -> None:
        """When this returns, the listener answers."""

    def remove(self, token: str) -> None: ...


class BoardSolver:
    """Presents on the board of this process alone: for what need not outlive it."""

    challenge_type = "http-01"

    def __init__(self, board: Board) -> None:
        self._board = board

    def present(self, challenge: PendingChallenge) -> None:
        self._board.put(challenge.token, challenge.key_authorization)

    def clean_up(self, challenge: PendingChallenge) -> None:
        self._board.remove(challenge.token)


class Http01Solver:
    """Presents through the store and the board; one for each claim.

    Args:
        spread_seconds: until every agent over the store knows what was written.
    """

    challenge_type = "http-01"

    def __init__(
        self,
        store: ChallengeTable,
        board: Board,
        claim: Claim,
        clock: Clock,
        *,
        spread_seconds: float = 0.0,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._store, self._board, self._claim, self._clock = store, board, claim, clock
        self._spread_seconds, self._sleep = spread_seconds, sleep

    def present(self, challenge: PendingChallenge) -> None:
        """Make the answer durable, then visible.

        Raises:
            FenceLost, StoreUnavailable: nothing is visible.
        """
        self._store.put_challenge(
            self._claim,
            challenge.token,
            challenge.key_authorization,
            challenge.identifier,
            now=self._clock(),
        )
        self._board.put(challenge.token, challenge.key_authorization)

    def wait_until_visible(self) -> None:
        """Give the other agents time to see it: the CA may come to any of them.

        Raises:
            RelayError: whatever ends the pause early.
        """
        if self._spread_seconds:
            self._sleep(self._spread_seconds)

    def clean_up(self, challenge: PendingChallenge) -> None:
        """Take it off the board; the row goes with the attempt's next commit."""
        self._board.remove(challenge.token)
