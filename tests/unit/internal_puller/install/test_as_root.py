"""The commands of targets, asked for by the service and run by a unit of root's."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from internal_puller.commands.app import app
from internal_puller.install import as_root
from internal_puller.settings import account
from internal_puller.settings.targets import Target, save_targets
from shared.contract.errors import ConfigurationError
from shared.host.commands import CommandResult

NAME = "www.intra.example.com"


@contextmanager
def serving(place: Path, answer: bytes) -> Iterator[list[bytes]]:
    """One connection, which gets this answer; what was asked is in the list."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.makefile("rb").read())
                with contextlib.suppress(BrokenPipeError):  # who was told too much hangs up
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(5)


def test_there_and_back(tmp_path: Path) -> None:
    wanted = CommandResult(False, "ended with exit code 1", "line\n“two”\n")
    seen = []

    def run(*asked: object) -> CommandResult:
        seen.append(asked)
        return wanted

    request = b'{"directory":"/srv/tls","generation":7,"step":"reload"}'
    with serving(tmp_path / "socket", as_root.answer(request, run)) as asked:
        got = as_root.ask(Path("/srv/tls"), "reload", 7, 5.0, tmp_path / "socket")
    assert (got, asked, seen) == (wanted, [request], [(Path("/srv/tls"), "reload", 7)])


@pytest.mark.parametrize("answer", [b"", b"no JSON", b'{"ok":1}', b"x" * 100_000])
def test_an_answer_that_is_none(tmp_path: Path, answer: bytes) -> None:
    with serving(tmp_path / "socket", answer):
        got = as_root.ask(Path("/srv"), "test", 1, 5.0, tmp_path / "socket")
    assert not got.ok and "see its journal" in got.how


def test_nobody_listens(tmp_path: Path) -> None:
    got = as_root.ask(Path("/srv"), "test", 1, 5.0, tmp_path / "socket")
    assert not got.ok and "could not be asked for" in got.how


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"[]",
        b'{"directory":"/srv","generation":1,"step":"rm"}',
        b'{"directory":"/srv","generation":-1,"step":"test"}',
        b'{"directory":"/srv","generation":1,"step":"test","argv":["rm"]}',
        b" " * (as_root.MAX_REQUEST + 1),
    ],
)
def test_a_request_that_is_none_runs_nothing(request_: bytes) -> None:
    def run(*_: object) -> CommandResult:
        raise AssertionError("it ran")

    assert json.loads(as_root.answer(request_, run))["ok"] is False


def test_what_is_refused_is_said() -> None:
    def run(*_: object) -> CommandResult:
        raise ConfigurationError("There is no target in /srv.")

    request = b'{"directory":"/srv","generation":1,"step":"test"}'
    told = json.loads(as_root.answer(request, run))
    assert told == {"ok": False, "how": "was not run: There is no target in /srv.", "tail": ""}


def test_the_command_runs_what_the_targets_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "live"
    told = tmp_path / "told"
    command = ("sh", "-c", f'echo "$RELAY_DIRECTORY $RELAY_GENERATION" > {told}')
    save_targets(
        tmp_path / "targets.toml",
        [Target(NAME, (NAME,), place, test_command=command, reload_command=())],
    )
    monkeypatch.setenv("RELAY_PULLER_TARGETS_FILE", str(tmp_path / "targets.toml"))

    def asked(**changes: object) -> dict[str, object]:
        request = {"directory": str(place), "step": "test", "generation": 7} | changes
        done = CliRunner().invoke(app, ["serve-commands"], input=json.dumps(request).encode())
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    assert asked() == {"ok": True, "how": "ended with exit code 0", "tail": ""}
    assert told.read_text() == f"{place}/current 7\n"
    assert "has no reload command here" in str(asked(step="reload")["how"])
    assert "There is no target in /etc" in str(asked(directory="/etc")["how"])


@pytest.mark.skipif(os.geteuid() != 0, reason="whom root trusts")
def test_root_trusts_its_service_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "ACCOUNT", "nobody")  # stands in for the service's account
    nobody = 65534
    assert account.is_trusted(0) and account.is_trusted(nobody)
    assert not account.is_trusted(1)
    assert not account.acts_for_root()
    monkeypatch.setattr(account, "ACCOUNT", "no-such-account")
    assert not account.is_trusted(nobody)
