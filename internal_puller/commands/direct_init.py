"""``direct init``: an account key, and settings for a CA."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from internal_puller.settings.account import service_ids
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.proxies import check_proxy_url
from internal_puller.settings.toml_file import replace_toml
from internal_puller.sources.direct.file import render
from internal_puller.sources.direct.ordering import missing_extra
from internal_puller.sources.direct.record import DirectFiles
from internal_puller.sources.direct.settings import (
    DirectSettings,
    check_contact,
    settings_from,
)
from internal_puller.state.state import StateDirectory
from shared.acme.directories import directory_url, require_binding_options
from shared.contract.errors import ConfigurationError
from shared.host.kept_file import keep
from shared.host.terminal import ask, can_ask, emit


def init(
    context: typer.Context,
    *,
    ca: Annotated[
        str,
        typer.Option(
            help="A known CA, such as letsencrypt-staging or zerossl, or a directory URL."
        ),
    ] = "letsencrypt",
    ca_root: Annotated[
        Path | None, typer.Option(help="PEM file with the root of a private CA's own HTTPS.")
    ] = None,
    contact: Annotated[
        list[str] | None, typer.Option(help="For the CA: mailto:ops@example.com.")
    ] = None,
    agree_terms: Annotated[
        bool, typer.Option("--agree-terms", help="You agree to the CA's terms of service.")
    ] = False,
    eab_key_id: Annotated[
        str | None, typer.Option(help="External account binding: its id.")
    ] = None,
    eab_hmac_key_file: Annotated[
        Path | None, typer.Option(help="External account binding: file with its key.")
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(help="The way out to the CA: http://proxy:3128, or none.")
    ] = None,
) -> None:
    """Make an ACME account key and a commented file direct.toml. No agent is needed."""
    settings = load_settings(context.obj)
    directory = directory_url(ca)
    require_binding_options(directory, eab_key_id)
    contacts = tuple(check_contact("--contact", one) for one in contact or ())
    way_out = proxy if proxy in (None, "none") else check_proxy_url("--proxy", proxy)
    if settings.direct_file.exists():
        raise ConfigurationError(
            f"{settings.direct_file} exists already.", do="Edit it, or remove it first."
        )
    found = _new_settings(
        settings.direct_file,
        directory,
        contact=contacts,
        ca_root=ca_root,
        proxy=way_out,
        eab_key_id=eab_key_id,
        eab_hmac_key_file=eab_hmac_key_file,
    )
    text = render(found)
    settings_from(settings.direct_file, tomllib.loads(text))
    _agree(found.directory, agreed=agree_terms)
    _make_account_key(settings)
    replace_toml(settings.direct_file, text)
    _say_next(settings, found)


def _say_next(settings: Settings, found: DirectSettings) -> None:
    emit(
        f"Settings: {settings.direct_file}",
        f"Account key: {DirectFiles(settings.state_directory).path}/account.key (back it up)",
        f"CA: {found.directory}",
    )
    if not found.contact:
        emit("No --contact was given: the CA has nobody to write to.")
    emit(
        "Next, for dns-01: say in that file how TXT records are written ([dns01]).",
        "Then: internal-puller direct add www.intra.example.com --challenge dns-01",
    )


def _new_settings(
    path: Path,
    directory: str,
    *,
    contact: tuple[str, ...],
    ca_root: Path | None,
    proxy: str | None,
    eab_key_id: str | None,
    eab_hmac_key_file: Path | None,
) -> DirectSettings:
    """Return settings whose files lie beside them, where the service can read them."""
    _, group = service_ids() or (None, None)
    return DirectSettings(
        path,
        directory,
        terms_agreed=True,
        contact=contact,
        ca_root=ca_root and keep(ca_root, path.with_name("direct-ca-root.pem"), say=emit),
        proxy=proxy,
        eab_key_id=eab_key_id,
        eab_hmac_key_file=eab_hmac_key_file
        and keep(
            eab_hmac_key_file, path.with_name("direct-eab.key"), mode=0o640, group=group, say=emit
        ),
    )


def _agree(directory: str, *, agreed: bool) -> None:
    if agreed:
        return
    if not can_ask():
        raise ConfigurationError(
            f"The terms of service of the CA at {directory} were not agreed to.",
            do="Read them (its directory names them) and give --agree-terms.",
        )
    if not ask(f"Do you agree to the terms of service of the CA at {directory}?"):
        raise ConfigurationError("Without agreeing to its terms no CA issues certificates.")


def _make_account_key(settings: Settings) -> None:
    """A key that is there already is kept: records and CAA may name its account."""
    try:
        from shared.acme.keys import generate_account_key
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    StateDirectory.create(settings.state_directory)
    files = DirectFiles(settings.state_directory)
    files.create()
    if not files.has_account_key():
        files.save_account_key(generate_account_key())
