"""Which proxy leads to the agent: the setting, else the environment as other programs read it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from shared.contract.errors import ConfigurationError


def check_proxy_url(where: str, value: object) -> str:
    """Return a proxy's URL, ``http[s]://[user:password@]host[:port]``.

    Raises:
        ConfigurationError: something else; the value is not repeated, it may hold a password.
    """
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = (
            parts is not None
            and parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port or 1) > 0
            and parts.path in ("", "/")
            and not parts.query
        )
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(f"{where} is no proxy URL such as http://proxy.example.com:3128.")
    return str(value)


def choose_proxy(setting: str, host: str) -> str | None:
    """Return the proxy's URL for an https request to ``host``, or ``None`` to connect directly.

    Raises:
        ConfigurationError: the environment names something that is no proxy URL.
    """
    if setting == "none":
        return None
    if setting:
        return setting
    from urllib.request import getproxies_environment, proxy_bypass

    found = getproxies_environment()
    url = found.get("https") or found.get("all")
    if not url or proxy_bypass(host, found):
        return None
    return check_proxy_url("HTTPS_PROXY", url if "://" in url else f"http://{url}")


def credentials(url: str) -> tuple[bytes, bytes] | None:
    """Return user and password that a proxy's URL carries."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return unquote(parts.username).encode(), unquote(parts.password or "").encode()


def without_credentials(url: str) -> str:
    """Return the URL as it may be shown and be given on."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{port}"
