"""A preset as it is written: TOML, one file for each, called after it. Needs only the stdlib."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from internal_puller.settings.nearest import nearest
from internal_puller.settings.presets.preset import Hint, Preset
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.toml_file import (
    check_keys,
    seconds_of,
    text_of,
    texts_of,
    truth_of,
)
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_ANY_VERSION: Final = "any"
_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+){0,3}")
_POINT: Final = re.compile(r"(?P<protocol>[a-z0-9+-]+):(?P<port>[0-9]{1,5})")
_UNREAD: Final = "nothing reads the configuration of a server that was added in presets.d"


def read_preset(where: str, name: str, text: str) -> Preset:
    """Return the preset that a file describes.

    Args:
        where: the file, for errors.

    Raises:
        ConfigurationError: not TOML; an unknown key (a near one is named); one that is
            missing; a value that cannot be.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where} is no TOML: {error}.") from error
    check_keys(where, document, (*_REQUIRED, *_OPTIONAL))
    for key in _REQUIRED:
        if key not in document:
            raise ConfigurationError(f"{where}: {key} is missing.")
    readers = _REQUIRED | {key: read for key, (read, _) in _OPTIONAL.items()}
    values = {key: default for key, (_, default) in _OPTIONAL.items()}
    values |= {key: readers[key](f"{where}: {key}", value) for key, value in document.items()}
    try:
        return Preset(name=name, **values)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}.") from error


def _hints(where: str, value: object) -> tuple[Hint, ...]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} is no table of lines by version, such as any = […].")
    hints = [Hint(_since(where, key), texts_of(where, lines)) for key, lines in value.items()]
    return tuple(sorted(hints, key=lambda hint: hint.since, reverse=True))


def _since(where: str, version: str) -> tuple[int, ...]:
    if version == _ANY_VERSION:
        return ()
    if not _VERSION.fullmatch(version):
        raise ConfigurationError(
            f"{where}: {version!r:.40} is neither {_ANY_VERSION!r} nor a version such as '2.4'."
        )
    return tuple(int(part) for part in version.split("."))


def _points(where: str, value: object) -> tuple[tuple[str, int], ...]:
    points = []
    for text in texts_of(where, value):
        match = _POINT.fullmatch(text)
        if match is None:
            raise ConfigurationError(f"{where}: {text!r:.60} is not PROTOCOL:PORT.")
        try:
            point = ProbePoint("localhost", int(match["port"]), "localhost.test", match["protocol"])
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error.what}", do=error.do) from error
        points.append((point.protocol, point.port))
    return tuple(points)


def _formats(where: str, value: object) -> tuple[str, ...]:
    from internal_puller.settings.targets import FORMATS

    formats = texts_of(where, value)
    for one in formats:
        if one not in FORMATS:
            raise ConfigurationError(f"{where}: unknown {one!r:.60}{nearest(one, FORMATS)}.")
    return formats


def _maybe_text(where: str, value: object) -> str:
    return "" if value == "" else text_of(where, value)


_REQUIRED: Final[dict[str, Callable[[str, object], Any]]] = {
    "title": text_of,
    "programs": texts_of,
    "units": texts_of,
    "test": texts_of,
    "reload": texts_of,
    "without_systemd": texts_of,
    "restarts": truth_of,
    "patience": seconds_of,
    "formats": _formats,
    "combined": texts_of,
    "probe": _points,
    "reads_as": _maybe_text,
    "hints": _hints,
}
# key: (from TOML, default)
_OPTIONAL: Final[dict[str, tuple[Callable[[str, object], Any], Any]]] = {
    "version": (texts_of, ()),
    "undiscovered": (_maybe_text, _UNREAD),
}
