"""CAs that operators may name instead of giving the URL of their ACME directory."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from shared.errors import ConfigurationError

CERTIFICATE_AUTHORITIES: Mapping[str, str] = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}


def directory_url(text: str) -> str:
    """Return the directory's URL for a name or an https URL.

    Raises:
        ConfigurationError: it is neither.
    """
    url = CERTIFICATE_AUTHORITIES.get(text, text)
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and bool(parts.hostname) and (parts.port or 443) > 0
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(
            f"--ca {text!r:.80} is neither a known CA nor an https URL.",
            do=f"Known ones: {', '.join(CERTIFICATE_AUTHORITIES)}.",
        )
    return url
