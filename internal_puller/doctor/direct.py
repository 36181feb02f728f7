"""Direct mode: its file, the account, the CAs, what writes TXT records, how each one stands."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from internal_puller.settings.config import Settings
from internal_puller.sources.direct.ordering import missing_extra
from internal_puller.sources.direct.record import DirectFiles, DirectProgress
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings, load_direct
from internal_puller.sources.direct.source import RECORD_ENDS_SOON
from shared.contract.diagnosis import Finding, Verdict
from shared.contract.errors import ClockWrong, IssuanceUnavailable, RelayError

if TYPE_CHECKING:
    from internal_puller.sources.direct.connection import DirectConnection


def direct_findings(settings: Settings, installed: Collection[str]) -> Iterator[Finding]:
    """Look at all that an order would need; orders nothing and registers nobody.

    Args:
        installed: certificates that have a target.

    Raises:
        ConfigurationError: direct mode's libraries are not installed.
    """
    place = str(settings.direct_file)
    try:
        direct = load_direct(settings.direct_file)
    except RelayError as error:
        do = error.do or f"Mend {place}."
        yield Finding("direct", Verdict.PROBLEM, place, error.what, do)
        return
    if direct is None:
        return
    if not direct.certificates:
        what = f"{place} names no certificate."
        yield Finding("direct", Verdict.NOTE, place, what, "internal-puller direct add NAME")
    try:
        from internal_puller.sources.direct.connection import DirectConnection
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    files = DirectFiles(settings.state_directory)
    connection = DirectConnection(direct, settings, files, sleep=_no_sleep)
    wanted = [url for one in direct.certificates for url in direct.directories(one)]
    for url in dict.fromkeys(wanted or [direct.directory]):
        yield from _of_ca(connection, url)
    yield from _dns01(direct)
    for one in direct.certificates:
        yield from _of_certificate(files, one, has_target=one.certificate in installed)


def _no_sleep(seconds: float) -> None:
    raise IssuanceUnavailable("The CA asks to come back later; a doctor does not wait.")


def _of_ca(connection: DirectConnection, url: str) -> Iterator[Finding]:
    host = urlsplit(url).hostname or url
    try:
        client = connection.open(url, with_account=False)
    except RelayError as error:
        check = "clock" if isinstance(error, ClockWrong) else "ca-directory"
        do = error.do or "Look at the network, the proxy, and the URL in direct.toml."
        yield Finding(check, Verdict.PROBLEM, host, error.what, do)
        return
    try:
        yield Finding("ca-directory", Verdict.OK, host, f"The CA at {host} answers.")
        if client.account_url is None:
            what = f"There is no account at {host} yet; the first order opens one."
            yield Finding("ca-account", Verdict.NOTE, host, what)
            return
        client.confirm_account()
        what = f"The account {client.account_url} is valid."
        yield Finding("ca-account", Verdict.OK, host, what)
    except RelayError as error:
        what = f"The CA does not take our account {client.account_url}: {error.what}"
        do = error.do or "If it is gone for good, the next order opens another one."
        yield Finding("ca-account", Verdict.PROBLEM, host, what, do)
    finally:
        client.close()


def _dns01(direct: DirectSettings) -> Iterator[Finding]:
    if all(one.challenge != "dns-01" for one in direct.certificates):
        return
    from internal_puller.sources.direct.solving import check_challenge

    try:
        check_challenge(direct, "dns-01")
    except RelayError as error:
        do = error.do or f"Mend [dns01] in {direct.path}."
        yield Finding("dns-01", Verdict.PROBLEM, "dns01", error.what, do)
    else:
        what = "Something that writes TXT records is configured for dns-01."
        yield Finding("dns-01", Verdict.OK, "dns01", what)


def _of_certificate(
    files: DirectFiles, one: DirectCertificate, *, has_target: bool
) -> Iterator[Finding]:
    name, now = one.certificate, time.time()
    try:
        known = files.of(name).progress() or DirectProgress()
    except RelayError as error:
        yield Finding("direct", Verdict.PROBLEM, name, error.what, error.do or error.means)
        return
    if not has_target:
        what = f"{name} is not ordered, for no target takes it."
        yield Finding("direct", Verdict.WARNING, name, what, f"internal-puller target add {name}")
    for record, until in sorted(known.persist_until.items()):
        if one.challenge == "dns-persist-01" and until - now < RECORD_ENDS_SOON:
            what = f"The dns-persist-01 record of {record} ends at {_day(until)}."
            do = f"internal-puller direct dns-persist record {record}"
            yield Finding("persist-record", Verdict.WARNING, record, what, do)
    is_good = known.generation > 0 and known.not_after > now
    if known.error is not None:
        what = f"The last order of {name} failed: {known.error.what}"
        do = f"Mend what it names, then: internal-puller direct renew {name}"
        verdict = Verdict.WARNING if is_good else Verdict.PROBLEM
        yield Finding("direct", verdict, name, what, do)
    elif not known.generation:
        what = f"{name} has not been ordered yet."
        yield Finding("direct", Verdict.NOTE, name, what, "internal-puller pull")
    elif not is_good:
        what = f"{name} expired at {_day(known.not_after)}."
        yield Finding("direct", Verdict.PROBLEM, name, what, "internal-puller pull")
    else:
        what = f"{name} is good until {_day(known.not_after)}; no order failed since it was issued."
        yield Finding("direct", Verdict.OK, name, what)


def _day(moment: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
