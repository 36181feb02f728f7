"""Settings of dns-01 as plain records, and their strict reader; both sides have them in TOML."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.contract.errors import ConfigurationError

DNS_PORT = 53
TSIG_ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
PUBLIC_RESOLVERS = ("1.1.1.1", "8.8.8.8", "9.9.9.9")
MOST_WAIT_SECONDS = 500.0

Address = tuple[str, int]
"""A numeric address, or a host name, and a port."""


@dataclass(frozen=True)
class Rfc2136Settings:
    """DNS UPDATE with TSIG.

    Attributes:
        server: the zone's primary, ``ADDRESS`` or ``ADDRESS:PORT``; a host name may stand there.
        key_file: as BIND's tsig-keygen writes it, or the bare secret in base64; mode 0600.
        key_name: the key's name; needed for a bare secret, else it must be the file's.
        algorithm: one of :data:`TSIG_ALGORITHMS`; a key file in BIND's form says it itself.
        zone: the zone to change, where the one found by SOA is not it.
        ttl: of the records, seconds.
        timeout: seconds for one message.
    """

    server: str
    key_file: Path
    key_name: str | None = None
    algorithm: str | None = None
    zone: str | None = None
    ttl: int = 60
    timeout: float = 10.0


@dataclass(frozen=True)
class HookSettings:
    """A command of the operator's own.

    Attributes:
        command: program and arguments; no shell.
        timeout: seconds; then it and all it started is killed.
    """

    command: tuple[str, ...]
    timeout: float = 60.0


@dataclass(frozen=True)
class AcmeDnsSettings:
    """The HTTP API of acme-dns.

    Attributes:
        accounts_file: JSON, domain to account, as clients of acme-dns keep it; mode 0600.
        url: the server, where the account does not say; https, or http on loopback.
        ca_root: PEM file of roots for it; None: public ones.
        proxy: URL of an HTTP proxy.
        timeout: seconds for one call.
    """

    accounts_file: Path
    url: str | None = None
    ca_root: Path | None = None
    proxy: str | None = None
    timeout: float = 30.0


@dataclass(frozen=True)
class LexiconSettings:
    """A provider of dns-lexicon.

    Attributes:
        provider: its name there.
        credentials_file: TOML with the provider's options (``auth_token = "…"``); mode 0600.
        ttl: of the records, seconds; None leaves it to the provider.
    """

    provider: str
    credentials_file: Path
    ttl: int | None = None


@dataclass(frozen=True)
class Dns01Settings:
    """How TXT records get into the public DNS, and how it is seen that they are there.

    Attributes:
        resolvers: public ones, ``ADDRESS`` or ``ADDRESS:PORT``, that find CNAMEs, zones and name
            servers: inside, the same names can be in other zones. None at all: this machine's.
        name_servers: asked for the value in place of those that the zone names.
        wait: whether the CA is told only when every name server shows the value.
        wait_seconds: for how long at most.
        rfc2136, hook, acme_dns, lexicon: exactly one, or none while dns-01 is not used.
    """

    resolvers: tuple[str, ...] = PUBLIC_RESOLVERS
    name_servers: tuple[str, ...] = ()
    wait: bool = True
    wait_seconds: float = 120.0
    rfc2136: Rfc2136Settings | None = None
    hook: HookSettings | None = None
    acme_dns: AcmeDnsSettings | None = None
    lexicon: LexiconSettings | None = None

    @property
    def configured(self) -> bool:
        """Tell whether there is a way to write records."""
        return any((self.rfc2136, self.hook, self.acme_dns, self.lexicon))

    @property
    def longest_wait(self) -> float:
        """Seconds that an order may need beside what the CA needs."""
        return self.wait_seconds if self.wait else 0.0

    @property
    def resolver_addresses(self) -> tuple[Address, ...]:
        return tuple(parse_server(one) for one in self.resolvers)

    @property
    def name_server_addresses(self) -> tuple[Address, ...]:
        return tuple(parse_server(one) for one in self.name_servers)


def parse_server(text: str, *, names: bool = False) -> Address:
    """Return host and port of ``192.0.2.53``, ``192.0.2.53:5353``, ``2001:db8::53``, ``[…]:53``.

    Args:
        names: a host name is acceptable too.

    Raises:
        ConfigurationError: anything else.
    """
    host, port = text, str(DNS_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else port
        is_good = bool(bracket) and rest[:1] in ("", ":")
    else:
        is_good = True
        if text.count(":") == 1:
            host, _, port = text.partition(":")
    is_good = is_good and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    if not is_good or not (_is_address(host) or (names and _is_host_name(host))):
        raise ConfigurationError(
            f"{text!r:.80} is not the address of a DNS server: write 192.0.2.53, 192.0.2.53:53 or "
            "[2001:db8::53]:53."
        )
    return host, int(port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host_name(text: str) -> bool:
    labels = text.rstrip(".").split(".")
    return text.isascii() and all(one.replace("-", "").isalnum() for one in labels)


def read_dns01_settings(values: Mapping[str, object], *, where: str = "dns01") -> Dns01Settings:
    """Return checked settings from decoded TOML.

    Text is taken for numbers, truth values and lists where those belong (``"30"``, ``"true"``,
    ``'["a"]'``), for settings that come from the environment.

    Args:
        where: how errors call the section.

    Raises:
        ConfigurationError: an unknown setting (the nearest known one is named), a missing one, a
            value of the wrong kind, more than one way to write records.
    """
    settings = _read(Dns01Settings, values, where)
    ways = [one for one in _sections(Dns01Settings) if getattr(settings, one) is not None]
    if len(ways) > 1:
        raise ConfigurationError(
            f"[{where}] names several ways to write records: {', '.join(ways)}.",
            do="Keep one of these sections.",
        )
    if not 1 <= settings.wait_seconds <= MOST_WAIT_SECONDS:
        raise ConfigurationError(
            f"{where}.wait_seconds is not between 1 and {MOST_WAIT_SECONDS:g}."
        )
    _check_servers(settings, where)
    _check_ways(settings, where)
    return settings


def _check_servers(settings: Dns01Settings, where: str) -> None:
    for name in ("resolvers", "name_servers"):
        for one in getattr(settings, name):
            _checked(parse_server, one, f"{where}.{name}")


def _check_ways(settings: Dns01Settings, where: str) -> None:
    if (own := settings.rfc2136) is not None:
        _checked(lambda text: parse_server(text, names=True), own.server, f"{where}.rfc2136.server")
        if own.algorithm is not None and own.algorithm not in TSIG_ALGORITHMS:
            raise ConfigurationError(
                f"{where}.rfc2136.algorithm is {own.algorithm!r:.40}, not one of "
                f"{', '.join(TSIG_ALGORITHMS)}."
            )
    if settings.hook is not None and not settings.hook.command:
        raise ConfigurationError(f"{where}.hook.command is empty.")
    if settings.acme_dns is not None and settings.acme_dns.url is not None:
        _checked(check_acme_dns_url, settings.acme_dns.url, f"{where}.acme_dns.url")


def check_acme_dns_url(text: str) -> str:
    """Return the address of an acme-dns server without a slash at its end.

    Raises:
        ConfigurationError: no https URL, nor http on loopback.
    """
    parts = urlsplit(text)
    host = parts.hostname or ""
    on_loopback = host == "localhost" or (
        _is_address(host) and ipaddress.ip_address(host).is_loopback
    )
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and on_loopback)):
        raise ConfigurationError(
            f"{text!r:.200} is not the https address of an acme-dns server; http is for loopback."
        )
    return text.rstrip("/")


def _checked(check: Callable[[str], object], text: str, where: str) -> None:
    try:
        check(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.what}") from error


# --- records from mappings -------------------------------------------------------------------

_Record = typing.TypeVar("_Record")


def section_fields(record: type) -> dict[str, object]:
    """Return a settings record's field names and types; a section's type is its record's."""
    hints = typing.get_type_hints(record)
    return {
        one.name: _section_type(hints[one.name]) or hints[one.name]
        for one in dataclasses.fields(record)
    }


