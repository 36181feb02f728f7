"""Puts the issuing side of a running agent together from its settings and keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from external_agent import keys
from external_agent.certificate_authority import CaSettings, CertificateAuthorities
from external_agent.config import AcmeSettings, Settings
from external_agent.keymaker import ProcessKeyMaker
from external_agent.metrics import Metrics
from external_agent.scheduler import Scheduler, make_scheduler
from external_agent.serve import Changes, MakeWorker
from external_agent.store.interface import Store
from shared.acme.ports import ExternalAccountBinding


def ca_settings(settings: AcmeSettings, agent_keys: keys.AgentKeys) -> CaSettings:
    return CaSettings(
        account_key=agent_keys.account,
        contact=settings.contact,
        terms_agreed=settings.terms_agreed,
        eab=partial(_account_binding, settings),
        trusted_roots=settings.ca_root,
        proxy=settings.proxy,
        allowed_http_hosts=settings.allowed_http_hosts,
    )


def _account_binding(settings: AcmeSettings) -> ExternalAccountBinding | None:
    """
    Raises:
        ConfigurationError, LooseFileMode: the key of the external account binding is unusable.
    """
    if settings.eab_key_id is None or settings.eab_hmac_key_file is None:
        return None
    key = keys.read_secret(settings.eab_hmac_key_file).decode("ascii", errors="replace").strip()
    return ExternalAccountBinding(settings.eab_key_id, key)


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
            authorities=CertificateAuthorities(
                store,
                lambda: ca_settings(settings().acme, agent_keys),
                observe=metrics.observe_call,
            ),
            key_maker=key_maker,
            board=changes.answers,
            workers=settings().issuing.workers,
            on_published=changes.published,
            dns01=lambda: settings().dns01,
            keep_days=lambda: settings().retention.days,
            observe=metrics.observe_order,
        )

    return make
