"""How the Internet sees a name: its addresses, at whom they end, and whether DNSSEC stands."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from shared.acme.authoritative import Address, AuthoritativeDns
from shared.contract.diagnosis import Finding, Verdict

SECONDS = 4.0
_USUAL = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
_MAX_ANSWER = 4096


@dataclass(frozen=True, slots=True)
class Answers:
    """The addresses that one server gives for a name, or why it gives none."""

    server: str
    addresses: frozenset[str] = frozenset()
    error: str = ""


def addresses_at_servers(source: AuthoritativeDns, name: str) -> list[Answers]:
    """Ask every authoritative server of the zone that holds the name, CNAMEs followed.

    Raises:
        DnsUnavailable: its zone or its servers cannot be found.
        ValidationFailed: its CNAMEs do not end.
    """
    owner = source.canonical_name(name)
    servers = source.servers_of(source.zone_of(owner))
    return [_addresses_at(str(one), (one.address, one.port), owner, flags=0) for one in servers]


def addresses_at_resolvers(resolvers: Sequence[Address], name: str) -> list[Answers]:
    """Ask each resolver as a CA's would be asked."""
    return [_addresses_at(one[0], one, name, flags=dns.flags.RD) for one in resolvers]


def _addresses_at(server: str, address: Address, name: str, *, flags: int) -> Answers:
    found: set[str] = set()
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        query = dns.message.make_query(dns.name.from_text(name), kind, use_edns=0, payload=1232)
        query.flags = (query.flags & ~dns.flags.RD) | flags
        try:
            answer = _exchange(query, address)
        except (dns.exception.DNSException, OSError) as error:
            return Answers(server, error=f"no answer ({str(error) or type(error).__name__:.80})")
        if answer.rcode() not in _USUAL:
            return Answers(server, error=dns.rcode.to_text(answer.rcode()))
        found |= {
            record.address for rrset in answer.answer if rrset.rdtype == kind for record in rrset
        }
    return Answers(server, frozenset(found))


def _exchange(query: dns.message.Message, address: Address) -> dns.message.Message:
    answer, _ = dns.query.udp_with_fallback(query, address[0], timeout=SECONDS, port=address[1])
    return answer


def address_findings(
    name: str, servers: Sequence[Answers], resolvers: Sequence[Answers]
) -> Iterator[Finding]:
    """Judge what the servers and the resolvers say of one name, before anybody is visited."""
    answered = [one for one in servers if not one.error]
    for one in servers:
        if one.error:
            yield Finding(
                "public-dns",
                Verdict.WARNING if answered else Verdict.UNKNOWN,
                name,
                f"The name server {one.server} gives no usable answer for {name}: {one.error}.",
                "A CA may ask any of them: mend that server, or take it out of the zone.",
            )
    if not answered:
        return
    known = frozenset[str]().union(*(one.addresses for one in answered))
    if len({one.addresses for one in answered}) > 1:
        told = "; ".join(f"{one.server}: {_shown(one.addresses)}" for one in answered)
        yield Finding(
            "public-dns",
            Verdict.WARNING,
            name,
            f"The name servers of {name} do not agree: {told}.",
            "Wait for the zone to be transferred, or look why it is not.",
        )
    if not known:
        yield Finding(
            "public-dns",
            Verdict.PROBLEM,
            name,
            f"{name} has no address in the public DNS.",
            f"Add an A record, {name} → the address of this machine, to the public zone; or "
            "validate by a DNS challenge, which needs none.",
        )
        return
    yield from _resolver_findings(name, known, resolvers)


def _resolver_findings(
    name: str, known: frozenset[str], resolvers: Sequence[Answers]
) -> Iterator[Finding]:
    for one in resolvers:
        if one.error:
            yield Finding(
                "resolvers",
                Verdict.UNKNOWN,
                name,
                f"The resolver {one.server} gives no usable answer for {name}: {one.error}.",
                "Is DNS to the outside allowed here? Name other resolvers in doctor.resolvers.",
            )
        elif one.addresses != known:
            yield Finding(
                "resolvers",
                Verdict.WARNING,
                name,
                f"The resolver {one.server} says that {name} is {_shown(one.addresses)}, the "
                f"servers of the zone say {_shown(known)}.",
                "It keeps an old answer until that runs out, or sees another view of the zone.",
            )
    if resolvers and all(one.addresses == known for one in resolvers if not one.error):
        asked = [one for one in resolvers if not one.error]
        if asked:
            shown = f"{name} is {_shown(known)} at its servers and at {len(asked)} resolvers."
            yield Finding("public-dns", Verdict.OK, name, shown)


