"""The settings become the manner in which alerts are given."""

from __future__ import annotations

from external_agent.alerts.receivers import read_receivers
from external_agent.alerts.watch import Manner
from external_agent.config import Settings
from external_agent.domain.concerns import Severity


def manner_of(settings: Settings) -> Manner:
    """Read the receivers' file, too.

    Raises:
        ConfigurationError, LooseFileMode: see :func:`read_receivers`.
    """
    own = settings.alerts
    return Manner(
        read_receivers(own.receivers_file),
        own.language,
        Severity[own.least.upper()],
        own.patience_minutes * 60,
    )
