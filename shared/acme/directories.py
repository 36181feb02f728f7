"""Public CAs that operators may name instead of giving the URL of their ACME directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.contract.errors import CaNotConfigured, ConfigurationError


@dataclass(frozen=True, slots=True)
class KnownCa:
    """A CA that anybody can use.

    Attributes:
        url: of its ACME directory.
        title: what the CA calls itself.
        binding_from: where it hands out the external account binding (RFC 8555 section 7.3.4),
            in words; empty for a CA that wants none.
    """

    url: str
    title: str
    binding_from: str = ""


# As of November 2026. Not here: Buypass, which issued its last certificate on 2025-10-31; CAs whose
# directory belongs to one contract, such as DigiCert's: their URL is given as it is.
KNOWN_CAS: Mapping[str, KnownCa] = {
    "letsencrypt": KnownCa("https://acme-v02.api.letsencrypt.org/directory", "Let's Encrypt"),
    "letsencrypt-staging": KnownCa(
        "https://acme-staging-v02.api.letsencrypt.org/directory", "Let's Encrypt (staging)"
    ),
    "zerossl": KnownCa(
        "https://acme.zerossl.com/v2/DV90",
        "ZeroSSL",
        "the developer page of the ZeroSSL account (https://app.zerossl.com/developer)",
    ),
    "google": KnownCa(
        "https://dv.acme-v02.api.pki.goog/directory",
        "Google Trust Services",
        "gcloud publicca external-account-keys create "
        "(https://cloud.google.com/certificate-manager/docs/public-ca)",
    ),
    "google-staging": KnownCa(
        "https://dv.acme-v02.test-api.pki.goog/directory",
        "Google Trust Services (staging)",
        "the staging of the Public CA API "
        "(https://cloud.google.com/certificate-manager/docs/public-ca)",
    ),
    "sslcom-ecc": KnownCa(
        "https://acme.ssl.com/sslcom-dv-ecc",
        "SSL.com (for EC keys)",
        "the API credentials of the SSL.com account",
    ),
    "sslcom-rsa": KnownCa(
        "https://acme.ssl.com/sslcom-dv-rsa",
        "SSL.com (for RSA keys)",
        "the API credentials of the SSL.com account",
    ),
    "actalis": KnownCa(
        "https://acme-api.actalis.com/acme/directory",
        "Actalis",
        "the ACME credentials of the Actalis customer area",
    ),
    "sectigo": KnownCa(
        "https://acme.sectigo.com/v2/DV", "Sectigo (DV)", "the Sectigo account, by contract"
    ),
    "globalsign": KnownCa(
        "https://emea.acme.atlas.globalsign.com/directory",
        "GlobalSign Atlas",
        "the ACME accounts of the Atlas portal, by contract",
    ),
}
CERTIFICATE_AUTHORITIES: Mapping[str, str] = {name: one.url for name, one in KNOWN_CAS.items()}
_BY_URL = {one.url: name for name, one in KNOWN_CAS.items()}


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


_STAGING = {"letsencrypt": "letsencrypt-staging", "google": "google-staging"}


def staging_of(url: str) -> str | None:
    """Return the directory URL for trying things out at the same CA, if one is known."""
    name = _STAGING.get(_BY_URL.get(url, ""))
    return None if name is None else KNOWN_CAS[name].url


def ca_name(url: str) -> str:
    """Return the name of a known CA's directory, else the URL itself."""
    return _BY_URL.get(url, url)


def wants_binding(url: str) -> bool:
    """Tell whether this is a known CA that wants an external account binding."""
    known = KNOWN_CAS.get(ca_name(url))
    return known is not None and bool(known.binding_from)


def require_binding_options(url: str, eab_key_id: str | None) -> None:
    """
    Raises:
        CaNotConfigured: it is a known CA that wants an account binding, and none is given.
    """
    if wants_binding(url) and eab_key_id is None:
        raise CaNotConfigured(
            f"{KNOWN_CAS[ca_name(url)].title} wants an external account binding.",
            do=f"{binding_hint(url)} Here: --eab-key-id and --eab-hmac-key-file.",
        )


def binding_hint(url: str) -> str:
    """Return what to do about a missing or wrong external account binding, in a sentence."""
    known = KNOWN_CAS.get(ca_name(url))
    where = known.binding_from if known is not None else ""
    source = f"from {where}" if where else "from the CA"
    return (
        f"Take the key identifier and the HMAC key {source} and put them into the settings: "
        "eab_key_id, and eab_hmac_key_file for a file with the key."
    )
