"""The commands of targets, asked for by the service and run by a unit of root's."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from internal_puller.commands.app import app
from internal_puller.install import as_root, local_socket
from internal_puller.install.as_root import Request
from internal_puller.install.perform import Answer, Step, perform
from internal_puller.install.presets import resolve
from internal_puller.install.server import Running
from internal_puller.settings import account
from internal_puller.settings.presets.catalogue import beside
from internal_puller.settings.targets import Target, save_targets
from shared.contract.errors import ConfigurationError
from shared.host import commands, trusted_file
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


@contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    """Let descriptor 0 be a pipe with this in it."""
    before = os.dup(0)
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    os.dup2(read, 0)
    os.close(read)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


REQUEST = Request("nginx", Step.RELOAD, ((Path("/srv/tls"), 7), (Path("/srv/other"), 9)))
ASKED = (
    b'{"members":[{"directory":"/srv/tls","generation":7},{"directory":"/srv/other","generation":9}'
    b'],"server":"nginx","step":"reload"}'
)


@pytest.mark.parametrize("running", [None, *Running])
@pytest.mark.parametrize(("ok", "ended"), [(True, True), (False, True), (False, False)])
def test_there_and_back(tmp_path: Path, running: Running | None, ok: bool, ended: bool) -> None:
    wanted = Answer(CommandResult(ok, "ended somehow", "line\n“two”\n", ended), running)
    seen = []

    def run(request: Request) -> Answer:
        seen.append(request)
        return wanted

    with serving(tmp_path / "socket", as_root.answer(ASKED, run)) as asked:
        got = as_root.ask(REQUEST, 5.0, tmp_path / "socket")
    assert (got, asked, seen) == (wanted, [ASKED], [REQUEST])


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"no JSON", b'{"ok":1}', b"x" * 100_000),
        b'{"ok":true,"how":"","tail":"","running":"perhaps"}',
    ],
)
def test_an_answer_that_is_none(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_socket, "START_SECONDS", -1.0)  # for what closes without a word
    with serving(tmp_path / "socket", answer):
        got = as_root.ask(REQUEST, 5.0, tmp_path / "socket")
    assert not got.result.ok and not got.result.ended and "see its journal" in got.result.how
    assert got.running is None


def test_nobody_listens(tmp_path: Path) -> None:
    got = as_root.ask(REQUEST, 5.0, tmp_path / "socket").result
    assert not got.ok and not got.ended and "could not be asked for" in got.how


def request_of(**changes: object) -> bytes:
    members = [{"directory": "/srv", "generation": 1}]
    return json.dumps({"server": "nginx", "step": "test", "members": members} | changes).encode()


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"[]",
        request_of(step="rm"),
        request_of(step="stop"),
        request_of(argv=["rm"]),
        request_of(unit="ssh"),
        request_of(members=["/srv"]),
        request_of(members=[{"directory": "/srv", "generation": -1}]),
        request_of(members=[{"directory": "/srv", "generation": 1, "unit": "ssh"}]),
        b" " * (local_socket.MAX_REQUEST + 1),
    ],
)
def test_a_request_that_is_none_runs_nothing(request_: bytes) -> None:
    def run(_: Request) -> Answer:
        raise AssertionError("it ran")

    assert json.loads(as_root.answer(request_, run))["ok"] is None


def test_what_is_refused_is_said() -> None:
    def run(_: Request) -> Answer:
        raise ConfigurationError("There is no target in /srv.")

    assert json.loads(as_root.answer(request_of(), run)) == {
        "ok": None,
        "how": "was not run: There is no target in /srv.",
        "tail": "",
        "running": None,
    }


@dataclasses.dataclass
class Unit:
    """The command that the unit runs, with targets that it may be asked about."""

    base: Path
    targets: list[Target]

    def asked(
        self, *places: Path | str, server: str = "web", step: str = "test"
    ) -> dict[str, object]:
        save_targets(self.base / "targets.toml", self.targets)
        members = [{"directory": str(place), "generation": 7} for place in places]
        with standard_input(request_of(server=server, step=step, members=members)):
            done = CliRunner().invoke(app, ["serve-commands"])
        answer: dict[str, object] = json.loads(done.stdout)
        return answer


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    monkeypatch.setenv("RELAY_PULLER_TARGETS_FILE", str(tmp_path / "targets.toml"))
    return Unit(tmp_path, [])


def test_the_command_runs_what_the_targets_file_says(unit: Unit, tmp_path: Path) -> None:
    place, told = tmp_path / "live", tmp_path / "told"
    command = ("sh", "-c", f'echo "$RELAY_DIRECTORY $RELAY_GENERATION" > {told}')
    unit.targets = [Target(NAME, (NAME,), place, test_command=command, reload_command=())]
    name = str(place)
    good = {"ok": True, "how": "ended with exit code 0", "tail": "", "running": None}
    assert unit.asked(place, server=name) == good
    assert told.read_text() == f"{place}/current 7\n"
    assert "has no reload command here" in str(unit.asked(place, server=name, step="reload")["how"])
    assert "There is no target in /etc" in str(unit.asked("/etc", server=name)["how"])


def test_a_group_is_told_of_its_members_in_their_order(
    unit: Unit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    names = "$RELAY_CERTIFICATE|$RELAY_GENERATION|$RELAY_DIRECTORY|$RELAY_KEY_FILE"
    script = tmp_path / "nginx"
    script.write_text(f'#!/bin/sh\necho "{names}" > {told}\n')
    script.chmod(0o755)
    monkeypatch.setattr(commands, "SEARCH_PATH", f"{tmp_path}:{commands.SEARCH_PATH}")
    one, two = tmp_path / "one", tmp_path / "two"
    unit.targets = [Target(each.name, (NAME,), each, preset="nginx") for each in (one, two)]
    assert unit.asked(two, one, server="nginx")["ok"] is True
    wanted = ["two one", "7 7", f"{two}/current {one}/current"]
    assert told.read_text().strip().split("|") == [
        *wanted,
        f"{two}/current/privkey.pem {one}/current/privkey.pem",
    ]


def test_a_server_with_many_certificates_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the unit does it, request and all; the lists of its command have no room in Linux."""
    told = tmp_path / "told"
    script = tmp_path / "nginx"
    script.write_text(f'#!/bin/sh\necho "${{RELAY_DIRECTORY-none}}" > {told}\n')
    script.chmod(0o755)
    monkeypatch.setattr(commands, "SEARCH_PATH", f"{tmp_path}:{commands.SEARCH_PATH}")
    plan = resolve(Target(NAME, (NAME,), Path("/etc/split-horizon-relay/tls"), preset="nginx"))
    many = [
        replace(plan, target=replace(plan.target, directory=plan.target.directory / f"{n:0>60}"))
        for n in range(1500)
    ]

    def run(request: Request) -> Answer:
        return perform(request.step, plan.servers[0], [(one, 7) for one in many])

    members = tuple((one.target.directory, 7) for one in many)
    with serving(tmp_path / "socket", b"") as asked, pytest.MonkeyPatch.context() as patched:
        patched.setattr(local_socket, "START_SECONDS", -1.0)
        as_root.ask(Request("nginx", Step.TEST, members), 5.0, tmp_path / "socket")
    answer = json.loads(as_root.answer(asked[0], run))
    assert answer["ok"] is True, answer
    assert told.read_text() == "none\n"
    del many[500:]
    assert run(Request("nginx", Step.TEST, ())).result.ok
    assert len(told.read_text().split()) == 500


