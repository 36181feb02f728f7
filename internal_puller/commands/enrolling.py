"""``enroll``: a one-time token in, the agent pinned."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from internal_puller.commands.targets import (
    add_target,
    check_preset,
    preset_target,
    show_added,
)
from internal_puller.facts.schedule import ENABLE, TIMER, schedule_of
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.presets.catalogue import NAMES
from internal_puller.settings.targets import load_targets
from internal_puller.sources.agent.enrolment import enrol
from shared.contract.errors import ConfigurationError, TokenMalformed
from shared.contract.wire import Grant
from shared.host import systemctl
from shared.host.terminal import ask, ask_secret, can_ask, emit

_MAX_LINE = 4096


def enroll(
    context: typer.Context,
    *,
    token_file: Annotated[
        Path | None, typer.Option(help="Read the token from this file, not standard input.")
    ] = None,
    change_agent: Annotated[
        bool, typer.Option(help="Leave the agent that this machine is enrolled with.")
    ] = False,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Also add a target for what is newly granted; one of {', '.join(NAMES)}; or a "
            "name in presets.d; repeated where several servers read the files."
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="With --preset: PEM file with the root of a private CA.")
    ] = None,
    enable_timer: Annotated[
        bool | None,
        typer.Option(help="Let systemd pull every hour from now on; asked on a terminal."),
    ] = None,
) -> None:
    """Enrol this machine with the token that external-agent printed.

    The token is read from standard input, never from the command line, where other users could see
    it. When the answer is lost, the same token works again from the same machine. With --preset,
    targets that are there stay as they are.
    """
    settings = load_settings(context.obj)
    root = root and root.absolute()
    if not preset and root is not None:
        raise ConfigurationError("--root goes with --preset.", do="Leave it out, or add --preset.")
    if preset:
        check_preset(settings, preset, root)
    done = enrol(_read_token(token_file), settings, change_agent=change_agent)
    enrolment = done.enrolment
    emit(f"Enrolled with {enrolment.relay_url}, agent {enrolment.agent.id[:16]}…")
    for grant in done.granted:
        emit(f"  {grant.certificate}: {', '.join(grant.names)}")
    if preset:
        for grant in done.granted:
            _add_or_leave(settings, grant, done.new, preset, root)
    else:
        taken = {one.certificate for one in load_targets(settings.targets_file)}
        without = [one.certificate for one in done.granted if one.certificate not in taken]
        if without:
            emit(f"Next: internal-puller target add {without[0]} --preset nginx")
    _schedule(settings, enable_timer)


def _add_or_leave(
    settings: Settings,
    grant: Grant,
    new: Collection[str],
    preset: Sequence[str],
    root: Path | None,
) -> None:
    """Add a target for a new grant; what is there, or was granted before, is left alone."""
    name = grant.certificate
    wanted = preset_target(settings, grant, preset, root)
    targets = load_targets(settings.targets_file)
    there = [one for one in targets if one.certificate == name]
    in_its_place = [one for one in targets if one.directory == wanted.directory]
    presets = " ".join(f"--preset {one}" for one in preset)
    by_hand = f"internal-puller target add {name} {presets}"
    if root is not None:
        by_hand += f" --root {shlex.quote(str(root))}"
    if there:
        places = ", ".join(str(one.directory) for one in there)
        emit(
            f"{name}: left as it is, with its target in {places}.",
            f"To change that: internal-puller target change {name} {presets}",
        )
    elif in_its_place:
        emit(
            f"{name}: no target was made, for {wanted.directory} is the target of "
            f"{in_its_place[0].certificate}.",
            f"To install it elsewhere: {by_hand} --directory DIR",
        )
    elif name not in new:
        emit(
            f"{name}: no target was made, for it was granted before.",
            f"To install it: {by_hand}",
        )
    else:
        show_added(add_target(settings, wanted))


def _schedule(settings: Settings, wanted: bool | None) -> None:
    """Have the timer pull, if that is wanted, or say what to type.

    Raises:
        ConfigurationError: it was asked for, and systemd did not do it.
    """
    found = schedule_of(settings)
    if found.pulls:
        emit(f"Pulls by itself: {found.what}.")
        return
    if found.pulls is None and not wanted:
        emit(f"Then {found.do}: {found.what}.")
        return
    if wanted is None and can_ask():
        wanted = ask(f"Enable {TIMER}, which pulls every hour?", default=True)
    if not wanted:
        emit(f"Then, so that it pulls by itself: {ENABLE}")
        return
    done = systemctl.ask("enable", "--now", TIMER)
    if done is None or done.returncode:
        why = "systemctl gives no answer" if done is None else done.stderr.strip()
        raise ConfigurationError(
            f"The machine is enrolled, but {TIMER} could not be enabled: {why}", do=ENABLE
        )
    emit(f"{TIMER} is enabled: it pulls every hour.")


def _read_token(path: Path | None) -> str:
    if path is None:
        try:
            return ask_secret("Token: ") if sys.stdin.isatty() else sys.stdin.readline(_MAX_LINE)
        except UnicodeDecodeError:
            raise TokenMalformed("What came from standard input is no text.") from None
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.readline(_MAX_LINE)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
