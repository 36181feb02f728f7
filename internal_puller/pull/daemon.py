"""``internal-puller run``: stays, is woken by the agent, and outlives whatever goes wrong."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from internal_puller.outbox.report import PullReport
from internal_puller.pull.lean_pull import describe
from internal_puller.pull.pace import Pace
from internal_puller.pull.puller import Puller
from internal_puller.settings.config import Settings
from shared.contract.errors import PullerRevoked, RelayError, TransportError
from shared.contract.wire import MAX_WAIT
from shared.host.notify import notify_systemd

LOOK_AGAIN_SECONDS = 300.0
LONGEST_BACK_OFF = 300.0
REVOKED_PAUSE = 3600.0
_QUICK_ANSWER = 1.0
_SIGN_OF_LIFE = 60.0

log = logging.getLogger("internal_puller")


class _Woken(BaseException):
    """A signal came while nothing was being done."""


class Daemon:
    """
    Args:
        load: reads the settings; called at the start and again on SIGHUP.
        chance: a number in [0, 1), for jitter.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._load = load
        self._clock = clock
        self._monotonic = monotonic
        self._chance = chance
        self._stopping = False
        self._reload = False
        self._idle = False
        self._failures = 0
        self._quick_answers = 0
        self._look_at = monotonic() + LOOK_AGAIN_SECONDS
        self._said: set[str] = set()
        self._puller: Puller | None = None
        self._pace = Pace(monotonic)

    def run(self) -> None:
        """Stay until SIGTERM or SIGINT; an installation at hand is brought to its end first."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        notify_systemd("READY=1")
        try:
            while not self._stopping:
                try:
                    pause = self._cycle()
                    with self._interruptible():
                        _rest(pause)
                except _Woken:
                    self._after_signal()
        finally:
            notify_systemd("STOPPING=1")
            self._drop_puller()
            log.info("stopped")

    # --- signals ------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stopping = True
        if self._idle:
            self._idle = False  # a second signal must not be raised into the handling of this one
            raise _Woken

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Around waiting only: a signal ends it at once, and never ends an installation."""
        try:
            self._idle = True
            if self._stopping or self._reload:
                raise _Woken
            yield
        finally:
            self._idle = False

    def _after_signal(self) -> None:
        self._drop_puller()  # its connection was left in the middle of an answer
        if self._reload and not self._stopping:
            self._reload = False
            self._failures = 0
            self._said.clear()
            log.info("settings and targets are read again")

    # --- one turn -----------------------------------------------------------------------------

    def _cycle(self) -> float:
        """Ask once and do what is to be done; return the seconds until the next turn."""
        try:
            puller = self._puller
            first = puller is None
            if puller is None:
                puller = self._puller = Puller(
                    self._load(),
                    clock=self._clock,
                    monotonic=self._monotonic,
                    say=log.debug,
                    pace=self._pace,
                )
            begin = self._monotonic()
            report = puller.pull(
                wait=0 if first or self._failures else MAX_WAIT,
                while_waiting=self._interruptible,
            )
            took = self._monotonic() - begin
            self._tell(report)
            self._look_again(puller)
        except RelayError as error:
            self._say_once(logging.ERROR, f"{error.what} {error.do}")
            self._drop_puller()
            return self._back_off(None)
        except _Woken:
            raise
        except Exception:
            log.exception("unexpected; going on")
            self._drop_puller()
            return self._back_off(None)
        if not puller.has_agent:
            self._failures = 0
            return self._jitter(min(report.come_back, LOOK_AGAIN_SECONDS))
        return self._pause_after(report, first=first, took=took)

    def _pause_after(self, report: PullReport, *, first: bool, took: float) -> float:
        if report.contact is not None:
            return self._back_off(report.contact)
        recovered, self._failures = self._failures > 0, 0
        if first or recovered or took >= _QUICK_ANSWER or report.outcomes:
            self._quick_answers = 0
            return self._jitter(0.5)
        # An agent that does not hold the question must not be asked without end.
        self._quick_answers += 1
        return self._jitter(min(float(report.come_back), 2.0 ** min(self._quick_answers, 20)))

    def _back_off(self, error: RelayError | None) -> float:
        self._failures += 1
        if isinstance(error, PullerRevoked):
            return self._jitter(REVOKED_PAUSE)
        pause = self._jitter(min(LONGEST_BACK_OFF, 2.0 ** min(self._failures, 10)))
        hint = error.retry_after if isinstance(error, TransportError) else None
        return max(pause, hint or 0.0)

    def _jitter(self, seconds: float) -> float:
        return seconds * (0.5 + self._chance())

    def _look_again(self, puller: Puller) -> None:
        if self._monotonic() >= self._look_at:
            self._look_at = self._monotonic() + self._jitter(LOOK_AGAIN_SECONDS)
            if puller.look_again():
                log.info("what is served has changed; the agent is told")

    def _drop_puller(self) -> None:
        if self._puller is not None:
            self._puller.close()
            self._puller = None

    # --- the log ------------------------------------------------------------------------------

    def _tell(self, report: PullReport) -> None:
        """Say what happened; what goes on being so is said once."""
        current = set()
        for outcome in report.outcomes:
            if outcome.error is None:
                log.info("%s", describe(outcome))
            else:
                current.add(f"{outcome.error.what} {outcome.error.do}")
        current |= {f"{one.what} {one.do}" for one in report.standing_errors}
        for certificate in report.csrs_left:
            log.info("%s: a CSR for the next generation was left with the agent", certificate)
        if report.contact is not None:
            current.add(f"{report.contact.what} {report.contact.do}")
        elif self._failures and self._puller is not None and self._puller.has_agent:
            log.info("the agent answers again")
        for message in sorted(current - self._said):
            log.error("%s", message)
        for warning in report.warnings:
            name = warning.partition(":")[0]  # how long it lives on changes from hour to hour
            known = f"expiring {name}" if name in report.expiring else warning
            if known not in self._said:
                log.warning("%s", warning)
            current.add(known)
        self._said = current

    def _say_once(self, level: int, message: str) -> None:
        if message not in self._said:
            log.log(level, "%s", message)
            self._said.add(message)


def _rest(seconds: float) -> None:
    """Sleep, and go on telling systemd's watchdog that this is no hanging."""
    while True:
        notify_systemd("WATCHDOG=1")
        time.sleep(min(seconds, _SIGN_OF_LIFE))
        seconds -= _SIGN_OF_LIFE
        if seconds <= 0:
            return