def test_two_thousand_of_the_longest_paths_are_a_request() -> None:
    longest = "/" + "a" * 4095
    members = [{"directory": longest, "generation": 10**9}] * 2000
    wanted = Answer(CommandResult(True, "ended with exit code 0", ""))
    seen = []

    def run(request: Request) -> Answer:
        seen.append(len(request.members))
        return wanted

    assert json.loads(as_root.answer(request_of(members=members), run))["ok"] is True
    assert json.loads(as_root.answer(request_of(members=members * 2), run))["ok"] is None
    assert seen == [2000]


def test_what_is_not_one_group_is_refused(unit: Unit, tmp_path: Path) -> None:
    told, one, two = (tmp_path / name for name in ("told", "one", "two"))
    touch = ("touch", str(told))
    unit.targets = [
        Target(NAME, (NAME,), one, test_command=touch),
        Target(NAME, (NAME,), two, test_command=touch),
        Target(NAME, (NAME,), tmp_path / "far", test_command=touch, ssh="root@other.example.com"),
    ]
    for places, server in (
        ((one, two), str(one)),
        ((one,), str(two)),
        ((one,), "nginx"),
        ((), str(one)),
        ((tmp_path / "far",), str(tmp_path / "far")),
    ):
        answer = unit.asked(*places, server=server)
        assert answer["ok"] is None and "there is no one server" in str(answer["how"]), answer
    assert not told.exists()


