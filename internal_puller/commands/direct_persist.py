"""``direct dns-persist record | check``: the TXT record that stands for dns-persist-01."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from internal_puller.settings.config import load_settings
from internal_puller.sources.direct.ordering import missing_extra
from internal_puller.sources.direct.record import DirectFiles
from internal_puller.sources.direct.settings import DirectSettings, require_direct
from shared.contract.errors import DnsFailure
from shared.contract.identifiers import DnsName, parse_names
from shared.host.terminal import emit, emit_json, say

if TYPE_CHECKING:
    from shared.acme.dns_persist import Offer
    from shared.acme.dns_persist_use import TxtLookup

dns_persist = typer.Typer(
    help="The TXT record of dns-persist-01, which is set once and by hand.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Names = Annotated[list[str], typer.Argument(help="DNS names; *.NAME wants its wildcard too.")]
Wildcard = Annotated[
    bool, typer.Option("--wildcard", help="The record covers the wildcards of the names too.")
]
Ca = Annotated[
    str | None,
    typer.Option("--ca", help="Of this CA; else of the preferred one of the names' certificate."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@dns_persist.command()
def record(
    context: typer.Context,
    names: Names,
    *,
    wildcard: Wildcard = False,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="It ends then (UTC): 2027-06-30.")
    ] = None,
    any_domain: Annotated[
        bool, typer.Option("--any-domain", help="Draft -02: one text that fits every domain.")
    ] = False,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Print the record for each name, after the CA confirmed the account; write nothing."""
    wanted = parse_names(names)
    offer, _ = _ask(context, wanted, ca)
    from shared.acme.dns_persist_text import explain_records, parse_until
    from shared.acme.dns_persist_use import advise

    end = None if until is None else parse_until(until)
    found = advise(
        offer, wanted, now=time.time(), wildcard=wildcard, until=end, any_domain=any_domain
    )
    if as_json:
        _print_json({"account": offer.account_url, "records": [one.as_json() for one in found]})
        return
    for line in explain_records(found, offer.account_url):
        say(line)
    for one in found:
        say(f"; {', '.join(one.names)} (draft {one.draft})")
        emit(one.line)


@dns_persist.command()
def check(
    context: typer.Context,
    names: Names,
    *,
    wildcard: Wildcard = False,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Look at every authoritative server whether the record stands, and say what is wrong."""
    wanted = parse_names(names)
    offer, lookup = _ask(context, wanted, ca)
    from shared.acme.dns_persist_text import explain_reports
    from shared.acme.dns_persist_use import check as check_records

    reports = check_records(offer, wanted, lookup, time.time(), wildcard=wildcard)
    if as_json:
        _print_json({"account": offer.account_url, "names": [one.as_json() for one in reports]})
    else:
        for line in explain_reports(reports, time.time()):
            emit(line)
    bad = [one.name for one in reports if not one.good]
    if bad:
        raise DnsFailure(
            f"The dns-persist-01 record does not stand for {', '.join(bad)}.",
            do="Print it by: internal-puller direct dns-persist record " + " ".join(bad),
        )


def _ask(
    context: typer.Context, names: tuple[DnsName, ...], ca: str | None
) -> tuple[Offer, TxtLookup]:
    """Return what the CA takes for our account, and how the DNS is looked at."""
    settings = load_settings(context.obj)
    direct = require_direct(settings.direct_file)
    try:
        from internal_puller.sources.direct.connection import DirectConnection
        from internal_puller.sources.direct.solving import public_dns
        from shared.acme.dns_persist_use import ask_offer
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    lookup = public_dns(direct)
    files = DirectFiles(settings.state_directory)
    connection = DirectConnection(direct, settings, files)
    with closing(connection.open(_directory(direct, names, ca))) as client:
        return ask_offer(client, names), lookup


def _directory(direct: DirectSettings, names: tuple[DnsName, ...], ca: str | None) -> str:
    """Return the CA that is meant, else the preferred one of the names' certificate."""
    if ca is not None:
        return direct.find_ca(ca)
    for one in direct.certificates:
        if set(names) & set(one.names):
            return direct.directories(one)[0]
    return direct.directory


def _print_json(members: dict[str, object]) -> None:
    emit_json(members)
