"""How often a certificate is installed: an agent that offers one at every poll is not followed.

Each installation tests and reloads a server. A first one, and several in a row where something has
to be put right (names changed, a key replaced), are never delayed.
"""

from __future__ import annotations

from collections.abc import Callable

IN_A_ROW = 4
"""Attempts within :data:`WINDOW` that are not delayed."""
WINDOW = 86400.0
SHARE = 1 / 20
"""Of what is left of the certificate in place: so long the next one may wait, without harm."""
SHORTEST, LONGEST = 60.0, 6 * 3600.0
"""The agent decides how long its certificates live; the pause has ends of its own."""


class Pace:
    """Attempts to install, by certificate, in memory.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._attempts: dict[str, list[float]] = {}

    def note(self, certificate: str) -> None:
        """An attempt begins, whatever comes of it."""
        self._attempts[certificate] = [*self._recent(certificate), self._clock()][-IN_A_ROW:]

    def permits(self, certificate: str, left: float) -> bool:
        """Tell whether another attempt may begin now.

        Args:
            left: seconds of life of the certificate in place; 0 for none.
        """
        recent = self._recent(certificate)
        if len(recent) < IN_A_ROW:
            return True
        return self._clock() >= recent[-1] + max(SHORTEST, min(LONGEST, left * SHARE))

    def _recent(self, certificate: str) -> list[float]:
        since = self._clock() - WINDOW
        return [at for at in self._attempts.get(certificate, ()) if at > since]
