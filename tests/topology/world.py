"""The world of the topology tests: an Internet, a VM on it, and an intranet behind NAT.

::

    internet 203.0.113.1 ──┬── vm 203.0.113.10
    (CA, outside DNS)      └── nat 203.0.113.20 | 10.20.30.1 (inside DNS) ── intranet 10.20.30.40

The Internet and the VM have a route to the intranet, so what keeps them out is the filter on
`nat` alone, and its counter shows that they tried.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.lab import LabCa, SplitDns

from .namespaces import Namespace, Wire, configure, connect, forward, hosts

INTERNET, VM, NAT = "203.0.113.1", "203.0.113.10", "203.0.113.20"
INTERNET_IPV6, VM_IPV6 = "2001:db8:203::1", "2001:db8:203::10"
GATEWAY, INTRANET, INSIDE = "10.20.30.1", "10.20.30.40", "10.20.30.0/24"
WWW, RELAY, CA = "www.intra.example.com", "relay.example.com", "ca.example.com"

_FILTER = f"""
table inet gate {{
  counter inbound_dropped {{ }}
  counter nat_dropped {{ }}
  counter outbound {{ }}
  chain cut {{ type filter hook forward priority -10; policy accept; }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    iifname "outside" ip daddr {INSIDE} ct state new counter name inbound_dropped drop
    iifname "inside" oifname "outside" ct state new counter name outbound
    iifname "inside" oifname "outside" accept
    ct state established,related accept
    counter name inbound_dropped drop
  }}
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname "outside" ct state new counter name nat_dropped drop
  }}
  chain translate {{
    type nat hook postrouting priority srcnat;
    oifname "outside" masquerade
  }}
}}
"""
# What arrives, seen on the two hosts themselves.
_WATCH_VM = f"""
table inet watch {{
  counter challenges {{ }}
  chain input {{
    type filter hook input priority 0; policy accept;
    ip saddr {INTERNET} tcp dport 80 ct state new counter name challenges
  }}
}}
"""
_WATCH_INTRANET = """
table inet watch {
  counter arrived { }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "inside" ct state new counter name arrived
  }
}
"""
_CUTS = {
    "both": ("drop",),
    "inward": ('iifname "outside" drop',),
    "outward": ('iifname "inside" drop',),
}


@dataclass(frozen=True)
class World:
    """Four hosts and what is between them."""

    internet: Namespace
    vm: Namespace
    nat: Namespace
    intranet: Namespace

    def dropped(self) -> int:
        """Return how many packets towards the intranet the filter has dropped."""
        return _counter(self.nat, "gate", "inbound_dropped")

    def let_out(self) -> int:
        """Return how many connections from the intranet outward there were."""
        return _counter(self.nat, "gate", "outbound")

    def challenges(self) -> int:
        """Return how many connections from the CA's address reached the VM's port 80."""
        return _counter(self.vm, "watch", "challenges")

    def arrived(self) -> int:
        """Return how many connections from elsewhere reached the intranet's server."""
        return _counter(self.intranet, "watch", "arrived")

    @contextlib.contextmanager
    def cut(self, direction: str) -> Iterator[None]:
        """Lose every packet through NAT: `both` ways, or those `inward` or `outward` alone."""
        for rule in _CUTS[direction]:
            self.nat.run("nft", "add", "rule", "inet", "gate", "cut", *rule.split())
        try:
            yield
        finally:
            self.nat.run("nft", "flush", "chain", "inet", "gate", "cut")


def _counter(host: Namespace, table: str, name: str) -> int:
    answer = host.run("nft", "-j", "list", "counter", "inet", table, name)
    found = [part["counter"] for part in json.loads(answer)["nftables"] if "counter" in part]
    return int(found[0]["packets"])


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Build it; everything that runs in it ends with it."""
    with hosts("internet", "vm", "nat", "intranet") as made:
        built = World(*made)
        _lay_out(built)
        for host, server in ((built.internet, INTERNET), (built.vm, INTERNET)):
            host.etc("resolv.conf").write_text(f"nameserver {server}\noptions timeout:2\n")
        for host in (built.nat, built.intranet):
            host.etc("resolv.conf").write_text(f"nameserver {GATEWAY}\noptions timeout:2\n")
        for host, rules in (
            (built.nat, _FILTER),
            (built.vm, _WATCH_VM),
            (built.intranet, _WATCH_INTRANET),
        ):
            host.run("nft", "-f", "-", stdin=rules)
        forward(built.nat)
        yield built


def _lay_out(built: World) -> None:
    internet, vm, nat, intranet = built.internet, built.vm, built.nat, built.intranet
    connect(
        Wire((internet, "to-vm", ""), (vm, "outside", f"{VM}/24")),
        Wire((internet, "to-nat", ""), (nat, "outside", f"{NAT}/24")),
        Wire((nat, "inside", f"{GATEWAY}/24"), (intranet, "inside", f"{INTRANET}/24")),
    )
    configure(
        internet,
        "link add segment type bridge",
        "link set to-vm master segment",
        "link set to-nat master segment",
        f"address add {INTERNET}/24 dev segment",
        f"address add {INTERNET_IPV6}/64 dev segment nodad",
        "link set segment up",
        f"route add {INSIDE} via {NAT}",
    )
    configure(
        vm,
        f"address add {VM_IPV6}/64 dev outside nodad",
        f"route add {INSIDE} via {NAT}",
    )
    configure(intranet, f"route add default via {GATEWAY}")


@contextlib.contextmanager
def outside_dns(built: World) -> Iterator[SplitDns]:
    """What the Internet is told: the name of the intranet's server is the VM's address."""
    with built.internet.entered():
        dns = SplitDns("example.com", "com", outside_host=INTERNET, outside_port=53)
        for name, address in ((WWW, VM), (RELAY, VM), (CA, INTERNET)):
            dns.set("outside", name, "A", address)
        dns.start()
    with contextlib.closing(dns):
        yield dns


@contextlib.contextmanager
def inside_dns(built: World) -> Iterator[SplitDns]:
    """What the intranet is told: the name is the server's own address."""
    with built.nat.entered():
        dns = SplitDns("example.com", inside_host=GATEWAY, inside_port=53)
        for name, address in ((WWW, INTRANET), (RELAY, VM), (CA, INTERNET)):
            dns.set("inside", name, "A", address)
        dns.start()
    with contextlib.closing(dns):
        yield dns


@contextlib.contextmanager
def lab_ca(built: World, dns: SplitDns) -> Iterator[LabCa]:
    """The lab's CA at `ca.example.com`, port 443, which validates on real ports."""
    with built.internet.entered():
        ca = LabCa(
            resolver=dns.resolver,
            http_port=80,
            https_port=443,
            host=INTERNET,
            port=443,
            public_name=CA,
        )
        ca.__enter__()
    try:
        yield ca
    finally:
        ca.__exit__(None, None, None)
