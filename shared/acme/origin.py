"""Which URLs of a CA may be used at all: https, and on the directory's own origin."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from shared.acme.problems import plain_text
from shared.contract.errors import ConfigurationError, IssuanceRejected

_DEFAULT_PORTS = {"https": 443, "http": 80}
_LONGEST_URL = 2000


class Origin:
    """The origin (RFC 6454) of a directory URL.

    Args:
        directory_url: the CA's directory.
        allowed_http_hosts: hosts that may be spoken to without TLS; for tests.

    Raises:
        ConfigurationError: not an https URL, or with credentials in it.
    """

    def __init__(self, directory_url: str, allowed_http_hosts: frozenset[str]) -> None:
        self._allowed_http_hosts = allowed_http_hosts
        parts = _split(directory_url)
        if parts is None or not self._is_secure(parts):
            raise ConfigurationError(
                f"The ACME directory URL {plain_text(directory_url)!r} is not an https URL.",
                do="Give the CA's directory as https://HOST/PATH.",
            )
        self._origin = _origin(parts)
        self.host = parts.hostname or ""

    def check(self, url: object, meaning: str) -> str:
        """Return `url` if the client may call it.

        Raises:
            IssuanceRejected: not a URL, not https, or on another origin.
        """
        parts = _split(url)
        if parts is None or not isinstance(url, str):
            raise IssuanceRejected(f"The CA {self.host} gave no usable URL as its {meaning}.")
        if not self._is_secure(parts) or _origin(parts) != self._origin:
            raise IssuanceRejected(
                f"The CA {self.host} gave {plain_text(url)!r} as its {meaning}, which is not an "
                "https URL on the directory's own host and port; it was not used."
            )
        return url

    def _is_secure(self, parts: SplitResult) -> bool:
        return parts.scheme == "https" or (
            parts.scheme == "http" and parts.hostname in self._allowed_http_hosts
        )


def _split(url: object) -> SplitResult | None:
    """Return the parts of a plain absolute URL: ASCII, printable, no credentials."""
    if not isinstance(url, str) or len(url) > _LONGEST_URL or not url.isascii():
        return None
    if not url.isprintable() or set(url) & set(' "<>\\^`{|}'):
        return None
    try:
        parts = urlsplit(url)
        _origin(parts)
    except ValueError:
        return None
    return parts if parts.hostname and "@" not in parts.netloc else None


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
