"""What is in place at a target, from its own record on disk; only the standard library."""

from __future__ import annotations

from dataclasses import dataclass

from internal_puller.install import layout
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Active:
    """
    Attributes:
        digest: hex manifest digest.
        not_after: unix seconds.
        key_kind: ``"rsa"`` or ``"ecdsa"``; ``None`` if its record does not say.
    """

    generation: int
    digest: str
    leaf_sha256: str
    not_after: int
    key_kind: str | None = None


def read_active(target: Target) -> Active | None:
    """Return the generation in place, ``None`` before the first or if its record is damaged.

    Raises:
        ConfigurationError: ``current`` is none of ours.
    """
    if layout.active_name(target) is None:
        return None
    try:
        record = layout.read_json(target.directory / layout.CURRENT / layout.RECORD) or {}
        return Active(
            int(record["generation"]),
            str(record["manifest_digest"]),
            str(record["leaf_sha256"]),
            int(record["not_after"]),
            record.get("key_kind"),
        )
    except (ConfigurationError, TypeError, KeyError, ValueError):
        return None
