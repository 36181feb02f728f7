"""``revoke``: by the account that ordered it, or by the certificate's own key."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from external_agent.commands.context import Context
from external_agent.commands.lookup import find_certificate
from external_agent.operator.callers import user_name
from shared.acme.revocation import REASONS, reason_code, reason_name
from shared.contract.errors import ConfigurationError
from shared.host.terminal import say


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
    ca: Annotated[
        str | None, typer.Option("--ca", help="The CA of that file; known if this agent issued it.")
    ] = None,
) -> None:
    """Tell the CA that a certificate is not to be trusted any more; another is ordered at once.

    With superseded or cessationOfOperation no other is ordered.
    """
    own: Context = context.obj
    code = reason_code(reason)
    if (certificate is None) == (file is None) or (key is not None and file is None):
        raise ConfigurationError(
            "Name a certificate of this agent, or a file.",
            do="external-agent revoke NAME, or external-agent revoke --certificate FILE "
            "[--key FILE] [--ca CA].",
        )
    if file is not None:
        _revoke_file(own, file, key, ca, code)
        return
    assert certificate is not None
    with own.api() as api:
        found = find_certificate(api, certificate)
        done = api.post(
            *("certificates", found, "revoke"),
            body={"generation": generation, "reason": reason_name(code)},
        )
    _say(
        f"{found}: generation {done['generation']}",
        before=done["before"],
        renewed=done["renewed"],
    )


def _revoke_file(own: Context, file: Path, key: Path | None, ca: str | None, code: int) -> None:
    """A file, and perhaps its key, are at this terminal; the agent need not see them."""
    from external_agent.composition.authorities import authorities_of
    from external_agent.orders import revocation
    from external_agent.settings import keys
    from shared.acme.keys import load_account_key

    settings = own.settings()
    with own.store(settings) as store:
        done = revocation.revoke_file(
            store,
            authorities_of(lambda: settings, store),
            _read(file),
            None if key is None else load_account_key(keys.read_secret(key)),
            code,
            directory_url=None if ca is None else settings.acme.directory_of(ca),
            usual_ca=settings.acme.directory,
            sleep=time.sleep,
            now=own.now,
            actor=f"user {user_name(os.geteuid())}",
        )
    ours = f"{done.certificate}: generation {done.generation}"
    _say(ours if done.certificate else str(file), before=done.before, renewed=done.renewed)


def _say(what: str, *, before: bool, renewed: bool) -> None:
    say(f"{what} {'was revoked already' if before else 'is revoked'}.")
    if renewed:
        say("A new generation is wanted; until it is installed the revoked one is still served.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
