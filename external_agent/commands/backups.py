"""``backup`` and ``restore``: one file with all that makes this machine the agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from external_agent.commands.context import Context
from external_agent.commands.show import moment
from external_agent.operator.callers import user_name
from shared.host.terminal import say


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The archive to write; it must not exist yet.")],
) -> None:
    """Write settings, keys and database into one archive, also while the agent runs."""
    from external_agent.backup.database_copy import database_file
    from external_agent.backup.taking import take

    own: Context = context.obj
    settings, target = own.settings(), file.absolute()
    database_file(settings.database_url)
    taken = take(settings, own.config_path.absolute(), target, now=own.now)
    with own.store(settings) as store:
        store.append_event(
            "backup-made", now=own.now, actor=_actor(), details={"file": str(target)}
        )
    say(f"Backup: {target} ({taken.size / 1e6:.1f} MB, mode 0600)")
    say("Whoever has this file can be this agent: keep it as you keep keys.")
    if taken.elsewhere:
        say("Not in it, though the settings name them:")
        for path in taken.elsewhere:
            say(f"  {path}")


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What external-agent backup has written.")],
) -> None:
    """Make this machine the agent of a backup; nothing that exists is replaced."""
    from external_agent.backup.restoring import restore as put_back
    from external_agent.settings.handing_over import ACCOUNT, hand_over

    own: Context = context.obj
    done = put_back(file.absolute(), own.config_path.absolute(), now=own.now, actor=_actor())
    when = moment(done.made_at)
    say(f"Restored as it was at {when}, made by release {done.release}.")
    say(f"Settings: {own.config_path}")
    say(f"Keys and database: {done.settings.state_directory}")
    say(
        f"Void from now on: {done.voided.enrolment} enrolment tokens, "
        f"{done.voided.access} access tokens. Make new ones where they are needed."
    )
    handed_over = hand_over(own.config_path, done.settings)
    if handed_over:
        say(f"All of it belongs to the account {ACCOUNT}, as which the service runs.")
    say("", "Before external-agent serve:")
    say("- The agent that made the backup must never run again.")
    say(f"- Pullers revoked after {when} are active again: revoke them again.")
    if not handed_over:
        say("- Give the files to the account that the service runs as, if it is not this one.")


def _actor() -> str:
    return f"user {user_name(os.geteuid())}"
