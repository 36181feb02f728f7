"""``target remove``: a target is forgotten; its files stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from internal_puller.settings.config import load_settings
from internal_puller.settings.targets import Target, load_targets, save_targets
from internal_puller.state.pending import PendingKeys
from shared.contract.errors import ConfigurationError
from shared.host.terminal import emit


def remove(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="Certificate, or the target's directory.")],
) -> None:
    """Forget a target. Its files stay, and its server goes on serving them."""
    settings = load_settings(context.obj)
    targets = load_targets(settings.targets_file)
    gone = matching(targets, certificate)
    left = [one for one in targets if one not in gone]
    save_targets(settings.targets_file, left)
    for name in {one.certificate for one in gone} - {one.certificate for one in left}:
        PendingKeys(settings.state_directory, name).clear()
    for one in gone:
        emit(f"Removed. The files stay in {one.directory}.")


def matching(targets: Sequence[Target], text: str) -> list[Target]:
    """Return the targets that are meant: of a certificate, or in a directory.

    Raises:
        ConfigurationError: there is none.
    """
    found = [one for one in targets if text in (one.certificate, str(one.directory))]
    if not found:
        raise ConfigurationError(f"There is no target {text!r:.200}.")
    return found
