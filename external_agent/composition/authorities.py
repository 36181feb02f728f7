"""How the CAs of the settings are reached."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from external_agent.orders.certificate_authority import CaSettings, CertificateAuthorities
from external_agent.settings import keys
from external_agent.settings.config import CaSection, Settings
from external_agent.store.interface import Store
from shared.acme.ports import ExternalAccountBinding


def ca_settings(settings: Settings, directory_url: str) -> CaSettings:
    """Return how one CA is reached, with the account keys as they are on the disk now.

    Raises:
        ConfigurationError, LooseFileMode: a key file is missing or loose.
    """
    account_keys = keys.load_account_keys(settings.state_directory)
    section = settings.acme.at(directory_url)
    return CaSettings(
        account_key=account_keys.current,
        next_key=account_keys.following,
        contact=section.contact,
        terms_agreed=section.terms_agreed,
        eab=partial(_account_binding, section),
        trusted_roots=section.ca_root,
        proxy=section.proxy,
        profile=section.profile,
        preferred_chain=section.preferred_chain,
        allowed_http_hosts=settings.acme.allowed_http_hosts,
    )


def authorities_of(
    settings: Callable[[], Settings], store: Store, **more: Any
) -> CertificateAuthorities:
    """Return the connections to the CAs of the settings; ``more`` as the class takes it."""
    return CertificateAuthorities(store, lambda url: ca_settings(settings(), url), **more)


def _account_binding(settings: CaSection) -> ExternalAccountBinding | None:
    """
    Raises:
        ConfigurationError, LooseFileMode: the key of the external account binding is unusable.
    """
    if settings.eab_key_id is None or settings.eab_hmac_key_file is None:
        return None
    key = keys.read_secret(settings.eab_hmac_key_file).decode("ascii", errors="replace").strip()
    return ExternalAccountBinding(settings.eab_key_id, key)