def test_a_preset_of_ones_own_is_read_as_the_targets_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands are run by root, so only root may be able to write its file."""
    told, own = tmp_path / "told", tmp_path / "presets.d" / "mine.toml"
    own.parent.mkdir()
    command = json.dumps(["sh", "-c", f"echo $RELAY_GENERATION > {told}"])
    own.write_text(
        f"title = 'Mine'\nprograms = []\nunits = []\ntest = {command}\nreload = ['true']\n"
        "without_systemd = ['true']\nrestarts = false\npatience = 5\nformats = ['combined']\n"
        "combined = []\nprobe = []\nreads_as = ''\nhints.any = ['{current}']\n"
    )
    file = tmp_path / "targets.toml"
    place = tmp_path / "live"
    save_targets(file, [Target(NAME, (NAME,), place, preset="mine", catalogue=beside(file))])
    monkeypatch.setenv("RELAY_PULLER_TARGETS_FILE", str(file))
    members = [{"directory": str(place), "generation": 7}]
    request = json.dumps({"server": "mine", "step": "test", "members": members}).encode()
    with standard_input(request):
        assert json.loads(CliRunner().invoke(app, ["serve-commands"]).stdout)["ok"] is True
    assert told.read_text() == "7\n"
    told.unlink()
    own.chmod(0o622)
    with standard_input(request):
        answer = json.loads(CliRunner().invoke(app, ["serve-commands"]).stdout)
    assert "can be changed by other users" in answer["how"]
    assert not told.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="whom root trusts")
def test_root_trusts_its_service_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "ACCOUNT", "nobody")  # stands in for the service's account
    nobody = 65534
    assert account.is_trusted(0) and account.is_trusted(nobody)
    assert not account.is_trusted(1)
    assert not account.is_service()
    monkeypatch.setattr(account, "ACCOUNT", "no-such-account")
    assert not account.is_trusted(nobody)


def test_who_is_closed_unanswered_asks_again(tmp_path: Path) -> None:
    """More at once than systemd lets in: the connection is closed, and nothing was run."""
    wanted = Answer(CommandResult(True, "ended with exit code 0", ""))
    place = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(9999)
                connection.sendall(as_root.answer(ASKED, lambda _: wanted))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        got = as_root.ask(REQUEST, 5.0, place)
        thread.join(5)
    assert got == wanted


def test_a_request_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_socket, "READ_SECONDS", 0.3)
    read, write = os.pipe()
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.05):
            os.write(write, b" ")

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with pytest.raises(ConfigurationError, match="did not end within"):
        local_socket.read_request(read)
    over.set()
    thread.join(5)
    os.close(write)
    assert local_socket.read_request(read).strip() == b""
    os.close(read)


def test_no_more_is_read_than_a_request_has() -> None:
    most = local_socket.MAX_REQUEST
    with Path("/dev/zero").open("rb") as endless:
        assert most < len(local_socket.read_request(endless.fileno())) < most + 200_000


# --- root does what a file says only if that is root's ----------------------------------------


FAULTS: dict[str, Callable[[Path], None]] = {
    "file mode": lambda file: file.chmod(0o660),
    "file of the account": lambda file: os.chown(file, 65534, -1),
    "directory mode": lambda file: file.parent.chmod(0o777),
    "directory of the account": lambda file: os.chown(file.parent, 65534, -1),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="whose files they are")
@pytest.mark.parametrize("name", ["targets.toml", "puller.toml"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_unit_runs_nothing_from_files_that_anybody_but_root_could_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: str
) -> None:
    """The account's own files too, which root believes for keys."""
    monkeypatch.setattr(trusted_file, "ACCOUNTS", ("nobody",))
    told, place = tmp_path / "told", tmp_path / "live"
    etc, elsewhere = tmp_path / "etc", tmp_path / "elsewhere"
    targets = (elsewhere if name == "puller.toml" else etc) / "targets.toml"
    save_targets(targets, [Target(NAME, (NAME,), place, test_command=("touch", str(told)))])
    puller = (etc if name == "puller.toml" else elsewhere) / "puller.toml"
    puller.parent.mkdir(exist_ok=True)
    puller.write_text(f'targets_file = "{targets}"\n')
    monkeypatch.setenv("RELAY_PULLER_CONFIG", str(puller))
    request = request_of(server=str(place), members=[{"directory": str(place), "generation": 7}])
    etc.chmod(0o755)
    with standard_input(request):
        assert CliRunner().invoke(app, ["serve-commands"]).exit_code == 0
    assert told.exists()
    told.unlink()
    FAULTS[fault](etc / name)
    with standard_input(request):
        done = CliRunner().invoke(app, ["serve-commands"])
    assert "can be changed by other users" in json.loads(done.stdout)["how"]
    assert not told.exists()
