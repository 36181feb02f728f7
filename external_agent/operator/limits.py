"""Failed attempts are counted for each peer, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict

FAILURES = 10
WINDOW = 60.0
MOST_PEERS = 1000


class Failures:
    """Who failed :data:`FAILURES` times within :data:`WINDOW` seconds has to wait.

    Token buckets: one failure is forgiven every ``WINDOW / FAILURES`` seconds. Of more than
    :data:`MOST_PEERS` peers those that failed longest ago are forgotten.
    """

    def __init__(self) -> None:
        self._peers: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def wait(self, peer: str, now: float) -> int:
        """Return the seconds until this peer may try again; 0 for at once."""
        excess = self._level(peer, now) - (FAILURES - 1)
        return 0 if excess <= 0 else int(excess * WINDOW / FAILURES) + 1

    def add(self, peer: str, now: float) -> None:
        """Count one more."""
        level = self._level(peer, now) + 1
        self._peers[peer] = (min(level, float(FAILURES)), now)
        self._peers.move_to_end(peer)
        while len(self._peers) > MOST_PEERS:
            self._peers.popitem(last=False)

    def _level(self, peer: str, now: float) -> float:
        level, at = self._peers.get(peer, (0.0, now))
        return max(0.0, level - max(0.0, now - at) * FAILURES / WINDOW)
