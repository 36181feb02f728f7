"""Whether a CA would issue: its directory, the clock, the account, CAA, room in the limits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from external_agent.orders.certificate_authority import Connector
from external_agent.records.rows import CertificateRow
from external_agent.store.interface import Store
from shared.acme.authoritative import AuthoritativeDns
from shared.acme.caa import CaaRecord, caa_objections, relevant_caa
from shared.acme.client import AcmeClient
from shared.acme.directories import ca_name
from shared.acme.issue_value import NotAnIssueValue, parse_issue_value
from shared.acme.ports import DirectoryInfo
from shared.contract.diagnosis import SET_CLOCK, SKEW_TO_MENTION, Finding, Verdict
from shared.contract.errors import ClockWrong, IssuanceRejected, RelayError
from shared.contract.outside_validity import untimely
from shared.issuing.renewal import DAY

_SAME_SET_A_WEEK = 5
"""Of Let's Encrypt: certificates for exactly the same names in 7 days."""
_FAILED_AN_HOUR = 5
"""Of Let's Encrypt: failed validations of one name by one account in an hour."""


def authority_findings(
    connector: Connector, store: Store, directory_url: str, *, terms_agreed: bool
) -> Iterator[Finding]:
    """Visit one CA, with the account if there is one; orders nothing and registers nobody."""
    host = urlsplit(directory_url).hostname or directory_url
    client = connector.visit(directory_url, _no_sleep)
    try:
        try:
            directory = client.directory()
        except RelayError as error:
            if fault := untimely(error):
                yield _untimely(fault, host)
            yield Finding(
                "ca-directory",
                Verdict.PROBLEM,
                host,
                f"The CA's directory {directory_url} cannot be read: {error.what}",
                error.do or "Look at the network, the proxy (acme.proxy) and the URL.",
            )
            return
        yield Finding("ca-directory", Verdict.OK, host, f"The CA at {host} answers.")
        yield _clock(client, host)
        yield from _terms(directory, host, agreed=terms_agreed)
    finally:
        client.close()
    yield from _account(connector, store, directory_url, host)


def _no_sleep(seconds: float) -> None:
    raise IssuanceRejected("The CA asks to come back later; a doctor does not wait.")


def _untimely(fault: str, host: str) -> Finding:
    """A clock that is off by so much that the CA cannot even be asked for the time."""
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    what = (
        f"By this machine's clock, which says {now}, the TLS certificate of {host} {fault}: the "
        "clock is wrong, or that certificate is. Nothing is ordered."
    )
    return Finding("clock", Verdict.PROBLEM, host, what, SET_CLOCK)


def _clock(client: AcmeClient, host: str) -> Finding:
    skew = client.clock_skew()
    if skew is None:
        return Finding("clock", Verdict.UNKNOWN, host, f"The CA at {host} does not tell the time.")
    side = "behind" if skew > 0 else "ahead of"
    what = f"This machine's clock is {abs(skew):.0f} s {side} that of {host}."
    try:
        client.check_clock()
    except ClockWrong:
        return Finding("clock", Verdict.PROBLEM, host, f"{what} Nothing is ordered.", SET_CLOCK)
    if abs(skew) > SKEW_TO_MENTION:
        return Finding("clock", Verdict.WARNING, host, what, SET_CLOCK)
    return Finding("clock", Verdict.OK, host, "This machine's clock agrees with the CA's.")


def _terms(directory: DirectoryInfo, host: str, *, agreed: bool) -> Iterator[Finding]:
    if directory.terms_of_service is None:
        return
    link = directory.terms_of_service
    if agreed:
        what = f"The terms that were agreed to are at {link}."
        do = "Read what they say about keys on machines of others."
        yield Finding("terms", Verdict.NOTE, host, what, do)
    else:
        yield Finding(
            "terms",
            Verdict.PROBLEM,
            host,
            f"The CA at {host} has terms, and nobody has agreed to them: {link}",
            "Read them, then set terms_agreed = true for this CA in the settings.",
        )


def _account(
    connector: Connector, store: Store, directory_url: str, host: str
) -> Iterator[Finding]:
    row = store.account(directory_url)
    if row is None:
        what = f"There is no account at {host} yet; the first order opens one."
        yield Finding("ca-account", Verdict.NOTE, host, what)
        return
    try:
        client = connector.connect(directory_url, _no_sleep)
    except ClockWrong:
        return  # said above
    except RelayError as error:
        yield Finding("ca-account", Verdict.PROBLEM, host, error.what, error.do)
        return
    try:
        client.confirm_account()
    except RelayError as error:
        yield Finding(
            "ca-account",
            Verdict.PROBLEM,
            host,
            f"The CA does not take our account {row.account_url}: {error.what}",
            error.do or "See external-agent account show.",
        )
    else:
        yield Finding("ca-account", Verdict.OK, host, f"The account {row.account_url} is valid.")
    finally:
        client.close()


