"""Writes records by DNS UPDATE (RFC 2136) signed with TSIG (RFC 8945), and explains refusals."""

from __future__ import annotations

import ipaddress
import socket

import dns.exception
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.tsig
import dns.update

from shared.acme.dns01.names import TxtRecord
from shared.acme.dns01.settings import Address, Rfc2136Settings, parse_server
from shared.contract.errors import DnsFailure

_REFUSALS = {
    dns.rcode.REFUSED: (
        "it does not let this key change this name",
        "Grant it: BIND update-policy {{ grant {key} zonesub TXT; }}; Knot acl with action update.",
    ),
    dns.rcode.NOTAUTH: (
        "it is not the primary of the zone {zone}",
        "Name the zone's primary by dns01.rfc2136.server, or the zone by dns01.rfc2136.zone.",
    ),
    dns.rcode.NOTZONE: (
        "the name is not in the zone {zone}",
        "Leave dns01.rfc2136.zone out, or name the zone that holds the record.",
    ),
    dns.rcode.SERVFAIL: (
        "it could not store the change",
        "Look at the server's log: its zone file and journal must be writable.",
    ),
    dns.rcode.NOTIMP: ("it knows no UPDATE", "Name the zone's primary by dns01.rfc2136.server."),
}
_TSIG_REFUSALS = (
    (
        dns.tsig.PeerBadKey,
        "it does not know the key {key}, or does not let it change this name (Knot says both so)",
        "Compare the key's name and algorithm on both sides, and what the server grants to it.",
    ),
    (
        dns.tsig.PeerBadSignature,
        "it finds the signature by the key {key} wrong",
        "Compare the secret on both sides.",
    ),
    (
        dns.tsig.PeerBadTime,
        "its clock and ours are too far apart for TSIG",
        "Set the clocks of both machines (chrony or systemd-timesyncd).",
    ),
    (
        dns.tsig.PeerBadTruncation,
        "it wants another length of signature",
        "Compare the key's algorithm on both sides.",
    ),
)


class Rfc2136Publisher:
    """Sends one signed UPDATE for each value, over TCP."""

    needs_zone = True

    def __init__(self, settings: Rfc2136Settings, key: dns.tsig.Key) -> None:
        self._settings, self._key = settings, key
        self.needs_zone = settings.zone is None
        self._server = parse_server(settings.server, names=True)

    def add(self, record: TxtRecord) -> None:
        """
        Raises:
            DnsFailure: refused, or no answer; says why and what to do.
        """
        update = self._update(record)
        update.add(dns.name.from_text(record.owner), self._settings.ttl, _rdata(record))
        self._send(update, record)

    def remove(self, record: TxtRecord) -> None:
        """
        Raises: as :meth:`add`.
        """
        update = self._update(record)
        update.delete(dns.name.from_text(record.owner), _rdata(record))
        self._send(update, record)

    def addresses(self) -> tuple[Address, ...]:
        """Return the server's numeric addresses.

        Raises:
            DnsFailure: its host name is not known.
        """
        return server_addresses(self._server)

    def _update(self, record: TxtRecord) -> dns.update.UpdateMessage:
        zone = self._settings.zone or record.zone
        if not dns.name.from_text(record.owner).is_subdomain(dns.name.from_text(zone)):
            raise DnsFailure(
                f"The record {record.owner} is not in the zone {zone} that dns01.rfc2136.zone "
                "names.",
                do="Leave dns01.rfc2136.zone out, or name the zone that holds the record.",
            )
        update = dns.update.UpdateMessage(dns.name.from_text(zone))
        update.use_tsig(self._key)
        return update

    def _send(self, update: dns.update.UpdateMessage, record: TxtRecord) -> None:
        failures = []
        for host, port in self.addresses():
            try:
                answer = dns.query.tcp(update, host, timeout=self._settings.timeout, port=port)
            except dns.tsig.PeerError as error:
                raise self._tsig_refusal(error, record) from error
            except (dns.exception.DNSException, OSError, EOFError) as error:
                failures.append(f"{host} port {port}: {_reason(error)}")
                continue
            return self._check(answer.rcode(), answer.had_tsig, record)
        raise DnsFailure(
            f"No answer to the UPDATE of {record.owner} from the DNS server "
            f"{self._settings.server} ({'; '.join(failures)}).",
            do="Is it the zone's primary, and does the network let TCP through to it?",
        )

    def _check(self, rcode: dns.rcode.Rcode, signed: bool, record: TxtRecord) -> None:
        if rcode == dns.rcode.NOERROR and signed:
            return
        if rcode == dns.rcode.NOERROR:
            raise self._refusal(
                record,
                "its answer does not carry the signature that it must",
                "See that nothing in between answers in the server's place.",
            )
        why, do = _REFUSALS.get(rcode, ("", "Look at the server's log."))
        shown = f"{dns.rcode.to_text(rcode)}" + (f", {why}" if why else "")
        raise self._refusal(record, shown, do)

    def _tsig_refusal(self, error: dns.tsig.PeerError, record: TxtRecord) -> DnsFailure:
        for kind, why, do in _TSIG_REFUSALS:
            if isinstance(error, kind):
                return self._refusal(record, f"{_tsig_word(error)}, {why}", do)
        return self._refusal(record, _reason(error), "Look at the server's log.")

    def _refusal(self, record: TxtRecord, why: str, do: str) -> DnsFailure:
        words = {
            "key": self._key.name.to_text(omit_final_dot=True),
            "zone": self._settings.zone or record.zone,
        }
        return DnsFailure(
            f"The DNS server {self._settings.server} refused the UPDATE of {record.owner}: "
            f"{why.format(**words)}.",
            do=do.format(**words),
        )


def server_addresses(server: Address) -> tuple[Address, ...]:
    """Return the numeric addresses of a server that may be given by name.

    Raises:
        DnsFailure: its host name is not known.
    """
    host, port = server
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return (server,)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DnsFailure(
            f"The DNS server's name {host} has no address here: {error.strerror or error}.",
            do="Give its address by dns01.rfc2136.server.",
        ) from error
    return tuple(dict.fromkeys((str(one[4][0]), port) for one in found))


def _rdata(record: TxtRecord) -> dns.rdtypes.ANY.TXT.TXT:
    """Return the value as one string of octets: text would be parsed as in a zone file."""
    return dns.rdtypes.ANY.TXT.TXT(
        dns.rdataclass.IN, dns.rdatatype.TXT, [record.value.encode("ascii")]
    )


def _tsig_word(error: dns.tsig.PeerError) -> str:
    return {
        dns.tsig.PeerBadKey: "BADKEY",
        dns.tsig.PeerBadSignature: "BADSIG",
        dns.tsig.PeerBadTime: "BADTIME",
        dns.tsig.PeerBadTruncation: "BADTRUNC",
    }.get(type(error), type(error).__name__)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
