"""How the CA looks names up: by real DNS packets, or from a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype

IN = dns.rdataclass.IN
MAX_ALIASES = 10


class LookupFailed(Exception):
    """No usable answer; `str()` says why."""


Caa = tuple[int, str, str]


class Resolver(Protocol):
    """What the CA asks of the DNS. No record is an empty list; no answer is LookupFailed."""

    def addresses(self, name: str) -> list[str]:
        """Return the IPv6 addresses, then the IPv4 addresses."""

    def texts(self, name: str) -> list[bytes]:
        """Return each TXT record, its strings joined."""

    def caa(self, name: str) -> list[Caa]:
        """Return the CAA records at exactly this name as (flags, tag, value)."""


class TableResolver:
    """A resolver without DNS.

    Args:
        addresses: name to address or addresses; None answers 127.0.0.1 for every name.
    """

    def __init__(self, addresses: Mapping[str, str | Iterable[str]] | None = None) -> None:
        self.table = None if addresses is None else dict(addresses)
        self.text_table: dict[str, list[bytes]] = {}
        self.caa_table: dict[str, list[Caa]] = {}

    def addresses(self, name: str) -> list[str]:
        """Return the addresses in the table, IPv6 first."""
        if self.table is None:
            return ["127.0.0.1"]
        found = self.table.get(name, ())
        return sorted([found] if isinstance(found, str) else found, key=lambda a: ":" not in a)

    def texts(self, name: str) -> list[bytes]:
        """Return the texts in the table."""
        return self.text_table.get(name, [])

    def caa(self, name: str) -> list[Caa]:
        """Return the CAA records in the table."""
        return self.caa_table.get(name, [])


class DnsResolver:
    """Asks one server, over UDP and then TCP, and follows CNAMEs by asking again.

    Args:
        server: address and port of the server.
        timeout: seconds for one question.
    """

    def __init__(self, server: tuple[str, int], timeout: float = 5.0) -> None:
        self.server = server
        self.timeout = timeout

    def addresses(self, name: str) -> list[str]:
        """Return AAAA, then A."""
        return [
            record.address
            for kind in (dns.rdatatype.AAAA, dns.rdatatype.A)
            for record in self._ask(name, kind)
        ]

    def texts(self, name: str) -> list[bytes]:
        """Return each TXT record with its strings joined."""
        return [b"".join(record.strings) for record in self._ask(name, dns.rdatatype.TXT)]

    def caa(self, name: str) -> list[Caa]:
        """Return CAA; a server that does not hold the name (REFUSED) counts as no record."""
        try:
            records = self._ask(name, dns.rdatatype.CAA)
        except LookupFailed as failed:
            if "REFUSED" in str(failed):
                return []
            raise
        return [(r.flags, r.tag.decode(), r.value.decode("utf-8", "replace")) for r in records]

    def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list:  # type: ignore[type-arg]
        owner = target = dns.name.from_text(name)
        seen = {owner}
        while True:
            response = self._exchange(owner, kind)
            while alias := response.get_rrset(response.answer, target, IN, dns.rdatatype.CNAME):
                target = alias[0].target
                if target in seen or len(seen) > MAX_ALIASES:
                    raise LookupFailed(f"{name}: the chain of CNAMEs does not end")
                seen.add(target)
            found = response.get_rrset(response.answer, target, IN, kind)
            if found is not None or target == owner:
                return list(found or ())
            owner = target

    def _exchange(self, owner: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        question = dns.message.make_query(owner, kind, use_edns=0, payload=1232)
        what = f"{owner.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(kind)}"
        address, port = self.server
        try:
            response, _ = dns.query.udp_with_fallback(
                question, address, timeout=self.timeout, port=port
            )
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(f"{what}: no answer ({error})") from None
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise LookupFailed(f"{what}: {dns.rcode.to_text(response.rcode())}")
        return response


def as_resolver(given: Resolver | Mapping[str, str | Iterable[str]] | None) -> Resolver:
    """Return a resolver made of what a test handed over."""
    if given is None or isinstance(given, Mapping):
        return TableResolver(given)
    return given
