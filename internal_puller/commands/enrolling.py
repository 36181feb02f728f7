"""``enroll``: a one-time token in, the agent pinned."""

from __future__ import annotations

import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from internal_puller.commands.targets import (
    add_target,
    check_preset,
    preset_target,
    show_added,
)
from internal_puller.config import load_settings
from internal_puller.enrolment import enrol
from internal_puller.targets import PRESETS
from shared.errors import ConfigurationError, TokenMalformed

_MAX_LINE = 4096


def enroll(
    context: typer.Context,
    token_file: Annotated[
        Path | None, typer.Option(help="Read the token from this file, not standard input.")
    ] = None,
    change_agent: Annotated[
        bool, typer.Option(help="Leave the agent that this machine is enrolled with.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(help=f"Also add a target for what is granted; one of {', '.join(PRESETS)}."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="With --preset: PEM file with the root of a private CA.")
    ] = None,
) -> None:
    """Enrol this machine with the token that external-agent printed.

    The token is read from standard input, never from the command line, where other users could see
    it. When the answer is lost, the same token works again from the same machine.
    """
    settings = load_settings(context.obj)
    if preset is None and root is not None:
        raise ConfigurationError("--root goes with --preset.", do="Leave it out, or add --preset.")
    if preset is not None:
        check_preset(preset, root)
    enrolment, granted = enrol(_read_token(token_file), settings, change_agent=change_agent)
    sys.stdout.write(f"Enrolled with {enrolment.relay_url}, agent {enrolment.agent.id[:16]}…\n")
    for grant in granted:
        sys.stdout.write(f"  {grant.certificate}: {', '.join(grant.names)}\n")
    if preset is not None:
        for grant in granted:
            show_added(add_target(settings, preset_target(settings, grant, preset, root)))
    elif granted:
        sys.stdout.write(
            f"Next: internal-puller target add {granted[0].certificate} --preset nginx\n"
        )


def _read_token(path: Path | None) -> str:
    if path is None:
        try:
            return getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline(_MAX_LINE)
        except UnicodeDecodeError:
            raise TokenMalformed("What came from standard input is no text.") from None
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.readline(_MAX_LINE)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
