"""What the DNS holds: two views of the same zones, and how a question is answered from one."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.rrset

VIEWS = ("outside", "inside")
IN = dns.rdataclass.IN
Node = dict[dns.rdatatype.RdataType, dns.rrset.RRset]


class View:
    """The records of some zones as one side sees them. Change it only while holding `lock`.

    Args:
        zones: the names of the zones.
        address: where the zones' name server says it is.
        ttl: seconds for records that do not say.
    """

    def __init__(self, zones: Iterable[str], address: str, ttl: int) -> None:
        self.lock = threading.RLock()
        self.ttl = ttl
        self.zones = {dns.name.from_text(zone) for zone in zones}
        self.nodes: dict[dns.name.Name, Node] = {}
        kind = "AAAA" if ":" in address else "A"
        for zone in self.zones:
            server = dns.name.from_text("ns1", zone)
            text = f"{server} hostmaster.{zone} 1 3600 600 86400 {ttl}"
            self.put(zone, "SOA", [text])
            self.put(zone, "NS", [server.to_text()])
            self.put(server, kind, [address])

    def put(
        self, name: dns.name.Name, kind: str, values: Iterable[str], ttl: int | None = None
    ) -> None:
        """Replace the records of one name and type; no values remove them."""
        rdtype = dns.rdatatype.from_text(kind)
        values = list(values)
        with self.lock:
            node = self.nodes.setdefault(name, {})
            if values:
                seconds = self.ttl if ttl is None else ttl
                node[rdtype] = dns.rrset.from_text_list(name, seconds, IN, rdtype, values)
            else:
                node.pop(rdtype, None)
            if not node:
                del self.nodes[name]

    def values(self, name: dns.name.Name, kind: str) -> list[str]:
        """Return the records of one name and type as text."""
        with self.lock:
            found = self.nodes.get(name, {}).get(dns.rdatatype.from_text(kind))
            return sorted(rdata.to_text() for rdata in found or ())

    def zone_of(self, name: dns.name.Name) -> dns.name.Name | None:
        """Return the closest zone that holds `name`."""
        holding = [zone for zone in self.zones if name.is_subdomain(zone)]
        return max(holding, key=len, default=None)

    def answer(self, question: dns.rrset.RRset, response: dns.message.Message) -> None:
        """Fill `response` with what this view says about `question`."""
        with self.lock:
            self._answer(question.name, question.rdtype, response)

    def _answer(
        self,
        name: dns.name.Name,
        kind: dns.rdatatype.RdataType,
        response: dns.message.Message,
    ) -> None:
        zone = self.zone_of(name)
        if zone is None:
            if not response.answer:
                response.set_rcode(dns.rcode.REFUSED)
            return
        response.flags |= dns.flags.AA
        node = self._node(name, zone)
        alias = (node or {}).get(dns.rdatatype.CNAME)
        if node and (kind in node or kind == dns.rdatatype.ANY):
            kinds = list(node) if kind == dns.rdatatype.ANY else [kind]
            for one in kinds:
                response.answer.append(_owned(node[one], name))
        elif alias is not None:
            if any(rrset.name == name for rrset in response.answer):
                return
            response.answer.append(_owned(alias, name))
            self._answer(alias[0].target, kind, response)
        else:
            if node is None and not self._has_descendants(name):
                response.set_rcode(dns.rcode.NXDOMAIN)
            response.authority.append(self.nodes[zone][dns.rdatatype.SOA])

    def _node(self, name: dns.name.Name, zone: dns.name.Name) -> Node | None:
        if name in self.nodes:
            return self.nodes[name]
        above = name
        while above != zone and not self._has_descendants(above):
            above = above.parent()
            wildcard = dns.name.from_text("*", above)
            if wildcard in self.nodes:
                return self.nodes[wildcard]
            if above in self.nodes:
                break
        return None

    def _has_descendants(self, name: dns.name.Name) -> bool:
        return any(other.is_subdomain(name) and other != name for other in self.nodes)

    def next_serial(self, zone: dns.name.Name) -> None:
        """Count the zone's serial up."""
        soa = self.nodes[zone][dns.rdatatype.SOA]
        later = soa[0].replace(serial=(soa[0].serial + 1) % 2**32)
        self.nodes[zone][dns.rdatatype.SOA] = dns.rrset.from_rdata(zone, soa.ttl, later)


def _owned(rrset: dns.rrset.RRset, name: dns.name.Name) -> dns.rrset.RRset:
    """Return `rrset` under `name`, for what a wildcard answers."""
    if rrset.name == name:
        return rrset
    return dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))
