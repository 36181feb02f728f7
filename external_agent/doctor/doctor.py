"""The agent's half of a diagnosis: every check that only the Internet side can make."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from external_agent.doctor.authority import (
    authority_findings,
    caa_findings,
    disclosure_findings,
    limit_findings,
)
from external_agent.doctor.examination import Check, Found, examine
from external_agent.doctor.machine import (
    database_findings,
    file_findings,
    listener_findings,
    relay_findings,
)
from external_agent.doctor.public_dns import (
    Reach,
    address_findings,
    addresses_at_resolvers,
    addresses_at_servers,
    dnssec_findings,
)
from external_agent.orders.certificate_authority import Connector
from external_agent.records.rows import CertificateRow
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.acme.authoritative import Address, AuthoritativeDns
from shared.acme.dns01 import dns01_solver
from shared.acme.dns01.settings import parse_server
from shared.acme.dns_persist_use import check_name
from shared.contract.diagnosis import Finding, Half, NameSeen, Verdict
from shared.contract.errors import IssuanceUnavailable, RelayError

MOST_CERTIFICATES = 20
"""So many are looked at in one examination; each name costs several questions to the DNS."""


class Board(Protocol):
    """Where the challenge listener looks for answers."""

    def put(self, token: str, key_authorization: str) -> None: ...

    def remove(self, token: str) -> None: ...


@dataclass
class Doctor:
    """
    Attributes:
        connector: gives connections to CAs; nothing is ordered by them.
        board: of the running challenge listener; ``None`` while the agent does not serve.
        clock: unix seconds.
    """

    store: Store
    settings: Callable[[], Settings]
    connector: Callable[[], Connector]
    board: Board | None
    clock: Callable[[], float]

    def examine(self, certificates: Sequence[str] = ()) -> Half:
        """Look at everything that concerns these certificates; without any, at all.

        Raises:
            StoreUnavailable: there is nothing to look at.
        """
        settings, now = self.settings(), int(self.clock())
        rows = [
            row for row in self.store.certificates() if not certificates or row.id in certificates
        ]
        looked_at = rows[:MOST_CERTIFICATES]
        checks = [*self._of_machine(settings), *self._of_cas(settings, looked_at)]
        for row in looked_at:
            checks += self._of_certificate(settings, row, now)
        found = examine(checks)
        findings = [one for one in found if isinstance(one, Finding)]
        names = sorted(
            (one for one in found if isinstance(one, NameSeen)), key=lambda one: len(one.addresses)
        )
        seen = {one.name: one for one in names}  # of two certificates the one by http-01
        if len(rows) > len(looked_at):
            findings.append(_some_only(len(looked_at), len(rows)))
        about = tuple(seen[name] for name in sorted(seen))
        return Half("agent", socket.gethostname()[:255], now, tuple(findings), about)

    def _of_machine(self, settings: Settings) -> list[tuple[str, str, Check]]:
        running = self.board is not None
        listeners = partial(
            listener_findings, settings.challenge.listen, "challenge", running=running
        )
        checks: list[tuple[str, str, Check]] = [
            ("files", "files", partial(file_findings, settings)),
            ("database", "database", partial(database_findings, self.store.description)),
            ("listeners", "challenge", listeners),
        ]
        if running:
            checks.append(("relay-url", settings.relay.url, partial(relay_findings, settings)))
        else:
            checks.append(("agent", "agent", _not_running))
        return checks

    def _of_cas(
        self, settings: Settings, rows: Sequence[CertificateRow]
    ) -> Iterator[tuple[str, str, Check]]:
        urls = dict.fromkeys(url for row in rows for url in row.cas) or {settings.acme.directory: 1}
        for url in urls:
            agreed = settings.acme.at(url).terms_agreed
            check = partial(
                authority_findings, self.connector(), self.store, url, terms_agreed=agreed
            )
            yield ("ca-directory", url, check)

    def _of_certificate(
        self, settings: Settings, row: CertificateRow, now: int
    ) -> Iterator[tuple[str, str, Check]]:
        issued = self.store.newest_issued(row.id) is not None
        yield ("rate-limits", row.id, partial(limit_findings, self.store, row, now))
        yield ("disclosure", row.id, partial(disclosure_findings, row, ever_issued=issued))
        if row.challenge == "dns-01":
            yield ("dns-01", row.id, partial(_dns01, settings))
        for name in row.names:
            yield ("caa", name, partial(self._caa, settings, row, name))
            base = name.removeprefix("*.")
            if not name.startswith("*."):
                yield ("public-dns", name, partial(self._addresses, settings, row, name))
            yield ("dnssec", name, partial(dnssec_findings, base, _resolvers(settings)))
            if row.challenge == "dns-persist-01":
                yield ("persist-record", name, partial(self._record, settings, row, base, now))

    def _addresses(self, settings: Settings, row: CertificateRow, name: str) -> Iterator[Found]:
        if row.challenge != "http-01":
            yield NameSeen(name, (), False)  # no CA is led by its addresses, whosever they are
            return
        servers = addresses_at_servers(_dns(settings), name)
        resolvers = addresses_at_resolvers(_resolvers(settings), name)
        known = sorted({one for server in servers for one in server.addresses})
        here = False
        yield from address_findings(name, servers, resolvers)
        if self.board is not None and known:
            reach = Reach(self.board.put, self.board.remove, port=settings.challenge.public_port)
            visits = list(reach.findings(name, known))
            here = all(one.verdict is Verdict.OK for one in visits)
            yield from visits
        yield NameSeen(name, tuple(known), here)

    def _caa(self, settings: Settings, row: CertificateRow, name: str) -> Iterator[Finding]:
        client = self.connector().visit(row.directory_url, _no_sleep)
        try:
            identities = client.directory().caa_identities
        except RelayError:
            return  # said by the check of the CA
        finally:
            client.close()
        account = self.store.account(row.directory_url)
        yield from caa_findings(
            _dns(settings),
            name,
            identities,
            account_url=None if account is None else account.account_url,
            challenge=row.challenge,
        )

    def _record(
        self, settings: Settings, row: CertificateRow, base: str, now: int
    ) -> Iterator[Finding]:
        known = [
            one
            for one in self.store.persist_records()
            if (one.certificate, one.name) == (row.id, base)
        ]
        if not known:
            yield Finding(
                "persist-record",
                Verdict.UNKNOWN,
                base,
                f"What the CA wants in the dns-persist-01 record of {base} is not known yet.",
                f"Ask it: external-agent dns-persist check {base}",
            )
            return
        one = known[0]
        report = check_name(one.offer, base, _dns(settings), now, wildcard=one.wildcard)
        show = f"Print the right one: external-agent dns-persist record {base}"
        if not report.good:
            yield Finding("persist-record", Verdict.PROBLEM, base, report.words, show)
        elif report.ends_soon(now):
            what = f"The dns-persist-01 record of {base} ends soon: {report.words}"
            yield Finding("persist-record", Verdict.WARNING, base, what, f"{show} --until DATE")
        else:
            yield Finding("persist-record", Verdict.OK, base, report.words)


def _dns01(settings: Settings) -> Iterator[Finding]:
    dns01_solver(settings.dns01)
    what = "Something that writes TXT records is configured for dns-01."
    yield Finding("dns-01", Verdict.OK, "dns01", what)


def _not_running() -> Iterator[Finding]:
    yield Finding(
        "agent",
        Verdict.WARNING,
        "external-agent",
        "The agent does not run: nobody answers challenges, and nothing is renewed.",
        "systemctl start external-agent, or external-agent serve",
    )


def _some_only(looked_at: int, there_are: int) -> Finding:
    what = f"{looked_at} of {there_are} certificates were looked at."
    return Finding(
        "doctor", Verdict.NOTE, "doctor", what, "Name others: external-agent doctor NAME"
    )


def _resolvers(settings: Settings) -> tuple[Address, ...]:
    named = settings.doctor.resolvers or settings.dns01.resolvers
    return tuple(parse_server(one) for one in named)


def _dns(settings: Settings) -> AuthoritativeDns:
    return AuthoritativeDns(_resolvers(settings), name_servers=settings.dns01.name_server_addresses)


def _no_sleep(seconds: float) -> None:
    raise IssuanceUnavailable("The CA asks to come back later; a doctor does not wait.")
