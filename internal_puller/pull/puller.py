"""One pull: ask what is new, and have it installed. Lean: with nothing new, little is imported."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from internal_puller.outbox.report import PullReport
from internal_puller.pull.concluding import conclude, raise_alarm
from internal_puller.pull.deciding import Decision, decide, is_cut_off, is_left_behind, reshaped
from internal_puller.pull.pauses import Pauses
from internal_puller.pull.turn import Turn
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import load_targets
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.contact import NO_CONTACT, connect
from internal_puller.sources.agent.source import AgentSource
from internal_puller.sources.agent.this_machine import this_machine
from internal_puller.sources.source import WhileWaiting
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ClockWrong, ConfigurationError
from shared.contract.wire import Machine, clamp_come_back

if TYPE_CHECKING:
    from internal_puller.pull.pace import Pace
    from internal_puller.sources.direct.source import DirectSource


class Puller:
    """
    Args:
        settings: where state and targets are.
        clock: unix seconds.
        monotonic: seconds, for pauses between attempts.
        say: told in words what is being done.
        identify: says which machine this is.
        pace: how often each certificate may be installed; ``None`` for one pull, which somebody
            or a timer began.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: None,
        identify: Callable[[], Machine | None] = this_machine,
        pace: Pace | None = None,
    ) -> None:
        self.settings = settings
        self.state = StateDirectory.open(settings.state_directory)
        self._enrolment = self.state.enrolment()
        self._clock, self._say = clock, say
        self._pauses = Pauses(clock=clock, monotonic=monotonic, pace=pace)
        self._client: RelayClient | None = None
        if self._enrolment is not None or not settings.direct_file.exists():
            self._client = connect(settings, self.state, clock, identify)

    @property
    def has_agent(self) -> bool:
        """Whether this machine is enrolled; without an agent there are direct certificates only."""
        return self._client is not None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def pull(
        self,
        *,
        wait: int = 0,
        retry: bool = False,
        while_waiting: WhileWaiting = nullcontext,
    ) -> PullReport:
        """Ask, install what is new, and send receipts.

        Args:
            wait: seconds for the agent to hold the question until something is new.
            retry: try generations again that failed here before, and look at once at what was not
                seen to be served.
            while_waiting: entered around the question, and around nothing that changes anything.

        Raises:
            ConfigurationError: settings, state or targets are wrong.
            InstallBusy: another pull is at work on this machine.
        """
        turn: Turn | None = None
        try:
            turn = self._turn()
            turn.direct = self._direct_source(turn, while_waiting)
            self._settle(turn, retry=retry)
            heard = self._ask(turn, wait, while_waiting)
            if turn.direct is not None:
                turn.direct.order(turn.report)
            self._follow(turn, heard=heard, retry=retry)
            conclude(turn)
        except ClockWrong:
            raise
        except ConfigurationError as fault:
            self._tell_of_fault(turn, fault)
            raise
        return turn.report

    # --- the beginning ------------------------------------------------------------------------

    def _turn(self, *, without_targets: bool = False) -> Turn:
        targets = () if without_targets else load_targets(self.settings.targets_file)
        turn = Turn(
            self.settings, self.state, targets, self._pauses, clock=self._clock, say=self._say
        )
        if self._client is not None and self._enrolment is not None:
            turn.agent = AgentSource(
                self._client,
                self._enrolment,
                self.state,
                targets,
                report_addresses=self.settings.report_addresses,
                clock=self._clock,
                say=self._say,
            )
        return turn

    def _direct_source(self, turn: Turn, while_waiting: WhileWaiting) -> DirectSource | None:
        if not self.settings.direct_file.exists():
            return None
        from internal_puller.sources.direct.settings import require_direct
        from internal_puller.sources.direct.source import DirectSource

        return DirectSource(
            require_direct(self.settings.direct_file),
            self.settings,
            self.state,
            turn.targets,
            is_told=self._client is not None,
            clock=self._clock,
            while_waiting=while_waiting,
            say=self._say,
        )

    def _settle(self, turn: Turn, *, retry: bool) -> None:
        """Do first what an earlier run left, and what settings changed."""
        left, cut_off = is_left_behind(turn), is_cut_off(turn, at_once=retry)
        if not (left or cut_off or reshaped(turn)):
            return
        from internal_puller.pull import settling

        with turn.lock():
            if left:
                settling.forget_removed(turn)
            if cut_off:
                settling.resume(turn)
            if reshaped(turn):
                settling.reshape(turn)

    # --- the question, and what follows -------------------------------------------------------

    def _ask(self, turn: Turn, wait: int, while_waiting: WhileWaiting) -> bool:
        """Ask the agent what there is; tell whether it answered."""
        if turn.agent is None:
            return False
        try:
            with while_waiting():
                since = turn.progress.version if wait else ""
                patience = self._pauses.patience(wait, turn.progress, turn.targets)
                listing = turn.agent.ask(since=since, wait=patience)
        except NO_CONTACT as error:
            turn.refresh()
            turn.note_no_contact(error)
            turn.save(durable=False)
            return False
        turn.report.come_back = clamp_come_back(listing.come_back)
        return True

    def _follow(self, turn: Turn, *, heard: bool, retry: bool) -> None:
        """Decide once; only if another run has worked meanwhile, once more with the lock held."""
        turn.refresh()
        decision = decide(turn, heard=heard, retry=retry)
        if decision.asks_for_something:
            from internal_puller.pull.installing import carry_out

            with turn.lock():
                if turn.refresh():
                    decision = decide(turn, heard=heard, retry=retry)
                carry_out(turn, decision)
        elif heard:
            turn.save(durable=False)
        self._note(turn, decision)

    def _note(self, turn: Turn, decision: Decision) -> None:
        wanted = {(one.certificate, one.generation) for one in decision.plan.work}
        self._pauses.forget_all_but(wanted)
        turn.report.outcomes += decision.plan.obstacles()
        turn.report.warnings += [
            f"{name}: the agent offers new certificates without end; the newest is installed when "
            "a part of what is left of the one in place has passed; on the agent see: "
            "external-agent events"
            for name in sorted(self._pauses.too_often)
        ]

    def _tell_of_fault(self, turn: Turn | None, fault: ConfigurationError) -> None:
        """Tell the agent, and whoever gets alarms, what on this machine ends every pull."""
        from internal_puller.pull.faults import tell_of_fault

        if turn is None:
            turn = self._turn(without_targets=True)
        tell_of_fault(turn, fault)
        turn.report = PullReport(fault=fault)
        raise_alarm(turn)

    # --- what else is done with what is in place ----------------------------------------------

    def look_again(self) -> bool:
        """Probe what is served; when that changed, send a fresh receipt. Tell whether it did.

        Raises:
            TransportError: the receipt could not be delivered; it is kept.
        """
        from internal_puller.outbox.delivery import deliver
        from internal_puller.pull.looking import look_around

        turn = self._turn()
        turn.direct = self._direct_source(turn, nullcontext)
        with turn.lock():
            turn.refresh()
            if not look_around(turn):
                return False
            turn.save()
            if self._client is not None:
                deliver(self._client, turn.progress, self._clock())
            turn.save()
        return True

    def roll_back(self, certificate: str, to: int | None) -> PullReport:
        """Activate an earlier generation at every target of a certificate, and report it.

        Raises:
            ConfigurationError: there is no such target.
            InstallBusy: another pull is at work on this machine.
        """
        from internal_puller.pull.rolling_back import roll_back

        turn = self._turn()
        mine = [target for target in turn.targets if target.certificate == certificate]
        if not mine:
            raise ConfigurationError(f"There is no target for {certificate!r:.200}.")
        turn.direct = self._direct_source(turn, nullcontext)
        with turn.lock():
            turn.refresh()
            roll_back(turn, mine, to)
        return turn.report
