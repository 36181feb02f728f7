"""``direct account roll-over`` and ``deactivate``: the ACME account of direct mode."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from internal_puller.install.lock import installation_lock
from internal_puller.settings.config import Settings, load_settings
from internal_puller.sources.direct.ordering import missing_extra
from internal_puller.sources.direct.record import DirectFiles
from internal_puller.sources.direct.settings import require_direct
from shared.contract.errors import ConfigurationError
from shared.host.terminal import emit

if TYPE_CHECKING:
    from internal_puller.sources.direct.connection import DirectConnection

LOCK_WAIT = 20.0
account = typer.Typer(
    help="The ACME account of direct mode.", no_args_is_help=True, rich_markup_mode=None
)
Yes = Annotated[bool, typer.Option("--yes", help="Yes, that is meant.")]


@account.command("roll-over")
def roll_over(context: typer.Context, yes: Yes = False) -> None:
    """Give the account another key (RFC 8555 section 7.3.5); the rest of one interrupted, too."""
    from shared.acme.keys import generate_account_key, load_account_key

    settings = load_settings(context.obj)
    connection, files = _connection(settings)
    if not yes and any(
        one.challenge == "dns-persist-01"
        for one in require_direct(settings.direct_file).certificates
    ):
        raise ConfigurationError(
            "A dns-persist-01 record of draft -02 holds a hash over the account key and has to be "
            "set anew right afterwards.",
            do="If that is meant, say --yes, and then: internal-puller direct dns-persist record.",
        )
    with installation_lock(files.lock_path, wait=LOCK_WAIT):
        if files.next_account_key() is None:
            files.save_next_account_key(generate_account_key())
        following = files.next_account_key()
        assert following is not None
        for directory in files.directories():  # a CA that fails keeps both keys for the next try
            with closing(connection.open(directory)) as client:  # by whichever key it knows
                if not connection.is_rolled_over(client):
                    client.roll_over(load_account_key(following))
        files.take_next_account_key()
    emit("account.key is the new key. Back it up; the old one is of no more use.")


@account.command()
def deactivate(
    context: typer.Context,
    ca: Annotated[
        str | None, typer.Option("--ca", help="A CA of direct.toml; by default the first.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Close the account for good; a new key is needed before this CA issues here again."""
    settings = load_settings(context.obj)
    connection, files = _connection(settings)
    known = require_direct(settings.direct_file)
    directory = known.directory if ca is None else known.find_ca(ca)
    if not yes:
        raise ConfigurationError(
            "The account would be closed for good: nothing is renewed by it, and dns-persist-01 "
            "records for it are void.",
            do="If that is meant, say --yes.",
        )
    with (
        installation_lock(files.lock_path, wait=LOCK_WAIT),
        closing(connection.open(directory)) as client,
    ):
        client.deactivate()
    emit(
        f"{client.account_url} is deactivated. To go on with another account, move "
        f"{files.path / 'account.key'} and accounts.json away, then: internal-puller direct init"
    )


def _connection(settings: Settings) -> tuple[DirectConnection, DirectFiles]:
    known = require_direct(settings.direct_file)
    files = DirectFiles(settings.state_directory)
    files.create()
    try:
        from internal_puller.sources.direct.connection import DirectConnection
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    return DirectConnection(known, settings, files), files
