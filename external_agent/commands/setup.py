"""``external-agent init``: keys, database and a commented settings file, or nothing at all."""

from __future__ import annotations

import contextlib
import os
import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from external_agent.commands.context import Context
from external_agent.settings import keys
from external_agent.settings.config import (
    ChallengeSettings,
    OperatorSettings,
    RelaySettings,
    Settings,
    default_state_directory,
    settings_from,
)
from external_agent.settings.handing_over import ACCOUNT, eab_key, hand_over
from external_agent.settings.settings_file import InitialSettings, default_listen, render
from shared.acme.directories import directory_url, require_binding_options
from shared.contract.enrolment_token import check_relay_url
from shared.contract.errors import ConfigurationError, TokenMalformed
from shared.host.kept_file import keep
from shared.host.terminal import ask, can_ask, say


def init(
    context: typer.Context,
    *,
    relay_url: Annotated[
        str, typer.Option(help="Where pullers reach this agent: https://host:port.")
    ],
    contact: Annotated[
        list[str] | None, typer.Option(help="For the CA: mailto:ops@example.com.")
    ] = None,
    ca: Annotated[
        str, typer.Option(help="letsencrypt, letsencrypt-staging, or a directory URL.")
    ] = "letsencrypt",
    ca_root: Annotated[
        Path | None, typer.Option(help="PEM file with the root of a private CA's own HTTPS.")
    ] = None,
    agree_terms: Annotated[
        bool, typer.Option("--agree-terms", help="You agree to the CA's terms of service.")
    ] = False,
    state_directory: Annotated[
        Path | None, typer.Option(help="For keys and database; made with mode 0700.")
    ] = None,
    challenge_listen: Annotated[
        list[str] | None, typer.Option(help="Address for http-01, e.g. 0.0.0.0:80.")
    ] = None,
    relay_listen: Annotated[
        list[str] | None, typer.Option(help="Address for pullers, e.g. 0.0.0.0:8443.")
    ] = None,
    operator_listen: Annotated[
        list[str] | None, typer.Option(help="Loopback address for status and metrics.")
    ] = None,
    eab_key_id: Annotated[
        str | None, typer.Option(help="External account binding: its id.")
    ] = None,
    eab_hmac_key_file: Annotated[
        Path | None, typer.Option(help="External account binding: file with its key.")
    ] = None,
) -> None:
    """Make this machine an agent: keys, database, and a commented settings file."""
    own: Context = context.obj
    directory = directory_url(ca)
    require_binding_options(directory, eab_key_id)
    initial = InitialSettings(
        state_directory=(state_directory or default_state_directory()).absolute(),
        relay_url=_origin(relay_url),
        contact=contact or [],
        directory=directory,
        terms_agreed=True,
        ca_root=ca_root and keep(ca_root, own.config_path.with_name("ca-root.pem"), say=say),
        eab_key_id=eab_key_id,
        eab_hmac_key_file=eab_hmac_key_file
        and keep(eab_hmac_key_file, eab_key(own.config_path), mode=0o600, say=say),
        challenge_listen=challenge_listen or default_listen(ChallengeSettings),
        relay_listen=relay_listen or default_listen(RelaySettings),
        operator_listen=operator_listen or default_listen(OperatorSettings),
    )
    text = render(initial)
    settings = settings_from(tomllib.loads(text), source="the options given")
    _refuse_existing(own.config_path, settings)
    if not agree_terms:
        _ask_for_agreement(initial.directory)
    _write(own, settings, text)
    if hand_over(own.config_path, settings):
        say(f"All of it belongs to the account {ACCOUNT}, as which the service runs.")
    say(f"Settings: {own.config_path}")
    say(f"Keys and database: {settings.state_directory}  (back up this directory)")
    say(f"CA: {settings.acme.directory}")
    if not settings.acme.contact:
        say("No --contact was given: the CA has nobody to write to.")
    say("", "Next, for each name:  external-agent add www.intra.example.com")
    say("Then:                 external-agent serve")


def _origin(url: str) -> str:
    try:
        return check_relay_url(url)
    except TokenMalformed as error:
        raise ConfigurationError(f"--relay-url: {error.what}") from error


def _refuse_existing(config: Path, settings: Settings) -> None:
    if os.path.lexists(config):
        raise ConfigurationError(
            f"{config} exists already.", do="Edit it, or name another file with --config."
        )
    found = [path for path in _key_files(settings) if os.path.lexists(path)]
    if found:
        raise ConfigurationError(
            f"{settings.state_directory} holds the keys of an agent already.",
            do="Restore its settings file, or name another --state-directory. Only if an init was "
            f"killed here, and no agent ever ran: remove {', '.join(map(str, found))}.",
        )


def _ask_for_agreement(directory: str) -> None:
    question = f"Do you agree to the terms of service of the CA at {directory}?"
    if not can_ask():
        raise ConfigurationError(
            f"The terms of service of the CA at {directory} were not agreed to.",
            do="Read them (its directory names them) and give --agree-terms.",
        )
    say("Its directory names the terms (member meta.termsOfService).")
    if not ask(question):
        raise ConfigurationError("Without agreeing to its terms no CA issues certificates.")


def _write(own: Context, settings: Settings, text: str) -> None:
    """Write the settings file last, so that a file there means a working agent."""
    path = own.config_path
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path.parent} cannot be made: {error.strerror}.") from error
    keys.write_secret(temporary, text.encode("utf-8"))
    made = not os.path.lexists(settings.state_directory)
    already = {path for path in _own_files(settings) if os.path.lexists(path)}
    try:
        keys.make_directory(settings.state_directory)
        host = urlsplit(settings.relay.url).hostname or ""
        keys.make_keys(settings.state_directory, host, own.now)
        with own.store(settings):
            pass
        temporary.rename(path)
    except BaseException:
        _undo(settings, already, directory_too=made)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _key_files(settings: Settings) -> list[Path]:
    return [settings.state_directory / name for name in keys.FILES]


def _own_files(settings: Settings) -> list[Path]:
    database = settings.state_directory / "relay.db"
    beside = [database.with_name(database.name + end) for end in ("-journal", "-wal", "-shm")]
    return [*_key_files(settings), database, *beside]


def _undo(settings: Settings, already: set[Path], *, directory_too: bool) -> None:
    """Take away what this run has made, so that the next one finds nothing in its way."""
    with contextlib.suppress(OSError):
        for path in _own_files(settings):
            if path not in already:
                path.unlink(missing_ok=True)
        if directory_too:
            settings.state_directory.rmdir()
