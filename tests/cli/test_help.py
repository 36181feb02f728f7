"""Every command of both sides explains itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from external_agent.cli import app as agent
from internal_puller.commands.app import app as puller


def _commands(app: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for command in app.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from _commands(group.typer_instance, (*path, str(group.name or _named(group))))


def _named(group: object) -> str:
    return str(group.typer_instance.info.name)


@pytest.mark.parametrize(
    ("app", "words"),
    [(app, words) for app in (agent, puller) for words in _commands(app)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_help(app: typer.Typer, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"], env={"TERM": "xterm", "COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output
