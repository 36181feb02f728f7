"""The dns-01 solver (RFC 8555 section 8.4): one value added, seen everywhere, removed again.

How a record gets into the zone is a publisher's business; where it has to stand, and that it can
be seen, is the same for all.
"""

from __future__ import annotations

import re
from typing import Protocol

from shared.acme.authoritative import AuthoritativeDns
from shared.acme.dns01.names import TxtRecord, challenge_name, dns01_value
from shared.acme.dns01.propagation import Propagation
from shared.acme.ports import PendingChallenge
from shared.contract.errors import DnsFailure

# What is handed to commands and HTTP calls; the public DNS decides where a CNAME leads.
_PLAIN_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+\Z")


class TxtPublisher(Protocol):
    """Changes the DNS; each call may come twice for one record."""

    needs_zone: bool
    """Whether ``TxtRecord.zone`` has to be found even if nothing is waited for."""

    def add(self, record: TxtRecord) -> None:
        """Put the value beside those that stand there."""

    def remove(self, record: TxtRecord) -> None:
        """Take that one value away."""


class Dns01Solver:
    """A :class:`shared.acme.ports.WaitingSolver`; one for each order.

    Args:
        propagation: None does not wait.
    """

    challenge_type = "dns-01"

    def __init__(
        self, publisher: TxtPublisher, dns: AuthoritativeDns, propagation: Propagation | None
    ) -> None:
        self._publisher, self._dns, self._propagation = publisher, dns, propagation
        self._records: dict[str, TxtRecord | None] = {}
        self._unseen: list[TxtRecord] = []

    def present(self, challenge: PendingChallenge) -> None:
        """Add the value; :meth:`wait_until_visible` comes after the last one.

        Raises:
            DnsFailure: it was not taken, or has no place to stand.
            IssuanceUnavailable, IssuanceRejected: the public DNS does not say where.
        """
        self._records[challenge.url] = None  # without a place to stand there is nothing to remove
        record = self._record(challenge)
        self._records[challenge.url] = record
        self._publisher.add(record)
        self._unseen.append(record)

    def wait_until_visible(self) -> None:
        """Return when every authoritative server shows every value added since the last call.

        Raises:
            DnsFailure: one does not, after the longest wait.
        """
        unseen, self._unseen = self._unseen, []
        if self._propagation is not None:
            self._propagation.wait_for(unseen)

    def clean_up(self, challenge: PendingChallenge) -> None:
        """Take the value away; of a challenge never presented here, what an earlier run left.

        Raises: as :meth:`present`.
        """
        presented = challenge.url in self._records
        record = self._records.pop(challenge.url) if presented else self._record(challenge)
        if record is not None:
            self._unseen = [one for one in self._unseen if one != record]
            self._publisher.remove(record)

    def _record(self, challenge: PendingChallenge) -> TxtRecord:
        name = challenge_name(challenge.identifier)
        owner = self._dns.canonical_name(name).lower()
        if not _PLAIN_NAME.match(owner):
            raise DnsFailure(
                f"The CNAME of {name} leads to {owner!r:.200}, which is no name that a record "
                "could be written under.",
                do="Mend the CNAME in the public zone.",
            )
        zone = self._dns.zone_of(owner) if self._needs_zone() else ""
        value = dns01_value(challenge.key_authorization)
        return TxtRecord(domain=challenge.identifier, owner=owner, zone=zone, value=value)

    def _needs_zone(self) -> bool:
        waiting = self._propagation
        return self._publisher.needs_zone or (waiting is not None and waiting.needs_zone)
