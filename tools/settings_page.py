"""The page of settings: what the code knows of each, by its name."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from tools.markdown import table

_WORDS = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    Path: "path",
}
Row = tuple[str, ...]


def settings_lines() -> Iterator[str]:
    """Yield the lines of the page."""
    from external_agent.settings.config import ENVIRONMENT_PREFIX as AGENT
    from external_agent.settings.config import Settings as AgentSettings
    from internal_puller.settings.config import ENVIRONMENT_PREFIX as PULLER
    from internal_puller.settings.config import Settings as PullerSettings
    from internal_puller.settings.protocols import PORTS, STARTTLS
    from internal_puller.settings.targets import Target

    yield from (
        "# Settings",
        "",
        "What the programs take, and what holds where nothing is said. What each is for stands in",
        "[operations](../operations.md#settings-of-the-agent). The environment wins over the file.",
        "",
        "## Of the agent, `agent.toml`",
        "",
        *table(("setting", "environment", "takes", "default"), _model_rows(AgentSettings, AGENT)),
        "",
        "## Of the puller, `puller.toml`",
        "",
        *table(
            ("setting", "environment", "takes", "default"),
            (
                (f"`{name}`", f"`{PULLER}{name.upper()}`", takes, default)
                for name, takes, default in _record_rows(PullerSettings, "found by the account")
            ),
        ),
        "",
        "## Of a target, `targets.toml`",
        "",
        *table(
            ("setting", "takes", "default"),
            ((f"`{name}`", takes, default) for name, takes, default in _record_rows(Target)),
        ),
        "",
        "## Presets",
        "",
        "What a target does that says nothing else.",
        "",
        *table(
            (
                *("preset", "server", "files", "test", "reload with systemd", "without"),
                *("patience", "probed at"),
            ),
            _preset_rows(),
        ),
        "",
        "## Probe schemes",
        "",
        "Before each may stand `proxy+` or `proxy2+`: the listener expects the PROXY protocol, "
        "version 1 or 2.",
        "",
        *table(
            ("scheme", "usual port", "TLS begins"),
            (
                (f"`{scheme}`", str(port), "after STARTTLS" if scheme in STARTTLS else "at once")
                for scheme, port in PORTS.items()
            ),
        ),
        "What the server's configuration has to say, DIRECTORY being the target's:",
        "",
        "```",
        *_hint_lines(),
        "```",
    )


def _model_rows(model: type[BaseModel], prefix: str, path: tuple[str, ...] = ()) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        here = (*path, name)
        kind = _bare(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _model_rows(kind, prefix, here)
        elif dataclasses.is_dataclass(kind):
            yield from _nested_rows(kind, here)
        elif (inner := _model_in(kind)) is not None:
            yield from (
                (setting, "", takes, default)
                for setting, _, takes, default in _model_rows(inner, prefix, (*here, "NAME"))
            )
        else:
            limits = [
                f"{word} {bound}"
                for rule in field.metadata
                for attribute, word in (
                    *(("ge", "from"), ("gt", "more than")),
                    *(("le", "to"), ("lt", "less than")),
                )
                if (bound := getattr(rule, attribute, None)) is not None
            ]
            takes = " ".join((_word(kind), *limits))
            default = "required" if field.is_required() else _shown(field.default)
            variable = f"`{prefix}{'__'.join(here).upper()}`"
            yield f"`{'.'.join(here)}`", variable, takes, default


def _nested_rows(record: Any, path: tuple[str, ...]) -> Iterator[Row]:
    """A table that is read as a whole: from the file only."""
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        kind = _bare(hints[field.name])
        if dataclasses.is_dataclass(kind):
            yield from _nested_rows(kind, (*path, field.name))
        else:
            default = _default(field)
            yield f"`{'.'.join((*path, field.name))}`", "", _word(kind), default


def _record_rows(record: Any, without: str = "required") -> Iterator[tuple[str, str, str]]:
    """``without`` is said of what has no default."""
    hints = get_type_hints(record)
    for field in (one for one in dataclasses.fields(record) if one.compare):
        takes, default = _word(_bare(hints[field.name])), _default(field, without)
        if field.name in {"mode", "key_mode"}:  # kept as a number, written as text
            takes = "text, octal"
            default = f"`{field.default:04o}`" if field.default else "`0600`; `0640` with a group"
        yield field.name, takes, default


def _preset_rows() -> Iterator[Row]:
    from internal_puller.install.formats import FILE_NAMES
    from internal_puller.settings.presets.catalogue import NAMES, known
    from internal_puller.settings.presets.preset import PEM_FILES

    for preset in map(known, NAMES):
        reload = _command(preset.reload)
        for unit in preset.units[1:]:
            reload += f", or `{unit}`"
        reload = reload.replace("{unit}", (*preset.units, "UNIT")[0])
        without = _command(preset.without_systemd) if preset.without_systemd else "not known"
        at = ", ".join(f"{protocol}, port {port}" for protocol, port in preset.probe) or "nowhere"
        more = [f"`{FILE_NAMES[one]}`" for one in preset.formats if one not in PEM_FILES]
        files = "the four PEM files" + "".join(f", {one}" for one in more)
        patience = f"{preset.patience:g} s" + (", restarted" if preset.restarts else "")
        yield (
            *(f"`{preset.name}`", preset.title, files, _command(preset.test), reload),
            *(without if preset.reload else "none", patience, at),
        )


def _hint_lines() -> Iterator[str]:
    """What a server's configuration has to say, as ``target add`` prints it."""
    from internal_puller.settings.presets.catalogue import NAMES, known

    for preset in map(known, NAMES):
        for hint in preset.hints:
            since = ".".join(map(str, hint.since))
            yield f"# {preset.title}" + (f", from version {since} on" if since else "")
            yield from hint.shown("DIRECTORY/current")


def _command(argv: tuple[str, ...]) -> str:
    return f"`{' '.join(argv)}`" if argv else "none"


def _bare(kind: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        others = [one for one in get_args(kind) if one is not type(None)]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        inner = _bare(get_args(kind)[1])
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _word(kind: Any) -> str:
    kind = _bare(kind)
    if get_origin(kind) is Literal:
        return " or ".join(f"`{one}`" for one in get_args(kind))
    if get_origin(kind) in (tuple, frozenset, list):
        return f"list of {_word(get_args(kind)[0])}"
    if dataclasses.is_dataclass(kind):
        return "table"
    return _WORDS.get(kind, "text")


def _default(field: Any, without: str = "required") -> str:
    if field.default is not dataclasses.MISSING:
        return _shown(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _shown(field.default_factory())
    return without


def _shown(value: Any) -> str:
    if value is None or value in ("", (), frozenset()):
        return "none"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | frozenset):
        return ", ".join(_shown(one) for one in value)
    return f"`{value}`"
