"""Where certificates come from: one shape for the agent and for direct mode.

Only the standard library: the quiet path of ``pull`` comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from internal_puller.settings.targets import Target

if TYPE_CHECKING:
    from internal_puller.install.material import Material
    from internal_puller.outbox.outcome import Outcome
    from internal_puller.state.progress import CertificateProgress
    from shared.contract.wire import Offer

WhileWaiting = Callable[[], AbstractContextManager[None]]
"""Entered around waiting, and around nothing that changes anything; may raise to end it."""


@dataclass(frozen=True, slots=True)
class Work:
    """Fetch one certificate and install it.

    Attributes:
        generation: the one that is offered.
        after: what to ask for: the newest above this one.
        again: it failed here before, and is tried all the same.
    """

    certificate: str
    generation: int
    after: int
    targets: tuple[Target, ...]
    again: bool = False


class Source(Protocol):
    """What it offers, how one generation is fetched and accepted, and how it is reported.

    Attributes:
        is_direct: whether this machine gets its certificates by itself.
    """

    @property
    def is_direct(self) -> bool: ...

    def offers(self) -> Sequence[Offer]:
        """Return the newest generation of each certificate that there is for this machine.

        Raises:
            ConfigurationError: what is known of it is damaged.
        """

    def fetch(self, work: Work) -> Material | Outcome | None:
        """Fetch a generation and accept it by every rule of trust.

        What was accepted cannot be gone back behind any more, durably, before this returns.

        Returns:
            What is to be installed; an outcome if it was refused; ``None`` if there is nothing
            after all.

        Raises:
            TransportError, ClockWrong: it could not be fetched.
            ConfigurationError: what this machine knows is damaged, or cannot be written.
        """

    def in_place(self, material: Material, progress: CertificateProgress) -> None:
        """Forget what it has outlived, as it is in place at every target that wanted it."""

    def receipt(self, outcome: Outcome) -> str | None:
        """Return what the agent is told of an outcome; ``None`` where it is told nothing."""
