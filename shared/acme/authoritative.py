"""Looks at what every authoritative server of a name holds, as a CA's resolver would come to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from shared.contract.errors import ConfigurationError, DnsUnavailable, ValidationFailed

Address = tuple[str, int]
"""Numeric address and port."""

_IN = dns.rdataclass.IN
_MOST_ALIASES = 10
_MOST_SERVERS = 20
_USUAL = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


@dataclass(frozen=True)
class NameServer:
    """One authoritative server at one of its addresses."""

    name: str
    address: str
    port: int = 53

    def __str__(self) -> str:
        return self.name if self.name == self.address else f"{self.name} ({self.address})"


@dataclass(frozen=True)
class ServerTexts:
    """The TXT records of a name at one server, each as its strings; or why there is no answer."""

    server: NameServer
    records: tuple[tuple[bytes, ...], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Texts:
    """What every authoritative server holds.

    Attributes:
        owner: where the records stand, after CNAMEs.
        zone: the zone that holds `owner`.
    """

    owner: str
    zone: str
    servers: tuple[ServerTexts, ...]


class AuthoritativeDns:
    """Finds zones through resolvers and asks their servers themselves.

    Args:
        resolvers: public recursive servers. Without any those of this machine are asked, which
            inside an intranet may know another zone than the Internet does.
        name_servers: ask these instead of the servers that the zone names.
        port: where authoritative servers listen.
        timeout: seconds for one question.
    """

    def __init__(
        self,
        resolvers: Sequence[Address] = (),
        *,
        name_servers: Sequence[Address] = (),
        port: int = 53,
        timeout: float = 4.0,
    ) -> None:
        self._resolvers, self._name_servers = tuple(resolvers), tuple(name_servers)
        self._port, self._timeout = port, timeout

    def texts(self, name: str) -> Texts:
        """Return the TXT records of `name` at each authoritative server.

        Raises:
            DnsUnavailable: its zone or its servers cannot be found.
            ValidationFailed: its CNAMEs do not end.
        """
        owner = self.canonical_name(name)
        zone = self.zone_of(owner)
        servers = self.servers_of(zone)
        return Texts(owner, zone, tuple(self._texts_at(server, owner) for server in servers))

    def canonical_name(self, name: str) -> str:
        """Return where CNAMEs lead to.

        Raises: as :meth:`texts`.
        """
        owner = dns.name.from_text(name)
        seen = {owner}
        while True:
            # By CNAME, hop by hop: for a loop a resolver would give nothing but SERVFAIL.
            answer = self._ask_resolvers(owner, dns.rdatatype.CNAME)
            before = owner
            while (target := _alias(answer, owner)) is not None:
                if target in seen or len(seen) > _MOST_ALIASES:
                    raise ValidationFailed(
                        f"The CNAMEs of {name} do not end: {_shown(target)} comes again.",
                        do="Mend the CNAME in the public zone.",
                    )
                seen.add(target)
                owner = target
            if owner == before:
                return _shown(owner)

    def zone_of(self, name: str) -> str:
        """Return the zone that holds `name`, found by SOA from the name upwards.

        Raises: as :meth:`texts`.
        """
        owner = dns.name.from_text(name)
        while len(owner) > 2:  # the root and top-level domains hold no names of ours
            answer = self._ask_resolvers(owner, dns.rdatatype.SOA)
            for rrset in (*answer.answer, *answer.authority):
                if rrset.rdtype != dns.rdatatype.SOA or len(rrset.name) <= 2:
                    continue
                if owner.is_subdomain(rrset.name):
                    return _shown(rrset.name)
            owner = owner.parent()
        raise DnsUnavailable(
            f"The zone of {name} was not found: no SOA record, up to its top-level domain.",
            do="Is the domain public? Name public resolvers in the settings if this machine's "
            "are internal ones.",
        )

    def servers_of(self, zone: str) -> tuple[NameServer, ...]:
        """Return every address of every name server of a zone.

        Raises: as :meth:`texts`.
        """
        if self._name_servers:
            return tuple(NameServer(one, one, port) for one, port in self._name_servers)
        answer = self._ask_resolvers(dns.name.from_text(zone), dns.rdatatype.NS)
        names = sorted(
            record.target
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.NS
            for record in rrset
        )
        found = [
            NameServer(_shown(name), address, self._port)
            for name in names[:_MOST_SERVERS]
            for address in self._addresses(name)
        ]
        if not found:
            raise DnsUnavailable(f"No name server of the zone {zone} was found.")
        return tuple(found)

    def records(self, name: str, kind: str) -> tuple[dns.rdata.Rdata, ...]:
        """Return the records of one type as the resolvers give them, CNAMEs followed.

        Raises:
            DnsUnavailable: no resolver gives a usable answer.
        """
        wanted = dns.rdatatype.from_text(kind)
        answer = self._ask_resolvers(dns.name.from_text(name), wanted)
        return tuple(
            record for rrset in answer.answer if rrset.rdtype == wanted for record in rrset
        )

    def _addresses(self, name: dns.name.Name) -> Iterator[str]:
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            for rrset in self._ask_resolvers(name, kind).answer:
                if rrset.rdtype == kind:
                    yield from (record.address for record in rrset)

    def _texts_at(self, server: NameServer, owner: str) -> ServerTexts:
        name = dns.name.from_text(owner)
        query = dns.message.make_query(name, dns.rdatatype.TXT, use_edns=0, payload=1232)
        query.flags &= ~dns.flags.RD
        try:
            answer = self._exchange(query, (server.address, server.port))
        except (dns.exception.DNSException, OSError) as error:
            return ServerTexts(server, error=f"no answer ({_reason(error)})")
        if answer.rcode() not in _USUAL:
            return ServerTexts(server, error=dns.rcode.to_text(answer.rcode()))
        found = answer.get_rrset(answer.answer, name, _IN, dns.rdatatype.TXT)
        return ServerTexts(server, tuple(tuple(record.strings) for record in found or ()))

    def _ask_resolvers(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> dns.message.Message:
        """Return the first usable answer; an error code counts only if there is nothing else."""
        query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
        failures = []
        for address in self._resolvers or _system_resolvers():
            try:
                answer = self._exchange(query, address)
            except (dns.exception.DNSException, OSError) as error:
                failures.append(f"{address[0]}: no answer ({_reason(error)})")
                continue
            if answer.rcode() in _USUAL:
                return answer
            failures.append(f"{address[0]}: {dns.rcode.to_text(answer.rcode())}")
        raise DnsUnavailable(
            f"{_shown(name)} {dns.rdatatype.to_text(kind)} could not be looked up: "
            f"{'; '.join(failures)}."
        )

    def _exchange(self, query: dns.message.Message, address: Address) -> dns.message.Message:
        answer, _ = dns.query.udp_with_fallback(
            query, address[0], timeout=self._timeout, port=address[1]
        )
        return answer


def _alias(answer: dns.message.Message, owner: dns.name.Name) -> dns.name.Name | None:
    found = answer.get_rrset(answer.answer, owner, _IN, dns.rdatatype.CNAME)
    return None if not found else found[0].target


def _shown(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _system_resolvers() -> tuple[Address, ...]:
    try:
        configured = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration as error:
        raise ConfigurationError(
            "This machine has no DNS resolver configured.", do="Name resolvers in the settings."
        ) from error
    return tuple((str(one), 53) for one in configured)
