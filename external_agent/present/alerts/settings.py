"""The settings become the manner in which alerts are given."""

from __future__ import annotations

from dataclasses import dataclass

from external_agent.facts.issues import Severity
from external_agent.present.alerts.receivers import Receiver, read_receivers
from external_agent.present.wording import Language
from external_agent.settings.config import Settings


@dataclass(frozen=True, slots=True)
class Manner:
    """How alerts are given, as the settings say it.

    Attributes:
        patience: seconds that a warning must last, and be gone.
    """

    receivers: tuple[Receiver, ...] = ()
    language: Language = "en"
    least: Severity = Severity.WARNING
    patience: int = 600


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
