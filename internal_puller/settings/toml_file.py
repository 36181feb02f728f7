"""Settings files in TOML: read only if no other account could change them, written atomically.

Reading needs only the standard library: the quiet path of ``pull`` comes through here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from internal_puller.settings.account import how_to_read, service_ids
from internal_puller.settings.nearest import nearest
from shared.contract.errors import ConfigurationError, LooseFileMode
from shared.host.trusted_file import find_trusted
from shared.host.whole_file import replace_whole


def read_toml(path: Path) -> str | None:
    """Return the text, or ``None`` if there is no such file.

    Raises:
        LooseFileMode: others could have changed it.
        ConfigurationError: it cannot be read.
    """
    try:
        content = find_trusted(path, "settings file", commands=True)
    except LooseFileMode:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(error.what, do=how_to_read(path) or error.do) from error
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no UTF-8 text.") from error


def replace_toml(path: Path, text: str) -> None:
    """Write the file whole, durably; root's is for the service to read, too (0640).

    Raises:
        ConfigurationError: it cannot be written.
    """
    service = service_ids()
    try:
        path.parent.mkdir(mode=0o755 if service else 0o700, parents=True, exist_ok=True)
        if service is None:
            replace_whole(path, text.encode(), durable=True)
        else:
            replace_whole(path, text.encode(), mode=0o640, group=service[1], durable=True)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error


def check_keys(where: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise ``ConfigurationError`` for a key that is not known; a near one is named."""
    for key in table:
        if key not in known:
            raise ConfigurationError(f"{where}: unknown key {key!r}{nearest(key, known)}.")


def text_of(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where} is no text.")
    return value


def texts_of(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{where} is no list of texts.")
    return tuple(item if item == "" else text_of(where, item) for item in value)


def truth_of(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} is neither true nor false.")
    return value


def seconds_of(where: str, value: object) -> float:
    if type(value) not in (int, float):
        raise ConfigurationError(f"{where} is no number of seconds.")
    assert isinstance(value, int | float)
    return float(value)


def path_of(where: str, value: object) -> Path:
    return Path(text_of(where, value))
