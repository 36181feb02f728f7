"""Compares what needs somebody with what each receiver was told, and sends the difference.

Nothing is queued: what counts is what is so now. A receiver that could not be reached is told what
is still so when it can be, a new one is told what is so already, and a message that was sent once
is not sent again after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog

from external_agent.facts.issues import Concern, Severity
from external_agent.present.alerts.message import Message, of_concerns, of_recoveries
from external_agent.present.alerts.receivers import Receiver
from external_agent.present.alerts.sending import Send, send
from external_agent.present.alerts.settings import Manner
from external_agent.present.wording import Language, describe
from external_agent.records.alert_rows import ToldAlert
from external_agent.store.interface import AlertStore

FIRST_PAUSE, LONGEST_PAUSE = 60, 3600
"""Seconds that a receiver is left alone after a failure; doubled each time."""

_log = structlog.get_logger(__name__)


class AlertWatch:
    """
    Args:
        concerns: all of now; may block and raise StoreError.
        manner: as it is now.
        clock: unix seconds.
        observe: told of each message to a receiver whether it arrived.
    """

    def __init__(
        self,
        store: AlertStore,
        concerns: Callable[[], Iterable[Concern]],
        manner: Callable[[], Manner],
        *,
        clock: Callable[[], float],
        send: Send = send,
        observe: Callable[[str, bool], None] = lambda receiver, arrived: None,
    ) -> None:
        self._store, self._concerns, self._manner = store, concerns, manner
        self._clock, self._send, self._observe = clock, send, observe
        self._seen_since: dict[str, int] = {}
        self._names: tuple[str, ...] | None = None
        self._try_again: dict[str, int] = {}
        self._stopping = False

    def stop(self) -> None:
        """Send nothing more; what is being sent has its seconds."""
        self._stopping = True

    def look(self) -> None:
        """Take one turn; sends at most two messages to each receiver.

        Raises:
            StoreError: the store is not available; nothing was sent.
        """
        manner, now = self._manner(), int(self._clock())
        names = tuple(one.name for one in manner.receivers)
        if names != self._names:
            self._store.forget_alert_receivers(names)  # put back, one is told all that is so
            self._names = names
        if not names:
            return
        so = {one.key: one for one in self._concerns() if one.severity >= Severity.WARNING}
        self._seen_since = {key: self._since(key, now) for key in so}
        for receiver in manner.receivers:
            if not self._is_left_alone(receiver, now):
                self._tell(receiver, so, manner, now)

    def _is_left_alone(self, receiver: Receiver, now: int) -> bool:
        """A pause that a clock set back made longer than any is void."""
        return 0 < self._try_again.get(receiver.name, 0) - now <= LONGEST_PAUSE

    def _since(self, key: str, now: int) -> int:
        """A clock that was set back makes nothing last longer."""
        return min(self._seen_since.get(key, now), now)

    def _tell(
        self, receiver: Receiver, so: Mapping[str, Concern], manner: Manner, now: int
    ) -> None:
        told = {one.key: one for one in self._store.told_alerts(receiver.name)}
        news = [
            one
            for one in so.values()
            if one.severity >= manner.least and self._is_news(one, told.get(one.key), manner, now)
        ]
        marked = _marked(told, so, now)
        if marked:
            self._store.keep_told(receiver.name, marked, ())
        over = [
            one
            for one in (told | {one.key: one for one in marked}).values()
            if one.gone_at is not None and now - one.gone_at >= manner.patience
        ]
        if news and self._sent(receiver, of_concerns(news, manner.language), now):
            self._store.keep_told(
                receiver.name, [_told(one, manner.language, now) for one in news], ()
            )
        if over and self._sent(receiver, of_recoveries(over, manner.language), now):
            self._store.keep_told(receiver.name, (), [one.key for one in over])

    def _is_news(self, concern: Concern, told: ToldAlert | None, manner: Manner, now: int) -> bool:
        if told is not None:
            return concern.severity > told.severity
        if concern.severity is Severity.CRITICAL:
            return True
        return now - self._seen_since[concern.key] >= manner.patience

    def _sent(self, receiver: Receiver, message: Message, now: int) -> bool:
        if self._stopping or self._is_left_alone(receiver, now):
            return False  # it failed in this very turn
        problem = self._send(receiver, message).problem
        self._observe(receiver.name, not problem)
        noted = self._store.note_alert_sent(receiver.name, problem=problem, now=now)
        if not problem:
            self._try_again.pop(receiver.name, None)
            _log.info("alert sent", receiver=receiver.name, title=message.title)
            return True
        pause = min(FIRST_PAUSE * 2 ** min(noted.failures - 1, 10), LONGEST_PAUSE)
        self._try_again[receiver.name] = now + pause
        _log.error(
            "alert not sent",
            receiver=receiver.name,
            problem=problem,
            failures=noted.failures,
            again_in=pause,
            do="external-agent alerts test says more",
        )
        return False


def _marked(told: Mapping[str, ToldAlert], so: Mapping[str, Concern], now: int) -> list[ToldAlert]:
    """Return what has just gone, or is back; of what is gone the clock may have been set back."""
    gone = [
        replace(one, gone_at=now)
        for key, one in told.items()
        if key not in so and (one.gone_at is None or one.gone_at > now)
    ]
    back = [
        replace(one, gone_at=None)
        for key, one in told.items()
        if key in so and one.gone_at is not None
    ]
    return gone + back


def _told(concern: Concern, language: Language, now: int) -> ToldAlert:
    what, _ = describe(concern, language)
    return ToldAlert(concern.key, concern.certificate, concern.severity, what, now)
