"""Waits until every authoritative server shows a value: a CA may ask any of them."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig

from shared.acme.authoritative import AuthoritativeDns, NameServer
from shared.acme.dns01.names import TxtRecord
from shared.acme.dns01.settings import Address
from shared.acme.ports import Clock, Sleep
from shared.contract.errors import DnsFailure

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
MESSAGE_SECONDS = 3.0
_UNREACHABLE = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
)
_log = logging.getLogger(__name__)


class Seen(Enum):
    """What one server says about one value."""

    SHOWN = "shows it"
    LACKING = "does not show it"
    SILENT = "does not answer"
    UNREACHABLE = "cannot be reached from here"


_Result = tuple[TxtRecord, NameServer, Seen]


@dataclass(frozen=True)
class KeyedServers:
    """The servers that answer according to a TSIG key: the one we send updates to, in its view.

    A server with views shows the inside one to a query from inside; the key selects the view that
    the update went to, which is the one the Internet sees.
    """

    addresses: frozenset[Address]
    key: dns.tsig.Key


class Propagation:
    """Asks servers again and again, within one deadline for all records.

    Args:
        name_servers: asked in place of those the zones name.
        keyed: ours; None without TSIG.
        seconds: the longest wait.
    """

    def __init__(
        self,
        dns: AuthoritativeDns,
        *,
        name_servers: Sequence[Address] = (),
        keyed: KeyedServers | None = None,
        seconds: float,
        clock: Clock,
        sleep: Sleep,
    ) -> None:
        self._dns, self._keyed = dns, keyed
        self._fixed = tuple(NameServer(host, host, port) for host, port in name_servers)
        self._seconds, self._clock, self._sleep = seconds, clock, sleep
        self._zones: dict[str, tuple[NameServer, ...]] = {}

    @property
    def needs_zone(self) -> bool:
        """Tell whether the servers to ask are found through ``TxtRecord.zone``."""
        return not self._fixed

    def wait_for(self, records: Sequence[TxtRecord]) -> None:
        """Return when every server that answers shows every value, and at least one answered.

        Servers that stay silent to the end are named in a warning: one that is down may not
        stop every renewal.

        Raises:
            DnsFailure: a server lacks a value after the longest wait, or none answers.
            IssuanceUnavailable: a zone's servers cannot be found.
        """
        deadline, pause = self._clock() + self._seconds, FIRST_PAUSE
        waiting = [(record, server) for record in records for server in self._servers(record)]
        shown: set[str] = set()
        while True:
            results = self._round(waiting)
            shown |= {record.owner for record, _, seen in results if seen is Seen.SHOWN}
            missing = [one for one in results if one[2] is not Seen.SHOWN]
            if not any(seen in (Seen.LACKING, Seen.SILENT) for _, _, seen in missing):
                break
            if self._clock() + pause > deadline:
                break
            waiting = [(record, server) for record, server, _ in missing]
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._judge(records, missing, shown)

    def _round(self, waiting: Sequence[tuple[TxtRecord, NameServer]]) -> list[_Result]:
        """Ask once; a server that was silent about one record is not asked for the others."""
        silent: set[NameServer] = set()
        results: list[_Result] = []
        for record, server in waiting:
            seen = Seen.SILENT if server in silent else self._look(record, server)
            if seen is Seen.SILENT:
                silent.add(server)
            results.append((record, server, seen))
        return results

    def _judge(
        self,
        records: Iterable[TxtRecord],
        missing: Sequence[_Result],
        shown: set[str],
    ) -> None:
        for record in records:
            own = [(server, seen) for about, server, seen in missing if about == record]
            lacking = any(seen is Seen.LACKING for _, seen in own)
            if own and (lacking or record.owner not in shown):
                raise DnsFailure(
                    f"The record {record.owner} cannot be seen after {self._seconds:g} s: "
                    f"{_listed(own)}.",
                    do="See that the zone's secondaries follow its primary; where name servers "
                    "cannot be asked from here, set dns01.name_servers, or dns01.wait = false.",
                )
            if silent := [one for one in own if one[1] is Seen.SILENT]:
                _log.warning("%s: not every name server answers: %s", record.owner, _listed(silent))

    def _servers(self, record: TxtRecord) -> tuple[NameServer, ...]:
        if self._fixed:
            return self._fixed
        if record.zone not in self._zones:
            self._zones[record.zone] = self._dns.servers_of(record.zone)
        return self._zones[record.zone]

    def _look(self, record: TxtRecord, server: NameServer) -> Seen:
        """Ask as the Internet would; ours in the view of our key."""
        keyed = self._keyed
        if keyed is None:
            return _ask(record, server, None)
        if (server.address, server.port) in keyed.addresses:
            return _ask(record, server, keyed.key)
        seen = _ask(record, server, None)
        if seen is Seen.LACKING and _ask(record, server, keyed.key) is Seen.SHOWN:
            return Seen.SHOWN  # our own server under another of its addresses
        return seen


def _ask(record: TxtRecord, server: NameServer, key: dns.tsig.Key | None) -> Seen:
    query = dns.message.make_query(record.owner, dns.rdatatype.TXT, use_edns=0, payload=1232)
    query.flags &= ~dns.flags.RD
    if key is not None:
        query.use_tsig(key)
    try:
        answer, _ = dns.query.udp_with_fallback(
            query, server.address, timeout=MESSAGE_SECONDS, port=server.port
        )
    except OSError as error:
        return Seen.UNREACHABLE if error.errno in _UNREACHABLE else Seen.SILENT
    except dns.tsig.PeerError:
        return Seen.LACKING
    except dns.exception.DNSException:
        return Seen.SILENT
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Seen.LACKING
    found = answer.get_rrset(
        answer.answer,
        dns.name.from_text(record.owner),
        dns.rdataclass.IN,
        dns.rdatatype.TXT,
    )
    values = {b"".join(one.strings) for one in found or ()}
    return Seen.SHOWN if record.value.encode("ascii") in values else Seen.LACKING


def _listed(own: Iterable[tuple[NameServer, Seen]]) -> str:
    return ", ".join(f"{server} {seen.value}" for server, seen in own)
