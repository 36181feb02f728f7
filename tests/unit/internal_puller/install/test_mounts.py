"""What a mount names is found in every process's table, and what could not be read is said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from internal_puller.commands.app import app
from internal_puller.install import mounts
from internal_puller.install.mounts import Mounted, look, mounted
from internal_puller.settings.targets import Target, save_targets
from tests.line import wait_until
from tests.unit.internal_puller.install.test_as_root import serving

NAME = "www.intra.example.com"
ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw"
PROC = "23 22 0:21 / /proc rw - proc proc rw"
TLS = Path("/srv/tls")
SEVEN, EIGHT = TLS / "generations/7", TLS / "generations/8"


class Proc:
    """A /proc of files: process 1, ourselves, and whom a test adds."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.add("self", ROOT, PROC)
        self.add(1, ROOT, PROC)
        (base / "self/status").write_text("CapEff:\t0000000000000000\n")

    def add(self, process: int | str, *lines: str, thread: int | str | None = None) -> Path:
        folder = self.base / str(process)
        task = folder / "task" / str(thread or process)
        task.mkdir(parents=True)
        for place in (task, folder):
            (place / "mountinfo").write_text("".join(f"{line}\n" for line in lines))
        return task / "mountinfo"

    def look(self, *directories: Path) -> Mounted:
        return look(directories or (TLS,), self.base)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


def bind(root: str, point: str = "/tls", device: str = "8:1") -> str:
    return f"90 22 {device} {root} {point} rw - ext4 /dev/vda rw"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (bind("/srv/tls/generations/7"), {SEVEN}),
        (bind("/srv/tls/generations/7/privkey.pem", "/key.pem"), {SEVEN}),
        (bind("/srv/tls/generations/7//deleted"), {SEVEN}),
        (bind("/srv/tls"), set()),
        (bind("/srv/tls/generations"), set()),
        (bind("/srv/tls-2/generations/7"), set()),
        (bind("/srv/tls/generations/7", device="8:2"), set()),
        (bind("/"), set()),
    ],
)
def test_what_a_mount_names(proc: Proc, line: str, named: set[Path]) -> None:
    proc.add(1234, ROOT, line)
    assert proc.look() == Mounted(frozenset(named), complete=True)


def test_two_generations_of_one_target_and_a_thread_apart(proc: Proc) -> None:
    proc.add(1234, ROOT, bind("/srv/tls/generations/7"))
    proc.add(1235, ROOT)
    proc.add(1235, ROOT, bind("/srv/tls/generations/8"), thread=1240)
    assert proc.look().paths == {SEVEN, EIGHT}


def test_a_file_system_of_its_own_and_names_with_a_space(proc: Proc) -> None:
    """The table has paths inside the file system, not where it is mounted."""
    for table in (proc.base / "self/mountinfo", proc.base / "1/mountinfo"):
        with table.open("a") as file:
            file.write(bind(r"/@data", r"/srv/my\040data", "8:5") + "\n")
    proc.add(1234, ROOT, bind(r"/@data/t\134ls/generations/7", device="8:5"))
    there = Path("/srv/my data/t\\ls")
    assert proc.look(there).paths == {there / "generations/7"}


@pytest.mark.parametrize("end", ["\r", "\v", "\x1c", "\x85", "\u2028"])
def test_a_name_that_any_user_may_mount_at_ends_no_line(proc: Proc, end: str) -> None:
    proc.add(40, bind("/", f"/srv/eve/x{end}y"), bind("/srv/tls/generations/7"))
    assert proc.look() == Mounted(frozenset({SEVEN}), complete=True)


def test_as_process_1_sees_it_whatever_our_sandbox_hides(proc: Proc) -> None:
    (proc.base / "self/mountinfo").write_text(f"{ROOT}\n{bind('/', '/srv', '0:99')}\n{PROC}\n")
    proc.add(1234, ROOT, bind("/srv/tls/generations/7"))
    assert proc.look().paths == {SEVEN}


