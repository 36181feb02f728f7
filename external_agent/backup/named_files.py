"""The files that the settings name, wherever in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from external_agent.settings.config import Settings


def named_files(settings: Settings, field: str | None = None) -> Iterator[Path]:
    """Return the absolute paths that the settings name, by fields of this name if one is given."""
    for name, path in _paths("", settings):
        if field in (None, name):
            yield path


def _paths(field: str, value: object) -> Iterator[tuple[str, Path]]:
    """Every file that the settings name, and the field that names it."""
    if isinstance(value, Path):
        yield field, value.absolute()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            if name not in ("state_directory", "socket"):
                yield from _paths(name, getattr(value, name))
    elif dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from _paths(one.name, getattr(value, one.name))
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _paths(field, member)
