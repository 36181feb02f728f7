"""Why a subscriber may say that a certificate is revoked (RFC 5280 section 5.3.1)."""

from __future__ import annotations

from collections.abc import Mapping

from shared.contract.errors import ConfigurationError

REASONS: Mapping[str, int] = {
    "unspecified": 0,
    "keyCompromise": 1,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
}
"""Those that the CA/Browser Forum lets subscribers use (Baseline Requirements section 7.2.2)."""

NEEDS_NO_OTHER = frozenset(("superseded", "cessationOfOperation"))
"""After these nothing is missing: another certificate is there, or none is wanted any more."""


def reason_code(text: str) -> int:
    """Return the code of a reason given by its name or its number.

    Raises:
        ConfigurationError: there is none, or it is not a subscriber's to use.
    """
    by_number = {str(code): code for code in REASONS.values()}
    code = {**REASONS, **by_number}.get(text)
    if code is None:
        raise ConfigurationError(
            f"{text!r:.40} is no reason for a revocation that a subscriber may give.",
            do=f"Use one of {', '.join(REASONS)}.",
        )
    return code


def reason_name(code: int) -> str:
    """Return the name of a code of :data:`REASONS`."""
    return next((name for name, one in REASONS.items() if one == code), str(code))
