"""DNS UPDATE: who may change what, the prerequisites, and the change (RFC 2136, RFC 8945)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

from .dns_zones import Node, View

ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
_PROTECTED = (dns.rdatatype.SOA, dns.rdatatype.NS)


@dataclass(frozen=True)
class UpdateKey:
    """A TSIG key and what it permits.

    Attributes:
        names: exact names; one that begins with a dot means everything below it too; empty
            means every name.
        types: record types; empty means every type.
        views: the views it may change.
    """

    name: str
    secret: bytes
    algorithm: str = "hmac-sha256"
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ("TXT",)
    views: tuple[str, ...] = ("outside",)
    key: dns.tsig.Key = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the key that dnspython wants."""
        key = dns.tsig.Key(dns.name.from_text(self.name), self.secret, self.algorithm + ".")
        object.__setattr__(self, "key", key)

    @property
    def secret_base64(self) -> str:
        """The secret as tools want it."""
        return base64.b64encode(self.secret).decode()

    def permits(self, view: str, rrset: dns.rrset.RRset) -> bool:
        """Whether the holder may change this name and type in this view."""
        if view not in self.views:
            return False
        if self.types and dns.rdatatype.to_text(rrset.rdtype) not in self.types:
            return False
        return not self.names or any(_covers(pattern, rrset.name) for pattern in self.names)


def new_key(name: str, algorithm: str, **limits: Iterable[str]) -> UpdateKey:
    """Return a key with a fresh secret."""
    bounds = {member: tuple(values) for member, values in limits.items()}
    return UpdateKey(name, secrets.token_bytes(32), algorithm, **bounds)


def _covers(pattern: str, name: dns.name.Name) -> bool:
    wanted = dns.name.from_text(pattern.lstrip("."))
    return name.is_subdomain(wanted) if pattern.startswith(".") else name == wanted


def apply_update(
    message: dns.update.UpdateMessage, view: View, view_name: str, key: UpdateKey | None
) -> dns.rcode.Rcode:
    """Do what `message` asks and return the response code; all or nothing."""
    if len(message.zone) != 1:
        return dns.rcode.FORMERR
    zone = message.zone[0].name
    if zone not in view.zones:
        return dns.rcode.NOTAUTH
    changes = list(message.update)
    if any(view.zone_of(rrset.name) != zone for rrset in [*message.prerequisite, *changes]):
        return dns.rcode.NOTZONE
    if key is None or not all(key.permits(view_name, rrset) for rrset in changes):
        return dns.rcode.REFUSED
    with view.lock:
        failed = _unmet(message.prerequisite, view)
        if failed is not None:
            return failed
        before = {name: dict(node) for name, node in view.nodes.items()}
        for rrset in changes:
            _change(view, zone, rrset)
        if view.nodes != before:
            view.next_serial(zone)
    return dns.rcode.NOERROR


def _unmet(prerequisites: list[dns.rrset.RRset], view: View) -> dns.rcode.Rcode | None:
    for wanted in prerequisites:
        node = view.nodes.get(wanted.name, {})
        absent = wanted.deleting == dns.rdataclass.NONE
        if wanted.rdtype == dns.rdatatype.ANY:
            if absent and node:
                return dns.rcode.YXDOMAIN
            if not absent and not node:
                return dns.rcode.NXDOMAIN
        elif absent and wanted.rdtype in node:
            return dns.rcode.YXRRSET
        elif not absent and not _stands(wanted, node):
            return dns.rcode.NXRRSET
    return None


def _stands(wanted: dns.rrset.RRset, node: Node) -> bool:
    held = node.get(wanted.rdtype, ())
    return bool(held) and (wanted.deleting is not None or set(wanted) <= set(held))


def _change(view: View, zone: dns.name.Name, change: dns.rrset.RRset) -> None:
    at_apex = change.name == zone
    node = view.nodes.get(change.name, {})
    if change.deleting == dns.rdataclass.ANY:
        everything = change.rdtype == dns.rdatatype.ANY
        for kind in list(node) if everything else [change.rdtype]:
            if not (at_apex and kind in _PROTECTED):
                node.pop(kind, None)
    elif change.deleting == dns.rdataclass.NONE:
        if change.rdtype in node and not (at_apex and change.rdtype in _PROTECTED):
            left = [rdata for rdata in node[change.rdtype] if rdata not in change]
            _store(node, change, left, node[change.rdtype].ttl)
    else:
        node = view.nodes.setdefault(change.name, {})
        held = list(node.get(change.rdtype, ()))
        _store(node, change, held + [rdata for rdata in change if rdata not in held], change.ttl)
    if not node:
        view.nodes.pop(change.name, None)


def _store(
    node: Node,
    change: dns.rrset.RRset,
    rdatas: list,  # type: ignore[type-arg]
    ttl: int,
) -> None:
    if rdatas:
        node[change.rdtype] = dns.rrset.from_rdata_list(change.name, ttl, rdatas)
    else:
        node.pop(change.rdtype, None)
