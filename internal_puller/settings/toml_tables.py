"""Arrays of tables in a settings file: one table changes, every other octet stays.

What an administrator wrote around the tables (comments, blank lines, other tables) is kept as it
is, and so is a table of which nothing changes. Writing again and again adds nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_BLANK_LINE_AT_END: Final = re.compile(r"(?:\A|\n)[ \t]*\r?\n\Z")
_BLANK_AT_START: Final = re.compile(r"\A(?:[ \t]*\r?\n)+")
_BLANK_AT_END: Final = re.compile(r"(?:(?<=\n)|\A)(?:[ \t]*\r?\n)+\Z")


@dataclass(frozen=True)
class Entry:
    """A table that the file is to have.

    Attributes:
        changes: values by key; None takes the key away.
        was: which of the tables that are there it is, counted from 0; None is a new one.
    """

    changes: Mapping[str, Any]
    was: int | None = None


@dataclass(frozen=True)
class _Part:
    """A table as it is written, or, without a number, what is written between tables."""

    text: str
    number: int | None = None


def rewritten(text: str, name: str, entries: Sequence[Entry]) -> str:
    """Return the text of a file with these tables ``[[name]]``, and no others, in this order.

    Args:
        text: of the file as it is: TOML in which ``name``, if it is there, is a list of tables.
    """
    present = tomllib.loads(text).get(name, [])
    parts = _parts(text, name)
    if sum(part.number is not None for part in parts) != len(present):  # written as name = [{…}]
        return _all_anew(text, name, present, entries)
    written = {part.number: part.text for part in parts if part.number is not None}
    wanted = [
        _new(name, entry.changes)
        if entry.was is None
        else _changed(written[entry.was], name, present[entry.was], entry.changes)
        for entry in entries
    ]
    kept = {entry.was for entry in entries}
    return _put_together(parts, kept, wanted)


def _put_together(parts: Sequence[_Part], kept: set[int | None], wanted: list[str]) -> str:
    """Fill the places of the tables that stay, close those of the others, append the rest."""
    rest = iter(wanted)
    result = ""
    closed = False
    for part in parts:
        if part.number is None:
            between = part.text
            if closed and (not result or _BLANK_LINE_AT_END.search(result)):
                between = _BLANK_AT_START.sub("", between)
            result += between
            closed = closed and not between
        elif part.number in kept:
            result, closed = result + next(rest), False
        else:
            closed = True
    if closed:
        result = _BLANK_AT_END.sub("", result)
    for table in rest:
        result = _with_room(result) + table
    return result


def _with_room(text: str) -> str:
    """End the text with a blank line, if there is anything in it."""
    if text and not text.endswith("\n"):
        text += "\n"
    return text if not text or _BLANK_LINE_AT_END.search(text) else text + "\n"


def _parts(text: str, name: str) -> list[_Part]:
    """Take the text apart; put together again the parts are the text."""
    parts: list[_Part] = []
    number, chunk = -1, ""
    in_table = False

    def end(*, at_heading: bool) -> None:
        if not in_table:
            parts.append(_Part(chunk))
            return
        table, after = _without_tail(chunk, at_heading=at_heading)
        parts.extend((_Part(table, number), _Part(after)))

    for line in _lines(text):
        heading = tomllib.loads(line) if _is_heading(line, chunk) else None
        if heading is None or (in_table and _is_below(heading, name)):
            chunk += line
            continue
        end(at_heading=True)
        chunk = line
        in_table = isinstance(heading.get(name), list)
        number += in_table
    end(at_heading=False)
    return parts


def _lines(text: str) -> list[str]:
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _is_heading(line: str, before: str) -> bool:
    """Tell whether a line begins a table, and not in the midst of a string or an array."""
    if not line.lstrip().startswith("["):
        return False
    try:
        tomllib.loads(before)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _is_below(heading: dict[str, Any], name: str) -> bool:
    """Tell whether it is of a part of the table that is being read, such as [[name.part]]."""
    return isinstance(heading.get(name), dict)


def _without_tail(chunk: str, *, at_heading: bool) -> tuple[str, str]:
    """Split a table from what is only between it and the next one.

    Comments right below its last line are its own, unless the next table follows them at once.
    """
    lines = _lines(chunk)
    said = tomllib.loads(chunk)
    last = max(at for at, line in enumerate(lines) if not _says_nothing(line))
    content = next(at for at in range(last + 1, len(lines) + 1) if _says("".join(lines[:at]), said))
    end = content
    while end < len(lines) and lines[end].strip():
        end += 1
    if at_heading and end == len(lines):
        end = content
    return "".join(lines[:end]), "".join(lines[end:])


def _says(text: str, said: Mapping[str, Any]) -> bool:
    """Tell whether a text is whole; a string of several lines may end in what looks a comment."""
    try:
        return tomllib.loads(text) == said
    except tomllib.TOMLDecodeError:
        return False


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _changed(text: str, name: str, present: dict[str, Any], changes: Mapping[str, Any]) -> str:
    values = _values(present, changes)
    if values == present:
        return text
    import tomlkit

    document = tomlkit.parse(text)
    table: Any = document[name][0]
    for key, value in changes.items():
        if value is None:
            table.pop(key, None)
        elif present.get(key) != value:
            table[key] = value
    result = tomlkit.dumps(document).rstrip() + (text[len(text.rstrip()) :] or "\n")
    return result if tomllib.loads(result)[name] == [values] else _new(name, values)


def _values(present: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**present, **changes}.items() if value is not None}


def _new(name: str, values: Mapping[str, Any]) -> str:
    import tomlkit

    table = tomlkit.table()
    for key, value in _values({}, values).items():
        table[key] = value
    array = tomlkit.aot()
    array.append(table)
    document = tomlkit.document()
    document[name] = array
    return tomlkit.dumps(document).rstrip() + "\n"


def _all_anew(
    text: str, name: str, present: Sequence[dict[str, Any]], entries: Sequence[Entry]
) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    document.pop(name)
    result = tomlkit.dumps(document)
    for entry in entries:
        earlier = {} if entry.was is None else present[entry.was]
        result = _with_room(result) + _new(name, _values(earlier, entry.changes))
    return result
