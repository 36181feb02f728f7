"""The file ``targets.toml``: read strictly, written atomically. Reading needs only the stdlib."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from internal_puller.targets import ProbePoint, Target
from shared.errors import ConfigurationError, LooseFileMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomlkit.items import Table

MAX_BYTES: Final = 1 << 20


def load(path: Path) -> tuple[Target, ...]:
    """See ``internal_puller.targets.load_targets``."""
    text = _read(path)
    if text is None:
        return ()
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from error
    _check_keys(str(path), document, ("target",))
    tables = document.get("target", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{path}: targets are written as [[target]] tables.")
    targets = tuple(
        _target(f"{path}, target {number}", table) for number, table in enumerate(tables, 1)
    )
    check_distinct(targets)
    return targets


def check_distinct(targets: tuple[Target, ...]) -> None:
    """Refuse two targets with the same directory: ``ConfigurationError``."""
    seen: set[Path] = set()
    for target in targets:
        if target.directory in seen:
            raise ConfigurationError(f"Two targets have the directory {target.directory}.")
        seen.add(target.directory)


def save(path: Path, targets: tuple[Target, ...]) -> None:
    """See ``internal_puller.targets.save_targets``."""
    import tomlkit
    from tomlkit.items import AoT

    check_distinct(targets)
    try:
        document = tomlkit.parse(_read(path) or "")
    except tomlkit.exceptions.ParseError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from error
    earlier = {str(table.get("directory")): table for table in document.get("target", [])}
    tables = tomlkit.aot()
    assert isinstance(tables, AoT)
    for target in targets:
        tables.append(_updated(earlier.get(str(target.directory)), _to_toml(target)))
    document["target"] = tables
    _replace(path, tomlkit.dumps(document))


def _updated(table: Table | None, values: dict[str, Any]) -> Table:
    import tomlkit

    result = tomlkit.table() if table is None else table
    for key in [key for key in result if key not in values]:
        result.remove(key)
    for key, value in values.items():
        if key not in result or result[key] != value:
            result[key] = value
    return result


def _to_toml(target: Target) -> dict[str, Any]:
    """Only what differs from the defaults, so that the file stays short and later defaults hold."""
    values: dict[str, Any] = {"certificate": target.certificate, "names": list(target.names)}
    values["directory"] = str(target.directory)
    for key, (default, _, write) in _OPTIONAL.items():
        value = getattr(target, key)
        if value != default:
            values[key] = write(value)
    return values


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (
                0,
                os.geteuid(),
            ):
                raise LooseFileMode(f"{path} can be changed by other users; it names commands.")
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_BYTES} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no UTF-8 text.") from error


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error


def _check_keys(where: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise ConfigurationError(f"{where}: unknown key {key!r}; the nearest is {near[0]!r}.")


def _target(where: str, table: dict[str, Any]) -> Target:
    _check_keys(where, table, (*_REQUIRED, *_OPTIONAL))
    values: dict[str, Any] = {}
    for key, read in _REQUIRED.items():
        if key not in table:
            raise ConfigurationError(f"{where}: {key} is missing.")
        values[key] = read(f"{where}: {key}", table[key])
    for key, (_, read, _) in _OPTIONAL.items():
        if key in table:
            values[key] = read(f"{where}: {key}", table[key])
    return Target(**values)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where} is no text.")
    return value


def _texts(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{where} is no list of texts.")
    return tuple(item if item == "" else _text(where, item) for item in value)


def _path(where: str, value: object) -> Path:
    return Path(_text(where, value))


def _octal(where: str, value: object) -> int:
    text = _text(where, value)
    if not 3 <= len(text) <= 4 or set(text) - set("01234567"):
        raise ConfigurationError(f'{where} is no file mode such as "0640".')
    return int(text, 8)


def _seconds(where: str, value: object) -> float:
    if type(value) not in (int, float):
        raise ConfigurationError(f"{where} is no number of seconds.")
    assert isinstance(value, int | float)
    return float(value)


def _count(where: str, value: object) -> int:
    if type(value) is not int:
        raise ConfigurationError(f"{where} is no whole number.")
    return value


def _points(where: str, value: object) -> tuple[ProbePoint, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigurationError(f"{where} is no list of tables with address, port and sni.")
    return tuple(_point(where, item) for item in value)


def _point(where: str, table: dict[str, Any]) -> ProbePoint:
    _check_keys(where, table, ("address", "port", "sni"))
    if "address" not in table or "sni" not in table:
        raise ConfigurationError(f"{where} needs address and sni.")
    port = _count(f"{where}, port", table.get("port", 443))
    return ProbePoint(
        _text(f"{where}, address", table["address"]), port, _text(f"{where}, sni", table["sni"])
    )


def _point_table(points: tuple[ProbePoint, ...]) -> list[dict[str, Any]]:
    return [{"address": point.address, "port": point.port, "sni": point.sni} for point in points]


def _mode_text(mode: int) -> str:
    return f"{mode:04o}"


_REQUIRED: Final[dict[str, Callable[[str, object], Any]]] = {
    "certificate": _text,
    "names": _texts,
    "directory": _path,
}
# key: (default, from TOML, to TOML)
_OPTIONAL: Final[dict[str, tuple[Any, Callable[[str, object], Any], Callable[[Any], Any]]]] = {
    "preset": ("none", _text, str),
    "formats": ((), _texts, list),
    "owner": (None, _text, str),
    "group": (None, _text, str),
    "mode": (0o644, _octal, _mode_text),
    "key_mode": (None, _octal, _mode_text),
    "test_command": (None, _texts, list),
    "reload_command": (None, _texts, list),
    "command_timeout": (30.0, _seconds, float),
    "probe": (None, _points, _point_table),
    "probe_timeout": (15.0, _seconds, float),
    "roots": (None, _path, str),
    "keep": (3, _count, int),
    "key_origin": ("any", _text, str),
    "pkcs12_password_file": (None, _path, str),
}
