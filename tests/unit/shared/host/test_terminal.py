"""The one way to a terminal: what it lets pass, and that there is no other."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from shared.contract.errors import ConfigurationError
from shared.host import terminal
from tests.unit.shared.contract.test_plain_text import STEERING

ROOT = Path(__file__).resolve().parents[4]
EVIL = "".join(STEERING.values())


class Stream(io.StringIO):
    """Stands for a terminal, or for a pipe, of any encoding."""

    def __init__(self, *, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty, self._encoding = tty, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._tty


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, **of: Any) -> Stream:
    """Return what stands for a stream of ``sys`` from now on; a fixture's would be put back."""
    stream = Stream(**of)
    monkeypatch.setattr(sys, name, stream)
    return stream


def test_one_argument_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = replaced(monkeypatch, "stdout")
    terminal.emit(EVIL, "second")
    terminal.emit()
    lines = out.getvalue().split("\n")
    assert (len(lines), lines[1:]) == (4, ["second", "", ""])
    assert lines[0].replace("\t", "").isprintable()


def test_columns_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    out = replaced(monkeypatch, "stdout")
    terminal.emit("a\tb\x1b[2J")
    assert out.getvalue() == "a\tb?[2J\n"


def test_explanations_go_to_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (replaced(monkeypatch, name) for name in ("stdout", "stderr"))
    terminal.say("a\x9bb")
    terminal.explain(ConfigurationError("what\n", do="do\r"))
    assert out.getvalue() == ""
    assert err.getvalue() == "a?b\nwhat \nNothing was changed.\ndo \n"


def test_json_is_json_in_printable_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    out = replaced(monkeypatch, "stdout")
    terminal.emit_json({EVIL: [EVIL]})
    assert json.loads(out.getvalue()) == {EVIL: [EVIL]}
    assert out.getvalue().isascii()
    assert out.getvalue().replace("\n", "").isprintable()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_a_terminal_cannot_show_is_no_error(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    stream = replaced(monkeypatch, "stdout", encoding=encoding)
    terminal.emit("証明書 → é")
    stream.getvalue().encode(encoding)
    assert "\\u8a3c" in stream.getvalue()


def drawn(stream: Stream) -> str:
    """Return what is left without the colours of rich: SGR, and nothing else of ECMA-48."""
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_table_lets_nothing_pass_but_its_colours(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    stream = replaced(monkeypatch, "stdout", tty=True, encoding=encoding)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    table = Table(title=EVIL, style="red")
    table.add_column(EVIL)
    table.add_row(EVIL)
    terminal.draw(table)
    terminal.draw_line(EVIL, "bold")
    stream.getvalue().encode(encoding)
    assert "\x1b[" in stream.getvalue()
    assert all(one.isprintable() for one in drawn(stream).split("\n"))


def test_progress_is_one_line_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = replaced(monkeypatch, "stderr", tty=True)
    show = terminal.progress()
    show(EVIL)
    show("")
    first, second = stream.getvalue().split("\r\x1b[K")[1:]
    assert first.isprintable()
    assert second == ""


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    err = replaced(monkeypatch, "stderr")
    terminal.progress()("a step")
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("typed", "default", "answer"),
    [
        ("y\n", False, True),
        ("YES\n", False, True),
        ("n\n", True, False),
        ("\n", True, True),
        ("\n", False, False),
        ("", True, False),
        ("what\ny\n", False, True),
    ],
)
def test_a_question(
    monkeypatch: pytest.MonkeyPatch, typed: str, default: bool, answer: bool
) -> None:
    err = replaced(monkeypatch, "stderr")
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert terminal.ask("Really\x1b[2J?", default=default) is answer
    assert err.getvalue().startswith(f"Really?[2J? [{'Y/n' if default else 'y/N'}]: ")


@pytest.fixture
def no_handlers() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("no_handlers")
def test_a_record_is_one_line_but_for_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger().handlers.clear()  # pytest's own
    logs = replaced(monkeypatch, "stderr")
    terminal.log_to_stderr(logging.INFO, "%(levelname)s %(message)s")
    logging.getLogger("x").warning("from a peer: %s", EVIL)
    assert logs.getvalue().count("\n") == 1
    assert logs.getvalue()[:-1].isprintable()
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.getLogger("x").exception("unexpected")
    assert "Traceback" in logs.getvalue()
    assert all(one.isprintable() for one in logs.getvalue().split("\n"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_bug_stays_loud_and_steers_nothing(encoding: str) -> None:
    program = (
        "from shared.host.terminal import guard; guard(); print('\\u2192')\n"
        "raise ValueError('needs\\x1b[2J\\x9b\\u202e')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        env={"PYTHONIOENCODING": encoding},
        check=False,
    )
    text = done.stderr.decode(encoding)
    assert done.returncode == 1
    assert "Traceback" in text
    assert "ValueError: needs?[2J??" in text
    assert all(one.isprintable() for one in text.split("\n"))


# --- no other way ------------------------------------------------------------------------------

ELSEWHERE = {
    "shared/host/terminal.py": "it is the one",
    "shared/host/supervisor.py": "a process without the package; it writes to a pipe of ours",
    "external_agent/present/alerts/apprise_process.py": "a child; its standard error is read by us",
    "external_agent/settings/logs.py": "every value passes its last processor",
    "internal_puller/commands/serving.py": "its standard output is a socket: one JSON object",
    "internal_puller/install/probe/handshake.py": "a child; one JSON object, read by us",
}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
NAMES = {"print", "Console", "getpass", "StreamHandler", "basicConfig"}
OF_TYPER = {"echo", "secho", "confirm", "prompt", "progressbar", "pause", "launch"}


def writers(path: Path) -> set[str]:
    """Return by what a module could reach a terminal."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner, name = node.value.id, node.attr
            if owner == "sys" and name in STREAMS:
                found.add(f"sys.{name}")
            if owner in ("typer", "click") and name in OF_TYPER:
                found.add(f"{owner}.{name}")
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            found.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found |= {node.func.id} & NAMES
        if isinstance(node, ast.ImportFrom):
            names = {one.name for one in node.names}
            if node.module == "sys":
                found |= names & STREAMS
            if node.module in ("typer", "click"):
                found |= names & OF_TYPER
            found |= names & NAMES
    return found


def modules() -> list[str]:
    return sorted(
        str(path.relative_to(ROOT))
        for package in ("shared", "external_agent", "internal_puller")
        for path in (ROOT / package).rglob("*.py")
    )


def test_no_module_writes_to_a_terminal_by_itself() -> None:
    found = {name: writers(ROOT / name) for name in modules()}
    assert {name: by for name, by in found.items() if by and name not in ELSEWHERE} == {}
    assert {name for name in ELSEWHERE if not found[name]} == {"shared/host/supervisor.py"}


@pytest.mark.parametrize(
    "line",
    [
        "print('x')",
        "import sys; sys.stdout.write('x')",
        "from sys import stderr",
        "import typer; typer.echo('x')",
        "from click import confirm",
        "from rich.console import Console",
        "import rich.console; rich.console.Console()",
        "import logging; logging.basicConfig()",
    ],
)
def test_each_kind_of_writer_is_found(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(line)
    assert writers(path)
