"""``account show``, ``update``, ``roll-over``, ``deactivate``: the agent's ACME accounts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from external_agent.commands.context import Context
from external_agent.commands.show import moment
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.contract.errors import ConfigurationError, IssuanceUnavailable
from shared.host.terminal import ask, can_ask, emit, emit_json, say

if TYPE_CHECKING:
    from external_agent.orders.certificate_authority import CertificateAuthorities

account = typer.Typer(
    help="The agent's accounts at CAs.", no_args_is_help=True, rich_markup_mode=None
)
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@account.command()
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show each account, after asking its CA whether it stands."""
    from external_agent.orders.accounts import confirmed_accounts

    own: Context = context.obj
    with _accounts(own) as (_, store, authorities):
        found = list(confirmed_accounts(store, authorities))
    if as_json:
        emit_json(
            [
                {
                    "directory": one.row.directory_url,
                    "account": one.row.account_url,
                    "contact": list(one.row.contact),
                    "thumbprint": one.thumbprint,
                    "status": one.row.status if one.error is None else "not confirmed",
                    "error": None if one.error is None else one.error.what,
                    "opened_at": one.row.created_at,
                }
                for one in found
            ]
        )
        return
    if not found:
        say("There is no account yet; one is opened with the first order.")
    for one in found:
        emit(one.row.directory_url)
        emit(f"  account     {one.row.account_url}")
        emit(f"  contact     {', '.join(one.row.contact) or 'none'}")
        emit(f"  thumbprint  {one.thumbprint or 'not known'}")
        emit(f"  opened      {moment(one.row.created_at)}")
        emit(f"  status      {'confirmed by the CA' if one.error is None else one.error.what}")


@account.command()
def update(context: typer.Context) -> None:
    """Tell each CA the contact that the settings name."""
    from external_agent.orders.accounts import update_contacts

    own: Context = context.obj
    with _accounts(own) as (settings, store, authorities):
        wanted = [
            (row, settings.acme.at(row.directory_url).contact)
            for row in store.accounts()
            if row.status == "valid"
        ]
        update_contacts(store, authorities, wanted, now=own.now)
        for row, contact in wanted:
            say(f"{row.directory_url}: {', '.join(contact) or 'no contact'}")


@account.command("roll-over")
def roll_over(context: typer.Context, yes: Yes = False) -> None:
    """Give the accounts another key; a running agent takes it with its next order."""
    from external_agent.orders import accounts

    own: Context = context.obj
    with _accounts(own) as (settings, store, authorities):
        tied = accounts.records_tied_to_the_key(store)
        if tied:
            say(
                "These dns-persist-01 records hold a hash over the account key and have to be set "
                f"anew right afterwards: {', '.join(tied)}."
            )
        _confirm("Change the account key?", yes or not tied)
        done = accounts.roll_over(store, authorities, settings.state_directory, now=own.now)
        for row, error in done:
            say(f"{row.directory_url}: {'has the new key' if error is None else error.what}")
    waiting = [row.directory_url for row, error in done if error is not None]
    if waiting:
        raise IssuanceUnavailable(
            f"{len(waiting)} of {len(done)} accounts still have the old key; both keys are kept.",
            do="Say external-agent account roll-over again when those CAs can be reached.",
        )
    say("account.key is the new key. Back it up; the old one is of no more use.")
    if tied:
        say("Now print the records:  external-agent dns-persist record " + " ".join(tied))


@account.command()
def deactivate(
    context: typer.Context,
    ca: Annotated[str, typer.Option("--ca", help="Its name, or the URL of its directory.")],
    yes: Yes = False,
) -> None:
    """Close the account at one CA for good: after a theft of the account key, or at the end."""
    from external_agent.orders import accounts

    own: Context = context.obj
    with _accounts(own) as (settings, store, authorities):
        url = settings.acme.directory_of(ca)
        affected = [row.id for row in store.certificates() if url in row.cas]
        say(f"The account at {url} is closed for good. Its authorizations end, and with them what")
        say("dns-persist-01 records allow; certificates that were issued stay valid.")
        if affected:
            say(f"Not renewed by this CA any more: {', '.join(affected)}")
        _confirm("Deactivate it?", yes)
        row = accounts.deactivate(store, authorities, url, now=own.now)
        say(f"{row.account_url} is deactivated.")


@contextmanager
def _accounts(own: Context) -> Iterator[tuple[Settings, Store, CertificateAuthorities]]:
    from external_agent.composition.authorities import authorities_of

    settings = own.settings()
    with own.store(settings) as store:
        yield settings, store, authorities_of(lambda: settings, store)


def _confirm(question: str, yes: bool) -> None:
    """
    Raises:
        ConfigurationError: nobody said yes.
    """
    if yes:
        return
    if not can_ask():
        raise ConfigurationError("Nothing was changed.", do="If that is meant, say --yes.")
    if not ask(question):
        raise ConfigurationError("Nothing was changed.", do="Nothing to do.")
