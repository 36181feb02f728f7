"""The lines that a server's configuration has to have, so that it reads a target's files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from shared.contract.errors import ConfigurationError
from shared.host import commands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from internal_puller.settings.presets.preset import Argv, Hint, Preset
    from internal_puller.settings.targets import Target

_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_SECONDS: Final = 10.0


def hint_lines(target: Target) -> tuple[str, ...]:
    """Return what to tell an administrator of a target's servers, line by line.

    Where the lines differ by version and that cannot be asked here, all of them are returned, each
    with the versions that take it.
    """
    if target.layout == "copy":
        return (f"{target.directory}/combined.pem holds the certificate and its key.",)
    return tuple(line for preset in target.presets for line in _of(preset, target))


def current_of(target: Target) -> Path:
    """Return the directory that a server reads, on the machine where it is."""
    return (target.remote_directory or target.directory) / "current"


def _of(preset: Preset, target: Target) -> Iterator[str]:
    current = current_of(target)
    version = version_of(preset.version) if target.ssh is None else None
    known = len(preset.hints) == 1 or version is not None
    for hint in [_taken(preset, version)] if known else preset.hints:
        yield f"Let {preset.title}{_versions(preset, hint)} use:"
        yield from (f"    {line}" for line in hint.shown(current))
    if preset.reads_as and target.ssh is None and not (target.owner or target.group):
        yield (
            f"{preset.title} reads the files as the account {preset.reads_as}: internal-puller "
            f"target change {target.certificate} --group {preset.reads_as}"
        )


def _taken(preset: Preset, version: tuple[int, ...] | None) -> Hint:
    """Return the lines that a version takes; the newest are the first."""
    return next(one for one in preset.hints if not version or version >= one.since)


def _versions(preset: Preset, hint: Hint) -> str:
    if len(preset.hints) == 1:
        return ""
    if hint.since:
        return f" from version {_text(hint.since)} on"
    return f" before version {_text(preset.hints[-2].since)}"


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def version_of(argv: Argv) -> tuple[int, ...] | None:
    """Ask a program for its version; ``None`` if it cannot be asked, or says none."""
    if not argv:
        return None
    try:
        found = _VERSION.search(commands.run(argv, _SECONDS, {}).tail)
    except ConfigurationError:
        return None
    return tuple(int(part) for part in found[0].split(".")) if found else None
