"""Puts the issuing side of a running agent together from its settings and keys."""

from __future__ import annotations

from collections.abc import Callable

from external_agent.composition.authorities import authorities_of
from external_agent.composition.changes import Changes, MakeWorker
from external_agent.orders.keymaker import ProcessKeyMaker
from external_agent.orders.scheduler import Scheduler, make_scheduler
from external_agent.present.metrics.metrics import Metrics
from external_agent.relay.relay_tls import RelayKeys
from external_agent.settings import keys
from external_agent.settings.config import Settings
from external_agent.store.interface import Store


def worker_maker(
    store: Store, agent_keys: keys.AgentKeys, key_maker: ProcessKeyMaker
) -> MakeWorker:
    """Return what makes the scheduler of this agent, not yet started.

    Args:
        key_maker: closed by the caller.
    """

    def make(changes: Changes, settings: Callable[[], Settings], metrics: Metrics) -> Scheduler:
        """``settings`` as they are now: for CAs they take effect with the next connection."""
        return make_scheduler(
            store,
            signing_key=agent_keys.signing,
            authorities=authorities_of(settings, store, observe=metrics.observe_call),
            key_maker=key_maker,
            board=changes.answers,
            workers=settings().issuing.workers,
            on_published=changes.published,
            dns01=lambda: settings().dns01,
            keep_days=lambda: settings().retention.days,
            observe=metrics.observe_order,
            relay_key=RelayKeys(store, settings().state_directory).prepare,
        )

    return make