def _sections(record: type) -> list[str]:
    return [name for name, kind in section_fields(record).items() if dataclasses.is_dataclass(kind)]


def _section_type(hint: object) -> type | None:
    for one in (hint, *typing.get_args(hint)):
        if isinstance(one, type) and dataclasses.is_dataclass(one):
            return one
    return None


def _read(record: type[_Record], values: Mapping[str, object], where: str) -> _Record:
    known = section_fields(record)
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ConfigurationError(
                f"Unknown setting '{where}.{str(key)[:60]}'. The nearest known one is "
                f"'{where}.{nearest}'."
            )
    found = {key: _read_value(f"{where}.{key}", known[key], value) for key, value in values.items()}
    for one in dataclasses.fields(record):  # type: ignore[arg-type]
        if one.default is dataclasses.MISSING and one.name not in found:
            raise ConfigurationError(f"Setting '{where}.{one.name}' is missing.")
    return record(**found)


def _read_value(where: str, kind: object, value: object) -> object:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where} is no section: write [{where}].")
        return _read(kind, value, where)
    wanted = next(
        one
        for one in (typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,))
        if one is not types.NoneType
    )
    reader, words = _READERS[wanted]
    read = reader(value)
    if read is None:
        raise ConfigurationError(f"{where} is not {words}.")
    return read


def _plain(value: object) -> object:
    """Return what text from the environment stands for."""
    if isinstance(value, str):
        try:
            return typing.cast(object, json.loads(value))
        except ValueError:
            return None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _path(value: object) -> Path | None:
    text = str(value) if isinstance(value, Path) else _text(value)
    return Path(text) if text and Path(text).is_absolute() else None


def _number(value: object) -> float | None:
    value = _plain(value)
    return float(value) if type(value) in (int, float) and 0 < value < 1e6 else None  # type: ignore[operator,arg-type]


def _whole(value: object) -> int | None:
    value = _plain(value)
    return value if type(value) is int and 0 < value < 2**31 else None


def _truth(value: object) -> bool | None:
    value = _plain(value)
    return value if isinstance(value, bool) else None


def _texts(value: object) -> tuple[str, ...] | None:
    value = _plain(value)
    if not isinstance(value, list | tuple) or not all(_text(one) for one in value):
        return None
    return tuple(value)


_READERS: dict[object, tuple[Callable[[object], object], str]] = {
    str: (_text, "text"),
    Path: (_path, "an absolute path"),
    float: (_number, "a positive number"),
    int: (_whole, "a positive whole number"),
    bool: (_truth, "true or false"),
    tuple[str, ...]: (_texts, "a list of texts"),
}