def test_a_link_on_the_way(proc: Proc, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    proc.add(1234, ROOT, bind(f"{tmp_path}/real/generations/7"))
    assert proc.look(tmp_path / "link").paths == {tmp_path / "link/generations/7"}


def test_who_has_ended_is_no_gap(proc: Proc) -> None:
    (proc.base / "4321/task/4321").mkdir(parents=True)
    assert proc.look().complete


def test_a_process_that_is_not_shown_is_a_gap(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = proc.add(1234, ROOT, bind("/srv/tls/generations/7"))
    read = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path == hidden:
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    found = proc.look()
    assert not found.complete
    assert found.may_name(SEVEN), "it might be mounted"


@pytest.mark.parametrize(
    ("options", "capabilities", "complete"),
    [
        ("rw,hidepid=invisible", 0, False),
        ("rw,hidepid=2", 0, False),
        ("rw,hidepid=2", 1 << 19, True),
        ("rw,hidepid=0", 0, True),
        ("rw,hidepid=off,gid=4", 0, True),
    ],
)
def test_where_processes_are_hidden(
    proc: Proc, options: str, capabilities: int, complete: bool
) -> None:
    (proc.base / "self/mountinfo").write_text(f"{ROOT}\n{PROC.removesuffix('rw')}{options}\n")
    (proc.base / "self/status").write_text(f"CapEff:\t{capabilities:016x}\n")
    assert proc.look().complete is complete


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert look([TLS], tmp_path) == Mounted(frozenset(), complete=False)


def test_only_what_is_known_not_to_be_mounted_may_go() -> None:
    assert not Mounted(frozenset({SEVEN}), complete=True).may_name(EIGHT)
    assert Mounted(frozenset({SEVEN}), complete=True).may_name(SEVEN)
    assert Mounted(frozenset(), complete=False).may_name(SEVEN)


# --- a real mount in another process ----------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Target:
    made = Target(NAME, (NAME,), tmp_path / "my tls")
    for name in ("7", "8"):
        (made.directory / "generations" / name).mkdir(parents=True)
    (made.directory / "current").symlink_to("generations/7")
    return made


@pytest.fixture
def held(target: Target, tmp_path: Path) -> Iterator[Path]:
    """A process elsewhere that has mounted ``current``, as a container does."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "inside").mkdir()
    script = 'mount --bind "$1" "$2" && echo mounted && exec sleep 600'
    with subprocess.Popen(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"),
            *(str(target.directory / "current"), str(tmp_path / "inside")),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        wait_until(process.stdout.readline, what="the mount")
        yield target.directory / "generations/7"
        process.kill()


def test_a_mount_in_another_namespace(target: Target, held: Path) -> None:
    found = mounted([target])
    assert found.paths == {held}
    assert found.complete


# --- the service asks -------------------------------------------------------------------------


def test_the_unit_tells_of_roots_targets_alone(
    target: Target, held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_targets(tmp_path / "targets.toml", [target])
    monkeypatch.setenv("RELAY_PULLER_TARGETS_FILE", str(tmp_path / "targets.toml"))
    told = json.loads(CliRunner().invoke(app, ["serve-mounts"]).stdout)
    assert told == {"complete": True, "directories": [str(target.directory)], "paths": [str(held)]}


def test_the_unit_answers_also_without_targets_that_it_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "targets.toml").write_text("nonsense")
    monkeypatch.setenv("RELAY_PULLER_TARGETS_FILE", str(tmp_path / "targets.toml"))
    done = CliRunner().invoke(app, ["serve-mounts"])
    assert json.loads(done.stdout) == {"complete": False, "directories": [], "paths": []}


def told(complete: bool = True, *paths: Path, directories: tuple[Path, ...] = (TLS,)) -> bytes:
    answer = {
        "complete": complete,
        "directories": [str(each) for each in directories],
        "paths": [str(each) for each in paths],
    }
    return json.dumps(answer).encode()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (told(True, SEVEN), Mounted(frozenset({SEVEN}), complete=True)),
        (told(False, SEVEN), Mounted(frozenset({SEVEN}), complete=False)),
        (told(True, Path("/other/generations/7")), Mounted(frozenset(), complete=True)),
        (told(directories=()), Mounted(frozenset(), complete=False)),
        (b"nonsense", Mounted(frozenset(), complete=False)),
        (b'{"complete": true}', Mounted(frozenset(), complete=False)),
    ],
)
def test_what_the_service_is_told(
    answer: bytes, found: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "is_service", lambda: True)
    monkeypatch.setattr(mounts, "SOCKET", tmp_path / "socket")
    target = Target(NAME, (NAME,), TLS)
    assert mounted([target]) == Mounted(frozenset(), complete=False), "no such unit"
    with serving(tmp_path / "socket", answer):
        assert mounted([target]) == found
