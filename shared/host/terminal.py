"""The one way to a terminal: both programs write by these functions, and a test finds any other.

Results go to standard output, explanations to standard error, so that a pipe gets results only.
One argument is one line, so that no text of a peer can add a line of its own. Only the standard
library, and little of it: the quiet path of ``pull`` comes through here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TextIO

from shared.contract import plain_text
from shared.contract.plain_text import one_line

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from shared.contract.errors import RelayError

_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
_WIPE_LINE: Final = "\r\x1b[K"
_MOST_PROGRESS: Final = 200
_HANGING: Final = " " * 11


def guard() -> None:
    """Make safe what others write in this process: help, usage errors and tracebacks.

    Called once, by a program's entry point, before anything is shown.
    """
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    sys.excepthook = _show_traceback


def emit(*lines: str) -> None:
    """Give a result: write lines to standard output; none is an empty line.

    Columns may be apart by tabs; everything else is as :func:`one_line` leaves it.
    """
    _write(sys.stdout, _joined(lines))


def say(*lines: str) -> None:
    """Explain: write lines to standard error, as :func:`emit`."""
    _write(sys.stderr, _joined(lines))


def explain(error: RelayError) -> None:
    """Explain an error at standard error: what, meaning, next step, a line for each."""
    say(*error.explain().split("\n"))


def emit_json(value: object) -> None:
    """Write JSON to standard output, in ASCII: everything else is escaped."""
    _write(sys.stdout, json.dumps(value, indent=2, default=str) + "\n")


def flush() -> None:
    """Show now what was written to standard output."""
    sys.stdout.flush()


def is_terminal() -> bool:
    """Tell whether results go to a terminal."""
    return sys.stdout.isatty()


def can_ask() -> bool:
    """Tell whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, *, default: bool = False) -> bool:
    """Return the answer to a yes-or-no question; ``default`` if it is only Return, or the end."""
    choices = "[Y/n]" if default else "[y/N]"
    while True:
        _write(sys.stderr, f"{one_line(question)} {choices}: ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        answer = line.strip().lower()
        if answer in ("y", "yes"):
            return True
        if answer in ("n", "no") or not line:
            return False
        if not answer:
            return default
        say("Answer y or n.")


def ask_secret(prompt: str) -> str:
    """Return a line that is not shown while it is typed."""
    from getpass import getpass

    return getpass(one_line(prompt))


def log_to_stderr(level: int, form: str) -> None:
    """Let the standard library's logging write to standard error, each record on a line.

    Args:
        form: as ``logging.Formatter`` takes it; a traceback keeps its lines.
    """
    import logging

    class Formatter(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
            return one_line(super().formatMessage(record))

        def format(self, record: logging.LogRecord) -> str:
            return plain_text.lines(super().format(record))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(form))
    logging.basicConfig(handlers=[handler], level=level)


def clear() -> None:
    """Empty the terminal at standard output."""
    sys.stdout.write(_CLEAR)


def progress() -> Callable[[str], None]:
    """Return what shows the step at hand at standard error, in one line that is wiped at the end.

    Only a terminal is shown it.
    """
    stream = sys.stderr
    if not stream.isatty():
        return lambda text: None

    def show(text: str) -> None:
        stream.write(_WIPE_LINE)
        _write(stream, one_line(text)[:_MOST_PROGRESS])
        stream.flush()

    return show


def draw(what: RenderableType) -> None:
    """Draw a table or a styled line of rich on standard output, which is a terminal.

    Colours are rich's own; every character between them is looked at like any other.
    """
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console(file=sys.stdout, highlight=False)
    segments = [
        Segment(plain_text.lines(one.text), one.style)
        for one in console.render(what)
        if not one.control
    ]
    with console.capture() as drawn:
        console.print(Segments(segments), end="")
    _write(sys.stdout, drawn.get())


def draw_line(text: str, style: str = "") -> None:
    """Write one line to standard output, in a style of rich where that is a terminal.

    There a line that is too long goes on indented, so that no part of it stands where one begins.
    """
    if not is_terminal():
        emit(text)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout)
    parts = Text(one_line(text), style=style).wrap(console, console.width - len(_HANGING))
    draw(Text(f"\n{_HANGING}").join(parts))


def _joined(lines: tuple[str, ...]) -> str:
    cleaned = ("\t".join(map(one_line, line.split("\t"))) for line in lines or ("",))
    return "".join(f"{line}\n" for line in cleaned)


def _write(stream: TextIO, text: str) -> None:
    """Write what is clean; what the terminal's encoding lacks is shown as ``\\u``-escapes."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _show_traceback(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """An unknown exception stays loud, but the texts in it steer nothing."""
    from traceback import format_exception

    for part in format_exception(kind, error, traceback):
        say(*part.rstrip("\n").split("\n"))
