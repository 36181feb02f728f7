"""``revoke``: by the account that ordered it, or by the certificate's own key."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from external_agent.commands.context import Context, find_certificate, say
from shared.acme.revocation import REASONS, reason_code
from shared.errors import ConfigurationError


def revoke(
    context: typer.Context,
    certificate: Annotated[
        str | None, typer.Argument(help="A certificate.", show_default=False)
    ] = None,
    *,
    generation: Annotated[
        int | None, typer.Option(help="By default the newest.", show_default=False)
    ] = None,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(REASONS)}.")] = "unspecified",
    file: Annotated[
        Path | None, typer.Option("--certificate", help="Revoke what this PEM file holds instead.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Its private key (PEM, 0600): asked by it, not by account.")
    ] = None,
    ca: Annotated[str | None, typer.Option("--ca", help="The CA of that file.")] = None,
) -> None:
    """Tell the CA that a certificate is not to be trusted any more; another is ordered at once.

    With superseded or cessationOfOperation no other is ordered.
    """
    from external_agent import keys, revocation
    from external_agent.issuing import authorities_of
    from shared.acme.keys import load_account_key

    own: Context = context.obj
    code = reason_code(reason)
    if (certificate is None) == (file is None) or (key is not None and file is None):
        raise ConfigurationError(
            "Name a certificate of this agent, or a file.",
            do="external-agent revoke NAME, or external-agent revoke --certificate FILE "
            "[--key FILE] [--ca CA].",
        )
    settings = own.settings()
    with own.store(settings) as store:
        authorities = authorities_of(lambda: settings, store)
        if file is not None:
            done = revocation.revoke_file(
                store,
                authorities,
                _read(file),
                None if key is None else load_account_key(keys.read_secret(key)),
                code,
                directory_url=settings.acme.directory_of(ca or settings.acme.directory),
                sleep=time.sleep,
                now=own.now,
            )
            what = str(file)
        else:
            assert certificate is not None
            found = find_certificate(store, certificate)
            done = revocation.revoke_generation(
                store, authorities, found, generation, code, sleep=time.sleep, now=own.now
            )
            what = f"{found}: generation {done.generation}"
    say(f"{what} {'was revoked already' if done.before else 'is revoked'}.")
    if done.renewed:
        say("A new generation is wanted; until it is installed the revoked one is still served.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
