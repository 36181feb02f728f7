"""How a target's directory is laid out, and reading it; only the standard library (quiet path).

    <directory>/current -> generations/<name>
    <directory>/fullchain.pem -> current/fullchain.pem    fixed links, one for each file there; or,
    <directory>/combined.pem                              with layout "copy", a file
    <directory>/generations/<name>/{fullchain.pem, privkey.pem, ..., generation.json}
    <directory>/generations/<name>/own.pem    key and chain for us, where the others were given away
    <directory>/set-aside.json     generations that failed here
    <directory>/../.<its name>.staging/    temporary names, outside what a container mounts

A name is the generation's number, or ``<number>.<revision>`` where the same generation was written
again with other formats or owners: a directory under its final name is never changed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from internal_puller.settings.targets import Target

CURRENT: Final = "current"
GENERATIONS: Final = "generations"
SET_ASIDE: Final = "set-aside.json"
RECORD: Final = "generation.json"
TEMPORARY: Final = ".tmp-"
OURS_ALONE: Final = frozenset({RECORD, "own.pem"})
"""Files of a generation that are not for a server."""
TRIED_AGAIN: Final = (
    "It is tried again after a day; once mended, at once by: internal-puller pull --retry."
)

_NAME = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([1-9][0-9]{0,3}))?")


@dataclass(frozen=True)
class SetAside:
    """Why a generation is left alone for a while.

    Args:
        error_type: ``RelayError.type`` of the failure.
        what: its sentence.
        at: unix seconds.
        alone: it failed together with others, none of which is to blame for sure: it is tried by
            the next pull, alone.
    """

    error_type: str
    what: str
    at: int
    alone: bool = False


def staging_name(directory: Path) -> str:
    """Return the name of the directory, next to a target's, that holds what is not ready yet."""
    return f".{directory.name}.staging"


def fixed_link(name: str) -> str:
    """Return where the fixed link of a file points to."""
    return f"{CURRENT}/{name}"


def parse_name(name: str) -> tuple[int, int] | None:
    """Return (generation, revision) of a directory's name, None if it is not one of ours."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2] or 0)) if match else None


def generation_of(name: str) -> int:
    """Return the generation that a directory name stands for; the name must be one of ours."""
    parsed = parse_name(name)
    assert parsed is not None
    return parsed[0]


def make_name(generation: int, revision: int) -> str:
    """Return the directory name of a generation."""
    return f"{generation}.{revision}" if revision else str(generation)


def parse_link(link: str, where: Path) -> str:
    """Return the directory name that ``current`` points to. Raises ``ConfigurationError``."""
    parent, _, name = link.partition("/")
    if parent != GENERATIONS or parse_name(name) is None:
        raise ConfigurationError(
            f"{where / CURRENT} points to {link!r}, which was not made by internal-puller.",
            do="Move it out of the way, or choose another directory for the target.",
        )
    return name


def read_json(path: Path) -> dict[str, Any] | None:
    """Return one of our small JSON files, None if missing. Raises ``ConfigurationError``."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise not_ours(path) from error
    return decode_json(content, path)


def decode_json(content: bytes, path: Path) -> dict[str, Any]:
    """Return the object in one of our small JSON files. Raises ``ConfigurationError``."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise not_ours(path) from error
    if not isinstance(document, dict):
        raise not_ours(path)
    return document


def not_ours(path: Path) -> ConfigurationError:
    """Return the error for a small file that we did not write like this."""
    return ConfigurationError(
        f"{path} cannot be read as internal-puller writes it.",
        do=f"Remove {path} and try again.",
    )


def active_name(target: Target) -> str | None:
    """Return the name of the directory that ``current`` points to; None before the first."""
    try:
        link = str((target.directory / CURRENT).readlink())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            f"{target.directory / CURRENT} is no symbolic link: {error.strerror}.",
            do="Move it out of the way, or choose another directory for the target.",
        ) from error
    return parse_link(link, target.directory)


def active_generation(target: Target) -> int | None:
    """Return the generation in place, None before the first. Raises ``ConfigurationError``."""
    name = active_name(target)
    return None if name is None else generation_of(name)


def generation_names(target: Target) -> tuple[str, ...]:
    """Return the names of the generations' directories on disk, the oldest first."""
    try:
        names = [path.name for path in (target.directory / GENERATIONS).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    known = [(parsed, name) for name in names if (parsed := parse_name(name))]
    return tuple(name for _, name in sorted(known))


def list_generations(target: Target) -> tuple[int, ...]:
    """Return the generations on disk, the oldest first."""
    return tuple(dict.fromkeys(generation_of(name) for name in generation_names(target)))


def set_aside(target: Target) -> Mapping[int, SetAside]:
    """Return the generations that failed here and are only tried again when forced."""
    path = target.directory / SET_ASIDE
    return decode_set_aside(read_json(path) or {}, path)


def decode_set_aside(document: dict[str, Any], path: Path) -> Mapping[int, SetAside]:
    """Return the content of ``set-aside.json``. Raises ``ConfigurationError``."""
    try:
        marks = {int(number): SetAside(**entry) for number, entry in document.items()}
    except (TypeError, ValueError) as error:
        raise not_ours(path) from error
    return MappingProxyType(marks)
