"""SplitDns: one set of names, an outside and an inside answer, each on its own address."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import dns.name

from .dns_faults import DnsFaults
from .dns_server import DnsServer, Query
from .dns_update import UpdateKey, new_key
from .dns_zones import VIEWS, View
from .resolver import DnsResolver


class SplitDns:
    """An authoritative DNS server with two views, which also answers as a resolver would.

    Args:
        zones: the zones it holds in both views; other names are REFUSED.
        host: where both views listen, unless `outside_host` or `inside_host` say otherwise.
        outside_port, inside_port: 0 is any free port.
        ttl: seconds, for records that do not say.
    """

    def __init__(
        self,
        *zones: str,
        host: str = "127.0.0.1",
        outside_host: str | None = None,
        inside_host: str | None = None,
        outside_port: int = 0,
        inside_port: int = 0,
        ttl: int = 1,
    ) -> None:
        self.zones = zones or ("example.com",)
        self.faults = DnsFaults()
        self._queries: list[Query] = []
        self._keys: dict[dns.name.Name, UpdateKey] = {}
        self._views: dict[str, View] = {}
        self._servers: dict[str, DnsServer] = {}
        hosts = {"outside": outside_host or host, "inside": inside_host or host}
        ports = {"outside": outside_port, "inside": inside_port}
        for name in VIEWS:
            self._views[name] = View(self.zones, hosts[name], ttl)
            self._servers[name] = DnsServer(
                name,
                self._views[name],
                hosts[name],
                ports[name],
                self._keys,
                self.faults,
                self._queries,
            )
        self.outside_address = self._servers["outside"].address
        self.inside_address = self._servers["inside"].address
        self.resolver = DnsResolver(self.outside_address)
        self.inside_resolver = DnsResolver(self.inside_address)

    # --- records ---

    def set(self, view: str, name: str, kind: str, *values: str, ttl: int | None = None) -> None:
        """Replace the records of one name and type; without values, remove them.

        Values are in zone file syntax: a TXT with spaces or semicolons wants double quotes, and
        parts of at most 255 octets each.
        """
        self._views[view].put(dns.name.from_text(name), kind, values, ttl)

    def add(self, view: str, name: str, kind: str, *values: str) -> None:
        """Add records beside those that stand there."""
        self.set(view, name, kind, *self.get(view, name, kind), *values)

    def remove(self, view: str, name: str, kind: str) -> None:
        """Remove the records of one name and type."""
        self.set(view, name, kind)

    def set_text(self, view: str, name: str, *texts: str) -> None:
        """Set TXT records from plain text: quoted, and split at 255 octets."""
        self.set(view, name, "TXT", *(quoted(text) for text in texts))

    def get(self, view: str, name: str, kind: str) -> list[str]:
        """Return the records of one name and type in zone file syntax."""
        return self._views[view].values(dns.name.from_text(name), kind)

    # --- keys for UPDATE ---

    def add_key(
        self,
        name: str = "lab-key",
        algorithm: str = "hmac-sha256",
        *,
        names: Iterable[str] = (),
        types: Iterable[str] = ("TXT",),
        views: Iterable[str] = ("outside",),
    ) -> UpdateKey:
        """Return a new TSIG key that may change `names` and `types` in `views`.

        A name that begins with a dot means everything below it; no names mean all.
        """
        key = new_key(name, algorithm, names=names, types=types, views=views)
        return self.use_key(key)

    def use_key(self, key: UpdateKey) -> UpdateKey:
        """Accept `key`."""
        self._keys[key.key.name] = key
        return key

    def remove_key(self, name: str) -> None:
        """Know `name` no more."""
        self._keys.pop(dns.name.from_text(name), None)

    # --- running ---

    @property
    def queries(self) -> list[Query]:
        """Every message so far, oldest first."""
        return list(self._queries)

    def start(self) -> Self:
        """Begin to answer."""
        for server in self._servers.values():
            server.start()
        return self

    def close(self) -> None:
        """Stop; waits for the threads."""
        for server in self._servers.values():
            server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()


def quoted(text: str) -> str:
    """Return `text` as quoted TXT strings of at most 255 octets."""
    octets = text.encode()
    parts = [octets[i : i + 255] for i in range(0, len(octets), 255)] or [b""]
    return " ".join('"' + "".join(_escaped(byte) for byte in part) + '"' for part in parts)


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}"
