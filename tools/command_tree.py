"""The commands of both programs with their options, as completion and man pages want them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Takes = Literal["nothing", "file", "text"]
_WORD = r"[A-Za-z0-9][A-Za-z0-9-]*"
_CHOICES = re.compile(rf"(?:.*: |One of |Of )?({_WORD}(?:, {_WORD})+)(?=[.;:]|$)")


@dataclass(frozen=True)
class Option:
    """
    Attributes:
        flags: such as ``--config``.
        takes: what follows it.
        placeholder: how a man page calls what follows it.
        choices: the words that its help names as the possible ones.
        default: as text, if it is worth showing.
        variable: of the environment, which says the same.
    """

    flags: tuple[str, ...]
    help: str
    takes: Takes
    placeholder: str
    choices: tuple[str, ...]
    required: bool
    repeated: bool
    default: str
    variable: str


@dataclass(frozen=True)
class Argument:
    """What a command is about."""

    name: str
    help: str
    takes: Takes
    required: bool
    repeated: bool


@dataclass(frozen=True)
class Command:
    """
    Attributes:
        path: the words after the program's name; none for the program itself.
        help: paragraphs; the first one is what it does.
        epilog: the program's exit codes.
    """

    path: tuple[str, ...]
    help: tuple[str, ...]
    epilog: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        return self.path[-1] if self.path else ""

    @property
    def short(self) -> str:
        return self.help[0]

    def walk(self) -> Iterator[Command]:
        """This one, and all below it."""
        yield self
        for one in self.commands:
            yield from one.walk()


def programs() -> Mapping[str, Command]:
    """Return the tree of each program by the program's name."""
    from typer.main import get_command

    import external_agent.cli
    import internal_puller.commands.app

    apps = {
        "external-agent": external_agent.cli.app,
        "internal-puller": internal_puller.commands.app.app,
    }
    return {name: _command(get_command(app), ()) for name, app in apps.items()}


def _command(found: Any, path: tuple[str, ...]) -> Command:
    shown = [one for one in found.params if not getattr(one, "hidden", False)]
    return Command(
        path,
        tuple(" ".join(part.split()) for part in (found.help or "").split("\n\n")),
        " ".join((found.epilog or "").split()),
        tuple(_option(one) for one in shown if one.param_type_name == "option"),
        tuple(_argument(one) for one in shown if one.param_type_name == "argument"),
        tuple(
            _command(below, (*path, name))
            for name, below in getattr(found, "commands", {}).items()
            if not below.hidden
        ),
    )


def _option(found: Any) -> Option:
    takes: Takes = "nothing" if found.is_flag else _takes(found)
    words = " ".join((found.help or "").split())
    choices = _CHOICES.match(words) if takes == "text" else None
    default = found.default
    worth_it = takes != "nothing" and default not in (None, "", ()) and found.show_default
    return Option(
        (*found.opts, *found.secondary_opts),
        words,
        takes,
        "FILE" if takes == "file" else (found.metavar or "TEXT"),
        tuple(choices[1].split(", ")) if choices else (),
        found.required,
        found.multiple,
        str(default) if worth_it else "",
        str(found.envvar or ""),
    )


def _argument(found: Any) -> Argument:
    words = " ".join((found.help or "").split())
    return Argument(found.name, words, _takes(found), found.required, found.nargs == -1)


def _takes(found: Any) -> Takes:
    return "file" if "Path" in str(found.type_descriptor.annotation) else "text"