def dnssec_findings(name: str, resolvers: Sequence[Address]) -> Iterator[Finding]:
    """Tell a zone whose signatures do not verify from one that is merely not answered (RFC 4035).

    A resolver that verifies answers SERVFAIL, and answers well when it is told not to verify (CD).
    """
    for address in resolvers:
        query = dns.message.make_query(
            dns.name.from_text(name), dns.rdatatype.A, use_edns=0, payload=1232, want_dnssec=True
        )
        try:
            answer = _exchange(query, address)
            if answer.rcode() != dns.rcode.SERVFAIL:
                continue
            query.flags |= dns.flags.CD
            unchecked = _exchange(query, address)
        except (dns.exception.DNSException, OSError):
            continue  # said by the check of the addresses
        if unchecked.rcode() in _USUAL:
            yield Finding(
                "dnssec",
                Verdict.PROBLEM,
                name,
                f"The resolver {address[0]} refuses {name} because its DNSSEC signatures do not "
                "verify; without verifying it has an answer.",
                "Mend the DS record or the signatures of the zone: every CA verifies them.",
            )
            return


def visit_by_http(
    name: str, address: str, port: int, token: str, *, seconds: float = SECONDS
) -> tuple[int, bytes, str]:
    """Ask an address for a challenge token as a CA would; return status, body, and who answered.

    Args:
        seconds: for all of it; also somebody who answers an octet at a time has no more.

    Raises:
        OSError: nobody answers there.
    """
    request = (
        f"GET /.well-known/acme-challenge/{token} HTTP/1.0\r\nHost: {name}\r\n"
        "User-Agent: external-agent doctor\r\n\r\n"
    ).encode("ascii")
    end = time.monotonic() + seconds
    with socket.create_connection((address, port), timeout=seconds) as connection:
        connection.sendall(request)
        octets = b""
        while len(octets) < _MAX_ANSWER:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no whole answer within {seconds:g} s")
            connection.settimeout(left)
            if not (part := connection.recv(_MAX_ANSWER)):
                break
            octets += part
    head, _, body = octets.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").splitlines() or [""]
    words = lines[0].split(" ")
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    fields = [line.partition(":") for line in lines[1:]]
    server = next((value.strip() for key, _, value in fields if key.lower() == "server"), "")
    return status, body, server


class Reach:
    """Visits this agent from the outside, by each public address of a name.

    Args:
        put, remove: make this agent answer a token, and no more.
        port: where a CA comes to; 80 (RFC 8555 section 8.3).
    """

    def __init__(
        self, put: Callable[[str, str], None], remove: Callable[[str], None], *, port: int = 80
    ) -> None:
        self._put, self._remove, self._port = put, remove, port

    def findings(self, name: str, addresses: Sequence[str]) -> Iterator[Finding]:
        """Visit each address; what is behind a name's IPv6 address counts first for a CA."""
        token, answer = (secrets.token_urlsafe(24) for _ in range(2))
        self._put(token, answer)
        try:
            for address in addresses:
                yield self._one(name, address, token, answer)
        finally:
            self._remove(token)

    def _one(self, name: str, address: str, token: str, answer: str) -> Finding:
        family = "IPv6" if ":" in address else "IPv4"
        where = f"{address} port {self._port}"
        check = f"reach-{family.lower()}"
        try:
            status, body, server = visit_by_http(name, address, self._port, token)
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            return Finding(
                check,
                Verdict.PROBLEM,
                name,
                f"Nobody answers {name} at {where} ({family}): {reason}.",
                f"Open port 80 there towards this agent, or take the address {address} out of "
                "the public DNS. (Some networks do not let a machine reach itself by its public "
                "address; then try from elsewhere.)",
            )
        if status == 200 and body.strip() == answer.encode("ascii"):
            return Finding(check, Verdict.OK, name, f"{name} reaches this agent at {where}.")
        who = f"{server!r:.60}" if server else "another program"
        return Finding(
            check,
            Verdict.PROBLEM,
            name,
            f"{name} at {where} ({family}) is answered by {who} (status {status}), not by this "
            "agent.",
            f"Point {address} to this machine, or pass /.well-known/acme-challenge/ on to it: "
            "see deploy/nginx, deploy/apache, deploy/caddy, deploy/haproxy.",
        )


def _shown(addresses: frozenset[str]) -> str:
    return ", ".join(sorted(addresses)) or "nothing"
