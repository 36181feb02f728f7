"""The file ``targets.toml``: read strictly, written atomically. Reading needs only the stdlib."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from internal_puller.settings.presets.catalogue import Catalogue, beside
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.protocols import usual_port
from internal_puller.settings.targets import Target
from internal_puller.settings.toml_file import (
    check_keys,
    path_of,
    read_toml,
    replace_toml,
    seconds_of,
    text_of,
    texts_of,
)
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.settings.toml_tables import Entry


def load(path: Path) -> tuple[Target, ...]:
    """See ``internal_puller.settings.targets.load_targets``."""
    text = read_toml(path)
    if text is None:
        return ()
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from error
    check_keys(str(path), document, ("target",))
    tables = document.get("target", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{path}: targets are written as [[target]] tables.")
    catalogue = beside(path)
    targets = tuple(
        _target(f"{path}, target {number}", table, catalogue)
        for number, table in enumerate(tables, 1)
    )
    check_distinct(targets)
    return targets


def check_distinct(targets: tuple[Target, ...]) -> None:
    """Refuse two targets with one directory, here or there, or one server with other commands.

    Raises:
        ConfigurationError: it names the directory, or the server.
    """
    _check_servers(targets)
    seen: set[tuple[str, int, Path]] = set()
    for target in targets:
        places = [("", 0, target.directory)]
        if target.ssh is not None:
            _, host, port = target.ssh_parts
            places.append((host.lower(), port, target.remote_directory or target.directory))
        for place in places:
            if place in seen:
                at = f" at {place[0]}" if place[0] else ""
                raise ConfigurationError(f"Two targets have the directory {place[2]}{at}.")
            seen.add(place)


def _check_servers(targets: tuple[Target, ...]) -> None:
    """A ``server`` is one group, which is tested and reloaded once: all have the same commands."""
    first: dict[tuple[object, ...], Target] = {}
    for target in targets:
        if target.server is None:
            continue
        other = first.setdefault((target.server, target.ssh and target.ssh_parts), target)
        if _how(other) != _how(target):
            raise ConfigurationError(
                f"Target {target.certificate}: the server {target.server!r} has other commands in "
                f"target {other.certificate}.",
                do="Give both the same test_command and reload_command, or another server.",
            )


def _how(target: Target) -> tuple[object, ...]:
    """What tests and reloads it; the preset where it does not say itself."""
    test, reload = target.test_command, target.reload_command
    return (
        target.preset if test is None else test,
        target.preset if reload is None else reload,
        target.unit,
    )


def save(path: Path, targets: tuple[Target, ...]) -> None:
    """See ``internal_puller.settings.targets.save_targets``."""
    from internal_puller.settings.toml_tables import rewritten

    check_distinct(targets)
    text = read_toml(path)
    present = load(path)
    replaced = rewritten(text or "", "target", _entries(present, targets))
    if replaced != text:
        replace_toml(path, replaced)


def _entries(present: tuple[Target, ...], targets: tuple[Target, ...]) -> list[Entry]:
    """Say of each target which one it was, and what is another thing in it now.

    One that has moved to another directory is known by its certificate.
    """
    from internal_puller.settings.toml_tables import Entry

    by_directory = {one.directory: number for number, one in enumerate(present)}
    was = {one.directory: by_directory.pop(one.directory, None) for one in targets}
    moved = [(number, present[number].certificate) for number in by_directory.values()]
    entries = []
    for one in targets:
        number = was[one.directory]
        if number is None:
            found = next((pair for pair in moved if pair[1] == one.certificate), None)
            if found is not None:
                moved.remove(found)
                number = found[0]
        values = _to_toml(one)
        if number is None:
            entries.append(Entry(values))
        else:
            earlier = present[number]
            keys = (
                key
                for key in (*_REQUIRED, *_OPTIONAL)
                if getattr(earlier, key) != getattr(one, key)
            )
            entries.append(Entry({key: values.get(key) for key in keys}, number))
    return entries


def _to_toml(target: Target) -> dict[str, Any]:
    """Only what differs from the defaults, so that the file stays short and later defaults hold."""
    values: dict[str, Any] = {"certificate": target.certificate, "names": list(target.names)}
    values["directory"] = str(target.directory)
    for key, (default, _, write) in _OPTIONAL.items():
        value = getattr(target, key)
        if value != default:
            values[key] = write(value)
    return values


def _target(where: str, table: dict[str, Any], catalogue: Catalogue) -> Target:
    check_keys(where, table, (*_REQUIRED, *_OPTIONAL))
    values: dict[str, Any] = {}
    for key, read in _REQUIRED.items():
        if key not in table:
            raise ConfigurationError(f"{where}: {key} is missing.")
        values[key] = read(f"{where}: {key}", table[key])
    for key, (_, read, _) in _OPTIONAL.items():
        if key in table:
            values[key] = read(f"{where}: {key}", table[key])
    return Target(**values, catalogue=catalogue)


def _names(where: str, value: object) -> str | tuple[str, ...]:
    return text_of(where, value) if isinstance(value, str) else texts_of(where, value)


def _names_text(value: str | tuple[str, ...]) -> str | list[str]:
    return value if isinstance(value, str) else list(value)


def _octal(where: str, value: object) -> int:
    text = text_of(where, value)
    if not 3 <= len(text) <= 4 or set(text) - set("01234567"):
        raise ConfigurationError(f'{where} is no file mode such as "0640".')
    return int(text, 8)


def _count(where: str, value: object) -> int:
    if type(value) is not int:
        raise ConfigurationError(f"{where} is no whole number.")
    return value


def _points(where: str, value: object) -> tuple[ProbePoint, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigurationError(f"{where} is no list of tables with address, port and sni.")
    return tuple(_point(where, item) for item in value)


def _point(where: str, table: dict[str, Any]) -> ProbePoint:
    check_keys(where, table, ("address", "port", "sni", "protocol"))
    if "address" not in table or "sni" not in table:
        raise ConfigurationError(f"{where} needs address and sni.")
    protocol = text_of(f"{where}, protocol", table.get("protocol", "tls"))
    address = text_of(f"{where}, address", table["address"])
    sni = text_of(f"{where}, sni", table["sni"])
    given = _count(f"{where}, port", table["port"]) if "port" in table else None
    try:
        return ProbePoint(address, usual_port(protocol) if given is None else given, sni, protocol)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.what}", do=error.do) from error


def _point_table(points: tuple[ProbePoint, ...]) -> list[dict[str, Any]]:
    return [
        {"address": point.address, "port": point.port, "sni": point.sni}
        | ({} if point.protocol == "tls" else {"protocol": point.protocol})
        for point in points
    ]


def _mode_text(mode: int) -> str:
    return f"{mode:04o}"


_REQUIRED: Final[dict[str, Callable[[str, object], Any]]] = {
    "certificate": text_of,
    "names": texts_of,
    "directory": path_of,
}
# key: (default, from TOML, to TOML)
_OPTIONAL: Final[dict[str, tuple[Any, Callable[[str, object], Any], Callable[[Any], Any]]]] = {
    "preset": ("none", _names, _names_text),
    "server": (None, text_of, str),
    "formats": ((), texts_of, list),
    "layout": ("link", text_of, str),
    "combined_order": (None, text_of, str),
    "owner": (None, text_of, str),
    "group": (None, text_of, str),
    "mode": (0o644, _octal, _mode_text),
    "key_mode": (None, _octal, _mode_text),
    "test_command": (None, texts_of, list),
    "reload_command": (None, texts_of, list),
    "command_timeout": (30.0, seconds_of, float),
    "probe": (None, _points, _point_table),
    "probe_timeout": (15.0, seconds_of, float),
    "roots": (None, path_of, str),
    "keep": (3, _count, int),
    "key_algorithm": (None, text_of, str),
    "key_origin": ("any", text_of, str),
    "pkcs12_password_file": (None, path_of, str),
    "pkcs12_algorithms": ("modern", text_of, str),
    "unit": (None, text_of, str),
    "ssh": (None, text_of, str),
    "ssh_key": (None, path_of, str),
    "ssh_known_hosts": (None, path_of, str),
    "ssh_config": (None, path_of, str),
    "remote_directory": (None, path_of, str),
}
