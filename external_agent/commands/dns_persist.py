"""``dns-persist record`` and ``check``: the TXT record that stands for dns-persist-01."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from external_agent.commands.context import Context
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.contract.errors import DnsFailure
from shared.contract.identifiers import parse_names
from shared.host.terminal import emit, emit_json, say

if TYPE_CHECKING:
    from shared.acme.client import AcmeClient

CHALLENGE = "dns-persist-01"
dns_persist = typer.Typer(
    help="The TXT record of dns-persist-01, which is set once and by hand.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Names = Annotated[list[str], typer.Argument(help="DNS names; *.NAME wants its wildcard too.")]
Wildcard = Annotated[
    bool, typer.Option("--wildcard", help="The record covers the wildcards of the names too.")
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
    as_json: AsJson = False,
) -> None:
    """Print the record for each name, after the CA confirmed the account; write nothing."""
    from shared.acme.dns_persist_text import explain_records, parse_until
    from shared.acme.dns_persist_use import advise, ask_offer

    own: Context = context.obj
    wanted = parse_names(names)
    end = None if until is None else parse_until(until)
    settings = own.settings()
    with (
        own.store(settings) as store,
        _client(settings, store, _directory(settings, store, wanted)) as client,
    ):
        offer = ask_offer(client, wanted)
    found = advise(offer, wanted, now=own.now, wildcard=wildcard, until=end, any_domain=any_domain)
    if as_json:
        emit_json({"account": offer.account_url, "records": [one.as_json() for one in found]})
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
    as_json: AsJson = False,
) -> None:
    """Look at every authoritative server whether the record stands, and say what is wrong."""
    from external_agent.orders.persist_watch import look_of
    from shared.acme.dns_persist_text import explain_reports
    from shared.acme.dns_persist_use import ask_offer, bases, check_name, persist_lookup

    own: Context = context.obj
    wanted = parse_names(names)
    settings = own.settings()
    lookup = persist_lookup(settings.dns01)
    with own.store(settings) as store:
        url = _directory(settings, store, wanted)
        with _client(settings, store, url) as client:
            offer = ask_offer(client, wanted)
        reports = [
            check_name(offer, base, lookup, own.now, wildcard=wildcard or star)
            for base, star in bases(wanted).items()
        ]
        for row in store.certificates():
            if (row.challenge, row.directory_url) == (CHALLENGE, url):
                for one in reports:
                    seen = look_of(one, own.now)
                    store.record_persist_look(row.id, one.name, offer, seen)
    if as_json:
        emit_json({"account": offer.account_url, "names": [one.as_json() for one in reports]})
    else:
        for line in explain_reports(reports, own.now):
            emit(line)
    bad = [one.name for one in reports if not one.good]
    if bad:
        raise DnsFailure(
            f"The dns-persist-01 record does not stand for {', '.join(bad)}.",
            do="Print it by: external-agent dns-persist record " + " ".join(bad),
        )


def _directory(settings: Settings, store: Store, names: tuple[str, ...]) -> str:
    """Return the CA that certificates of these names want, else that of the settings."""
    found = {
        row.directory_url
        for row in store.certificates()
        if row.challenge == CHALLENGE and set(names) & set(row.names)
    }
    return found.pop() if len(found) == 1 else settings.acme.directory


@contextlib.contextmanager
def _client(settings: Settings, store: Store, directory_url: str) -> Iterator[AcmeClient]:
    from external_agent.composition.authorities import authorities_of

    with authorities_of(lambda: settings, store).connect(directory_url) as client:
        yield client
