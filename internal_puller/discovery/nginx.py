"""nginx: ``nginx -T`` gives the whole configuration, with every included file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from internal_puller.discovery.site import Setting, Site, output_of, split_port
from shared.contract.errors import ConfigurationError

_FILE = re.compile(r"# configuration file (?P<path>.+):\Z")
_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#[^\n]*)|(?P<mark>[{};])"""
    r"""|"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<word>(?:\$\{[^}]*\}|[^\s{};"'])+)"""
)


@dataclass
class _Block:
    """A directive with what is in its braces.

    Attributes:
        words: of the directive.
    """

    words: list[str]
    file: Path
    line: int
    inside: list[_Block] = field(default_factory=list)


def sites(argv: Sequence[str] = ("nginx", "-T")) -> list[Site]:
    """Return the servers of nginx that do TLS.

    Raises:
        ConfigurationError: nginx is not there, or its configuration is not good.
    """
    return list(_sites(output_of(argv)))


def _sites(dump: str) -> Iterator[Site]:
    for top in _parsed(dump):
        if top.words[:1] in (["http"], ["stream"]):
            inherited = _certificates(top)
            for server in top.inside:
                if server.words[:1] == ["server"]:
                    yield from _site(server, inherited)


def _site(server: _Block, inherited: list[tuple[Setting, Setting]]) -> Iterator[Site]:
    said = [one.words[1:] for one in server.inside if one.words[:1] == ["listen"]]
    tls = [words for words in said if "ssl" in words[1:] or "quic" in words[1:]]
    listens = dict.fromkeys(found for words in tls if words and (found := _listen(words[0])))
    if not listens:
        return
    names = [
        name
        for one in server.inside
        if one.words[:1] == ["server_name"]
        for name in one.words[1:]
        if name not in ("_", "") and not name.startswith("~")
    ]
    for certificate, key in _certificates(server) or inherited:
        yield Site("nginx", tuple(dict.fromkeys(names)), certificate, key, tuple(listens))


def _certificates(block: _Block) -> list[tuple[Setting, Setting]]:
    """Return the pairs of a block; with RSA and ECDSA side by side there are several."""
    found: dict[str, list[Setting]] = {"ssl_certificate": [], "ssl_certificate_key": []}
    for one in block.inside:
        if one.words[0] in found and len(one.words) == 2:
            setting = Setting(one.file, one.line, one.words[0], one.words[1])
            found[one.words[0]].append(setting)
    return list(zip(found["ssl_certificate"], found["ssl_certificate_key"], strict=False))


def _listen(word: str) -> tuple[str, int] | None:
    """Return address and port of ``[ADDRESS:]PORT`` or ``ADDRESS``; None for a socket."""
    if word.startswith("unix:"):
        return None
    if word.isdigit():
        return "", int(word)
    return split_port(word) or (word, 443)


def _parsed(dump: str) -> list[_Block]:
    root = _Block([], Path("/"), 0)
    for file, text in _files(dump):
        root.inside += _blocks(file, text)
    return _with_includes(root)


def _with_includes(root: _Block) -> list[_Block]:
    """Put what included files hold where the include stands."""
    by_file: dict[str, list[_Block]] = {}
    for one in root.inside:
        by_file.setdefault(str(one.file), []).append(one)

    def filled(blocks: list[_Block], depth: int) -> list[_Block]:
        if depth > 20:
            raise ConfigurationError("The includes of nginx do not end.")
        found = []
        for one in blocks:
            if one.words[:1] == ["include"] and len(one.words) == 2:
                found += [
                    each
                    for path in _matching(one, by_file)
                    for each in filled(by_file[path], depth + 1)
                ]
            else:
                one.inside = filled(one.inside, depth + 1)
                found.append(one)
        return found

    first = next(iter(by_file), None)
    return [] if first is None else filled(by_file[first], 0)


def _matching(include: _Block, by_file: dict[str, list[_Block]]) -> list[str]:
    pattern = include.words[1]
    if not pattern.startswith("/"):
        main = Path(next(iter(by_file)))
        pattern = str(main.parent / pattern)
    return [path for path in by_file if Path(path).match(pattern)]


def _files(dump: str) -> Iterator[tuple[Path, str]]:
    path, lines = None, list[str]()
    for line in dump.splitlines():
        match = _FILE.match(line)
        if match:
            if path is not None:
                yield path, "\n".join(lines)
            path, lines = Path(match["path"]), []
        else:
            lines.append(line)
    if path is not None:
        yield path, "\n".join(lines)


def _blocks(file: Path, text: str) -> list[_Block]:
    root = _Block([], file, 0)
    open_blocks, words, begin = [root], list[str](), 0
    for kind, value, line in _tokens(text):
        if kind == "word":
            begin = begin if words else line
            words.append(value)
        elif value == "}":
            if len(open_blocks) > 1:
                open_blocks.pop()
            words = []
        elif words:
            made = _Block(words, file, begin)
            open_blocks[-1].inside.append(made)
            if value == "{":
                open_blocks.append(made)
            words = []
        elif value == "{":
            open_blocks.append(_Block([""], file, line))
    return root.inside


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:  # a quote that does not end: nginx itself would have refused it
            at += 1
            continue
        if match.lastgroup == "mark":
            yield "mark", match[0], line
        elif match.lastgroup in ("word", "double", "single"):
            yield "word", match[match.lastgroup], line
        line += match[0].count("\n")
        at = match.end()
