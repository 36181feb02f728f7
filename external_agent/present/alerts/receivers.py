"""Who is told: a file of names and addresses, secret because addresses hold passwords."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from external_agent.settings.keys import read_secret
from shared.contract.errors import ConfigurationError

_LINE = re.compile(r"(?P<name>[a-z][a-z0-9-]{0,31})\s*=\s*(?P<url>[a-z][a-z0-9+.-]*://\S+)\Z")


@dataclass(frozen=True, slots=True)
class Receiver:
    """
    Attributes:
        name: how logs, metrics and the database call it.
        url: as apprise knows them; holds passwords, and is shown nowhere.
    """

    name: str
    url: str = field(repr=False)


def read_receivers(file: Path | None) -> tuple[Receiver, ...]:
    """Read the file: ``NAME=URL`` in a line, ``#`` begins a comment line (apprise's text form).

    Raises:
        ConfigurationError: missing, or a line that is none; the line's number is named, never its
            text.
        LooseFileMode: others may read it.
    """
    if file is None:
        return ()
    try:
        text = read_secret(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not text in UTF-8.") from error
    found = dict[str, Receiver]()
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ConfigurationError(
                f"{file}, line {number}, is no receiver.",
                do="Write NAME=URL, such as ops=mailtos://user:password@mail.example.com; a name "
                "is small letters, digits and hyphens.",
            )
        name = match["name"]
        if name in found:
            raise ConfigurationError(f"{file}, line {number}: there is a {name!r} above already.")
        found[name] = Receiver(name, match["url"])
    return tuple(found.values())
