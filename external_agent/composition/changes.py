"""What changed in the store reaches memory, and what issues certificates hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.present.metrics.metrics import Metrics
from external_agent.relay.challenge_http import ChallengeAnswers
from external_agent.relay.change_notifier import Bell
from external_agent.settings.config import Settings
from external_agent.store.interface import Store


class Worker(Protocol):
    """What issues certificates in the background; its threads are its own."""

    def start(self) -> None: ...

    def wake(self) -> None:
        """Something changed: look whether a certificate is due."""

    def stop(self, timeout: float) -> None:
        """Begin nothing more; wait at most ``timeout`` seconds for steps under way."""

    @property
    def running(self) -> int:
        """How many orders are worked on now."""


class Changes:
    """Carries what changed in the store into memory; ``refresh`` may be called from any thread."""

    def __init__(self, store: Store, answers: ChallengeAnswers, bell: Bell) -> None:
        self._store = store
        self.answers = answers
        self._bell = bell
        self._seen = -1
        self.on_own_certificate: Callable[[], None] = lambda: None

    def published(self, certificate: str) -> None:
        """A generation was published: wake those who wait for it."""
        if certificate == RELAY_CERTIFICATE:
            self.on_own_certificate()
        self._bell.ring()

    def poll(self) -> bool:
        """Notice what other processes changed, and hand over what was counted.

        Returns:
            Whether anything changed since the last call.

        Raises:
            StoreError: the store is not available; memory stays as it is.
        """
        hits = self.answers.take_hits()
        if hits:
            self._store.record_challenge_hits(hits)
        counter = self._store.change_counter()
        if counter == self._seen:
            return False
        self.answers.replace(self._store.pending_challenges())
        self._seen = counter
        self._bell.ring()
        return True


MakeWorker = Callable[[Changes, Callable[[], Settings], Metrics], Worker]
