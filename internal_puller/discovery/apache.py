"""Apache: it says itself in which file and line each virtual host begins."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from internal_puller.discovery.site import ANYWHERE, Setting, Site, output_of, read_text, split_port

_HOST = re.compile(r"\((?P<file>/[^()]+):(?P<line>\d+)\)")


def sites(argv: Sequence[str] = ("apachectl", "-t", "-D", "DUMP_VHOSTS")) -> list[Site]:
    """Return the virtual hosts of Apache that do TLS.

    Raises:
        ConfigurationError: Apache is not there, or its configuration is not good.
    """
    places = dict.fromkeys(
        (Path(match["file"]), int(match["line"])) for match in _HOST.finditer(output_of(argv))
    )
    return [site for file, line in places for site in _site(file, line)]


def _site(file: Path, begin: int) -> Iterator[Site]:
    found: dict[str, list[Setting]] = {}
    listens: list[tuple[str, int]] = []
    for setting in _directives(file, begin):
        name = setting.directive.lower()
        if name == "<virtualhost":
            words = setting.value.rstrip(">").split()
            listens = [found_at for word in words if (found_at := split_port(word))]
        found.setdefault(name, []).append(setting)
    on = any(one.value.lower() == "on" for one in found.get("sslengine", ()))
    certificates = found.get("sslcertificatefile", [])
    if not on or not certificates:
        return
    names = [one.value for one in found.get("servername", ())]
    names += [name for one in found.get("serveralias", ()) for name in one.value.split()]
    hosts = tuple(dict.fromkeys(name.rpartition("://")[2].partition(":")[0] for name in names))
    keys = found.get("sslcertificatekeyfile", [])
    includes = [one.value for one in (*found.get("include", ()), *found.get("includeoptional", ()))]
    notes = (f"it also includes {', '.join(includes)}, which was not read",) if includes else ()
    for number, certificate in enumerate(certificates):
        key = keys[number] if number < len(keys) else None
        yield Site("apache", hosts, certificate, key, tuple(listens) or ANYWHERE, notes)


def _directives(file: Path, begin: int) -> Iterator[Setting]:
    lines = read_text(file).splitlines()
    number = begin
    while number <= len(lines):
        at, text = number, lines[number - 1].strip()
        while text.endswith("\\") and number < len(lines):
            number += 1
            text = text[:-1] + lines[number - 1].strip()
        number += 1
        if text.lower().startswith("</virtualhost"):
            return
        if text and not text.startswith("#"):
            directive, value = (*text.split(None, 1), "")[:2]
            yield Setting(file, at, directive, _unquoted(value))


def _unquoted(text: str) -> str:
    try:
        return " ".join(shlex.split(text))
    except ValueError:
        return text