def caa_findings(
    source: AuthoritativeDns,
    name: str,
    identities: Sequence[str],
    *,
    account_url: str | None,
    challenge: str,
) -> Iterator[Finding]:
    """Judge the CAA records that decide over a name (RFC 8659), with their bindings (RFC 8657).

    Args:
        identities: the CA's names of itself; none if it does not tell them.
    """
    if not identities:
        what = "The CA does not tell the name that CAA records call it by."
        yield Finding("caa", Verdict.UNKNOWN, name, what, "See its documentation.")
        return
    issuer = identities[0]
    wanted = record_to_set(name, issuer, account_url, challenge)
    records = relevant_caa(source, name)
    if not records:
        what = f"No CAA record binds {name}: any CA may issue for it."
        yield Finding("caa", Verdict.NOTE, name, what, f"To bind it to this agent: {wanted}")
        return
    objections = caa_objections(records, identities, wildcard=name.startswith("*."))
    bound = [one for one in objections if _names(one, identities)]
    if objections and not bound:
        decides = "; ".join(map(str, objections))
        yield Finding(
            "caa",
            Verdict.PROBLEM,
            name,
            f"CAA forbids {issuer} to issue for {name}: {decides}.",
            f"Add beside it: {wanted}",
        )
        return
    faults = [_binding_fault(one, account_url, challenge) for one in bound]
    if bound and all(faults):
        yield Finding("caa", Verdict.PROBLEM, name, faults[0], f"Set instead: {wanted}")
        return
    yield Finding("caa", Verdict.OK, name, f"CAA lets {issuer} issue for {name}.")


def record_to_set(name: str, issuer: str, account_url: str | None, challenge: str) -> str:
    """Return the CAA record that binds a name to this CA, account and method."""
    tag = "issuewild" if name.startswith("*.") else "issue"
    account = f"; accounturi={account_url}" if account_url else ""
    owner = name.removeprefix("*.")
    return f'{owner}. CAA 0 {tag} "{issuer}{account}; validationmethods={challenge}"'


def _names(record: CaaRecord, identities: Sequence[str]) -> bool:
    try:
        value = parse_issue_value(record.value.encode())
    except NotAnIssueValue:
        return False
    return value.issuer.lower().rstrip(".") in {one.lower().rstrip(".") for one in identities}


def _binding_fault(record: CaaRecord, account_url: str | None, challenge: str) -> str:
    """Return what in the record's binding does not fit us; empty if all does."""
    bound = parse_issue_value(record.value.encode()).parameters
    uri = bound.get("accounturi")
    if uri is not None and uri != account_url:
        ours = f"ours is {account_url}" if account_url else "we have no account there yet"
        return f"CAA binds {record.owner} to the account {uri:.200}; {ours}."
    methods = bound.get("validationmethods")
    if methods is not None and challenge not in methods.split(","):
        return (
            f"CAA lets {record.owner} be validated by {methods:.200} only; the certificate uses "
            f"{challenge}."
        )
    return ""


def limit_findings(store: Store, row: CertificateRow, now: int) -> Iterator[Finding]:
    """Say how near our own doing is to the usual limits of a CA; what others did we do not see."""
    rows = store.generation_page(row.id, before=None, limit=50)
    issued = [
        one
        for one in rows
        if one.issued_at is not None
        and now - one.issued_at < 7 * DAY
        and one.names == row.names
        and one.directory_url == row.directory_url
    ]
    name = ca_name(row.directory_url)
    if len(issued) >= _SAME_SET_A_WEEK - 1:
        yield Finding(
            "rate-limits",
            Verdict.WARNING,
            row.id,
            f"{name} has issued {len(issued)} certificates for exactly these names within a week; "
            f"Let's Encrypt stops at {_SAME_SET_A_WEEK}.",
            "Order no more of them by hand; try things with internal-puller rehearse.",
        )
    elif row.failures >= _FAILED_AN_HOUR - 1:
        yield Finding(
            "rate-limits",
            Verdict.WARNING,
            row.id,
            f"{row.failures} attempts failed in a row; Let's Encrypt takes {_FAILED_AN_HOUR} "
            "failed validations of a name an hour.",
            "Mend why they fail before another is made: internal-puller rehearse tries it at the "
            "staging CA.",
        )
    else:
        what = f"{len(issued)} of these names were issued within a week, {row.failures} attempts "
        what += "failed in a row: there is room."
        yield Finding("rate-limits", Verdict.OK, row.id, what)


def disclosure_findings(row: CertificateRow, *, ever_issued: bool) -> Iterator[Finding]:
    """Before the first order: names get published (RFC 6962), and a wildcard would hide one."""
    if ever_issued or all(one.startswith("*.") for one in row.names):
        return
    yield Finding(
        "disclosure",
        Verdict.NOTE,
        row.id,
        f"With the first certificate {', '.join(row.names)} will show in public CT logs, for ever.",
        "To hide a host's name ask for a wildcard by a DNS challenge: external-agent change "
        f"{row.id} --challenge dns-01, with the name *.{row.names[0].partition('.')[2]}",
    )
