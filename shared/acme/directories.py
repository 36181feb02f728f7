"""CAs that operators may name instead of giving the URL of their ACME directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class KnownCa:
    """
    Attributes:
        url: of its ACME directory.
        needs: in words, what it wants beside an agreement to its terms; empty for nothing.
    """

    url: str
    needs: str = ""


_BINDING = "it wants an external account binding: eab_key_id and eab_hmac_key_file"
LETS_ENCRYPT = KnownCa("https://acme-v02.api.letsencrypt.org/directory")
CERTIFICATE_AUTHORITIES: Mapping[str, KnownCa] = {
    "letsencrypt": LETS_ENCRYPT,
    "letsencrypt-staging": KnownCa("https://acme-staging-v02.api.letsencrypt.org/directory"),
    "zerossl": KnownCa("https://acme.zerossl.com/v2/DV90", _BINDING),
    "google": KnownCa("https://dv.acme-v02.api.pki.goog/directory", _BINDING),
    "google-staging": KnownCa("https://dv.acme-v02.test-api.pki.goog/directory", _BINDING),
    "sslcom": KnownCa("https://acme.ssl.com/sslcom-dv-ecc", _BINDING),
    "actalis": KnownCa("https://acme-api.actalis.com/acme/directory", _BINDING),
}


def directory_url(text: str) -> str:
    """Return the directory's URL for a name or an https URL.

    Raises:
        ConfigurationError: it is neither.
    """
    known = CERTIFICATE_AUTHORITIES.get(text)
    url = known.url if known else text
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
