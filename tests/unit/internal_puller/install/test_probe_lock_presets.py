"""Probing what is served, the host's lock, and what presets fill in."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from internal_puller.install import probe
from internal_puller.install.lock import installation_lock
from internal_puller.install.presets import check_target, probe_points, resolve, stand_in
from internal_puller.install.probe import await_leaf, look
from internal_puller.outbox.look import Answer, Look, shows
from internal_puller.settings.targets import ProbePoint, Target
from shared.contract.errors import ConfigurationError, InstallBusy
from tests.unit.internal_puller.install.helpers import NAME, Clock, copy_server, material, put

ROOT = Path(__file__).parents[4]


@contextlib.contextmanager
def raw_server(answer: bytes | None) -> Iterator[ProbePoint]:
    """Accept, send some bytes or nothing, and keep the connection."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    if answer is not None:
                        connection.sendall(answer)

        thread = threading.Thread(target=accept)
        thread.start()
        yield ProbePoint("127.0.0.1", listener.getsockname()[1], NAME)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


def test_closed_port_is_an_answer_not_an_exception() -> None:
    served = look(ProbePoint("127.0.0.1", 1, NAME))
    assert (served.leaf_sha256, served.answer) == (None, Answer.NONE)
    assert "refused" in served.describe()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\xff\xff"])
def test_server_that_speaks_no_tls(answer: bytes) -> None:
    with raw_server(answer) as point:
        served = look(point, timeout=0.5)
    assert served.leaf_sha256 is None
    assert served.why


def test_silent_server_takes_no_more_than_the_timeout() -> None:
    begun = time.monotonic()
    with raw_server(None) as point:
        assert "timed out" in look(point, timeout=0.3).describe()
    assert time.monotonic() - begun < 3


def test_name_that_does_not_resolve() -> None:
    seen = look(ProbePoint("no-such-host.invalid", 443, NAME), timeout=2)
    assert seen.answer == Answer.NOT_KNOWN


def test_leaf_is_compared(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "live")
    put(target, 1)
    with copy_server(tmp_path, target.directory / "current") as server:
        subprocess.run(server.reload_command, check=True)
        served = look(server.point)
        assert served.leaf_sha256 == material(1).leaf_sha256
        assert served.not_after == material(1).not_after


def test_workers_change_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One good answer between old ones is not enough; some in a row are."""
    answers = iter([False, True, False, True, True, False, True, True, True])
    asked = 0

    def scripted(point: ProbePoint) -> Look:
        nonlocal asked
        asked += 1
        leaf = "aa" if next(answers) else "bb"
        return Look(point.address, point.port, point.sni, Answer.PROVEN, leaf, 1)

    monkeypatch.setattr(probe, "look", scripted)
    clock = Clock()
    points = (ProbePoint("127.0.0.1", 443, NAME),)
    served = await_leaf(points, "aa", 60, clock=clock, sleep=clock.sleep)
    assert shows(served, "aa")
    assert asked == 9


def test_waiting_is_bounded() -> None:
    clock = Clock()
    served = await_leaf(
        (ProbePoint("127.0.0.1", 1, NAME),), "aa", 5, clock=clock, sleep=clock.sleep
    )
    assert not shows(served, "aa")
    assert 5 <= clock.seconds < 6
    assert await_leaf((), "aa", 5, clock=clock, sleep=clock.sleep) == ()


# --- presets ---------------------------------------------------------------------------------


def test_wildcard_is_probed_by_a_name_that_it_covers() -> None:
    assert stand_in("*.intra.example.com") == "any.intra.example.com"
    target = Target("w", ("*.a.example.com", "a.example.com"), Path("/srv/x"), preset="nginx")
    assert probe_points(target) == (
        ProbePoint("127.0.0.1", 443, "any.a.example.com"),
        ProbePoint("127.0.0.1", 443, "a.example.com"),
    )
    assert probe_points(dataclasses.replace(target, probe=())) == ()
    assert probe_points(dataclasses.replace(target, preset="none")) == ()


@pytest.mark.parametrize(
    ("preset", "extra"), [("nginx", ()), ("apache", ()), ("haproxy", ("combined",)), ("none", ())]
)
def test_presets(tmp_path: Path, preset: str, extra: tuple[str, ...]) -> None:
    commands = {"test_command": ("true",), "reload_command": ("true", "x")}
    target = Target(NAME, (NAME,), tmp_path / "live", preset=preset, **commands)
    plan = resolve(target)
    assert plan.formats == ("fullchain", "chain", "cert", "privkey", *extra)
    assert (plan.test_command, plan.reload_command) == (("true",), ("true", "x"))
    silent = dataclasses.replace(target, test_command=(), reload_command=(), formats=("combined",))
    plan = resolve(silent)
    assert (plan.test_command, plan.reload_command, plan.formats) == ((), (), ("combined",))


@pytest.mark.parametrize(
    ("preset", "able"),
    [
        *((one, True) for one in ("haproxy", "postfix", "none")),
        *((one, False) for one in ("nginx", "apache", "caddy", "dovecot", "postgresql")),
    ],
)
def test_the_one_file_is_for_presets_that_open_it_once(
    tmp_path: Path, preset: str, able: bool
) -> None:
    target = Target(
        *(NAME, (NAME,), tmp_path / "live"),
        preset=preset,
        test_command=(),
        reload_command=(),
        layout="copy",
    )
    if able:
        assert resolve(target).formats == ("combined",)
        return
    with pytest.raises(
        ConfigurationError, match=f"the preset {preset} opens certificate"
    ) as caught:
        resolve(target)
    assert "combined.pem: haproxy, postfix" in str(caught.value.do)


def test_check_target_makes_the_directory_or_says_why_not(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "a/b/live")
    check_target(target)
    assert target.directory.is_dir()
    with pytest.raises(ConfigurationError, match="no-such-command"):
        check_target(dataclasses.replace(target, reload_command=("no-such-command",)))


# --- lock ------------------------------------------------------------------------------------


def test_second_installation_leaves_politely(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with installation_lock(path):
        with pytest.raises(InstallBusy, match=str(path)), installation_lock(path):
            raise AssertionError
        clock = Clock()
        waiting = installation_lock(path, wait=3, clock=clock, sleep=clock.sleep)
        with pytest.raises(InstallBusy), waiting:
            raise AssertionError
        assert 3 <= clock.seconds < 4
    with installation_lock(path):
        pass


def test_second_installation_waits_if_it_may(tmp_path: Path) -> None:
    path, holding, order = tmp_path / "lock", threading.Event(), list[str]()

    def first() -> None:
        with installation_lock(path):
            holding.set()
            order.append("first")
            threading.Event().wait(0.2)
            order.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    assert holding.wait(10)
    with installation_lock(path, wait=10):
        order.append("second")
    thread.join()
    assert order == ["first", "first ends", "second"]


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; "
        "from internal_puller.install.lock import installation_lock as lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(300)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InstallBusy), installation_lock(path):
            raise AssertionError
        holder.kill()
    with installation_lock(path):
        pass


def test_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(ConfigurationError, match="cannot be opened"),
        installation_lock(tmp_path / "link"),
    ):
        raise AssertionError
    assert not (tmp_path / "victim").exists()
