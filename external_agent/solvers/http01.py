"""http-01 (RFC 8555 section 8.3): the pending tokens in memory, and the solver that puts them.

The database holds them too, so that a restarted listener, or another process's, has them again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from external_agent.clock import Clock
from external_agent.store.rows import Claim
from shared.acme.ports import PendingChallenge


class _PendingChallenges(Protocol):
    def pending_challenges(self) -> Mapping[str, str]: ...


class _ChallengeTable(Protocol):
    def put_challenge(
        self, claim: Claim, token: str, key_authorization: str, name: str, *, now: int
    ) -> None: ...


class Board(Protocol):
    """Where the challenge listener looks."""

    def put(self, token: str, key_authorization: str) -> None:
        """When this returns, the listener answers."""

    def remove(self, token: str) -> None: ...


class ChallengeBoard:
    """A :class:`Board` in memory: token to key authorization, for any thread at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, str] = {}
        self._own: dict[str, str] = {}

    def get(self, token: str) -> str | None:
        """Return the key authorization, exactly for ``token``; one look-up in a ``dict``."""
        return self._pending.get(token)

    def __len__(self) -> int:
        return len(self._pending)

    def reload(self, store: _PendingChallenges) -> None:
        """Take over what the database holds, keeping what this process has put here itself."""
        found = dict(store.pending_challenges())
        with self._lock:
            self._pending = {**found, **self._own}

    def put(self, token: str, key_authorization: str) -> None:
        with self._lock:
            self._own[token] = key_authorization
            self._pending = {**self._pending, token: key_authorization}

    def remove(self, token: str) -> None:
        with self._lock:
            self._own.pop(token, None)
            self._pending = {t: value for t, value in self._pending.items() if t != token}


class Http01Solver:
    """Presents through the store and the board; one for each claim."""

    challenge_type = "http-01"

    def __init__(self, store: _ChallengeTable, board: Board, claim: Claim, clock: Clock) -> None:
        self._store, self._board, self._claim, self._clock = store, board, claim, clock

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

    def clean_up(self, challenge: PendingChallenge) -> None:
        """Take it off the board; the row goes with the attempt's next commit."""
        self._board.remove(challenge.token)
