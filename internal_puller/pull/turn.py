"""What the steps of one pull share; lean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from internal_puller.install.lock import installation_lock
from internal_puller.outbox.report import PullReport
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target
from internal_puller.state.progress import LastError, Progress
from internal_puller.state.state import StateDirectory
from shared.contract.errors import RelayError

if TYPE_CHECKING:
    from internal_puller.install.engine import Engine
    from internal_puller.outbox.outbox import Outbox
    from internal_puller.pull.pauses import Pauses
    from internal_puller.sources.agent.source import AgentSource
    from internal_puller.sources.direct.source import DirectSource
    from internal_puller.sources.source import Source

LOCK_WAIT = 20.0


class Turn:
    """One pull, as far as it has come.

    Args:
        clock: unix seconds.
        say: told in words what is being done.

    Attributes:
        agent, direct: the sources that this machine has.
        progress: as it was last read or saved by this process.
    """

    def __init__(
        self,
        settings: Settings,
        state: StateDirectory,
        targets: Sequence[Target],
        pauses: Pauses,
        *,
        clock: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.state, self.targets, self.pauses = settings, state, targets, pauses
        self.clock, self.say = clock, say
        self.agent: AgentSource | None = None
        self.direct: DirectSource | None = None
        self.report = PullReport()
        self.read()

    # --- what is known ------------------------------------------------------------------------

    @property
    def own(self) -> frozenset[str]:
        """The certificates that this machine gets by itself."""
        return self.direct.certificates if self.direct else frozenset()

    def source_of(self, certificate: str) -> Source | None:
        """Return where a certificate comes from; ``None`` if from nowhere any more."""
        return self.direct if certificate in self.own else self.agent

    def read(self) -> None:
        """Take progress as it is on the disk; what was not saved is forgotten."""
        self._version = self.state.progress_version()
        self.progress: Progress = self.state.progress()
        self.__dict__.pop("outbox", None)

    def refresh(self) -> bool:
        """Read progress again if another process has saved it; tell whether one has.

        Whatever changes anything here saves it, and holds the lock meanwhile.
        """
        if self.state.progress_version() == self._version:
            return False
        self.read()
        return True

    def save(self, *, durable: bool = True) -> None:
        """Keep progress. Raises ``ConfigurationError`` if it cannot be written."""
        self.state.save_progress(self.progress, durable=durable)
        self._version = self.state.progress_version()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock of installing on this machine. Raises ``InstallBusy``."""
        return installation_lock(self.settings.lock, wait=LOCK_WAIT)

    def note_no_contact(self, error: RelayError) -> None:
        """The agent could not be reached."""
        self.report.contact = error
        self.progress.error = LastError(error.type, error.what, int(self.clock()))

    # --- not on the quiet path ----------------------------------------------------------------

    @cached_property
    def outbox(self) -> Outbox:
        from internal_puller.outbox.outbox import Outbox

        return Outbox(self.progress, self.source_of, self.clock)

    @cached_property
    def engine(self) -> Engine:
        from internal_puller.install.engine import Engine

        return Engine(self.targets, self.state.path, clock=self.clock, say=self.say)
