"""Machines as strangers have them: each tells once, in a sentence, what it lacks; real sshds."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import psutil
import pytest

from internal_puller.install import remote as remote_module
from internal_puller.install import remote_files, remote_settings
from internal_puller.install.remote import Remote, RemoteFile
from shared.contract.errors import StageFailed
from tests.lab.peers import require
from tests.line import wait_until
from tests.ssh_server import SSHD, Account, SshServer, ssh_server

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

FILES = {"fullchain.pem": RemoteFile(b"chain\n", 0o644), "privkey.pem": RemoteFile(b"key\n", 0o600)}
THERE = "/srv/tls"


@contextlib.contextmanager
def machine(
    base: Path, account: Account | None = None, **options: object
) -> Iterator[tuple[SshServer, Remote]]:
    """Run a machine that an account is made on."""
    if SSHD is None:
        require("sshd")
    if os.geteuid() != 0:
        pytest.skip("needs root: the account is in a mount namespace")
    base.mkdir(exist_ok=True)
    with ssh_server(base, options=options, account=account or Account()) as ssh:
        place = PurePosixPath(THERE)
        yield ssh, Remote(ssh.user, "127.0.0.1", ssh.port, place, ssh.key, ssh.known_hosts)


def put(remote: Remote, generation: str = "1") -> None:
    remote.upload(generation, FILES)
    remote.activate(generation, (generation,))


def refusal(remote: Remote, *words: str) -> StageFailed:
    """Return why nothing can be put there: one sentence with these words, and what to do."""
    with pytest.raises(StageFailed) as caught:
        put(remote)
    said = caught.value
    for word in (str(remote), *words):
        assert word in said.what, said.what
    assert said.do and said.do != StageFailed.do, said.do
    assert "\n" not in said.what and "Error" not in said.what, said.what
    assert said.exit_code == 9
    return said


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- what must work all the same ------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"Subsystem": "sftp internal-sftp -u 077"}, {}])
def test_a_strict_umask_there_changes_no_mode(tmp_path: Path, options: dict[str, str]) -> None:
    """Other accounts read the chain, and the directories on the way to it."""
    account = Account(setup="rmdir tls; chmod 777 /srv; echo umask 077 >home/.profile")
    with machine(tmp_path / "ssh", account, **options) as (ssh, remote):
        put(replace(remote, directory=PurePosixPath("/srv/deep/tls")))
        for place in ("/srv/deep", "/srv/deep/tls", "/srv/deep/tls/generations"):
            assert mode_of(ssh.inside(place)) == 0o755, place
        place = "/srv/deep/tls/generations/1"
        assert mode_of(ssh.inside(place)) == 0o755
        assert mode_of(ssh.inside(f"{place}/fullchain.pem")) == 0o644
        assert mode_of(ssh.inside(f"{place}/privkey.pem")) == 0o600


AWKWARD = ("printf", "%s|", "it's", 'a "b"', "c\\d\\\\e", "$HOME `id` !x", "*", "two\nlines", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_whatever_shell_the_account_has(tmp_path: Path, shell: str) -> None:
    with machine(tmp_path / "ssh", Account(shell=require(shell))) as (_, remote):
        done = remote.run(AWKWARD, 10, {"RELAY_DIRECTORY": "/srv/it's $here"})
        assert (done.ok, done.tail) == (True, "|".join((*AWKWARD[2:], "")))
        told = remote.run(
            ("sh", "-c", 'echo "$RELAY_DIRECTORY"; exit 7'), 10, {"RELAY_DIRECTORY": "a b"}
        )
        assert (told.how, told.tail) == ("ended with exit code 7", "a b\n")
        put(remote)


def test_a_login_file_that_prints_does_not_break_commands(tmp_path: Path) -> None:
    setup = "echo 'echo Welcome to the machine room' >home/.bashrc; chown relay home/.bashrc"
    with machine(tmp_path / "ssh", Account(shell="/bin/bash", setup=setup)) as (_, remote):
        put(remote)  # internal-sftp runs no shell
        done = remote.run(("echo", "fine"), 10)
        assert (done.ok, done.tail) == (True, "fine\n")


def test_an_environment_of_the_accounts_own(tmp_path: Path) -> None:
    """And an sshrc that prints; neither takes the place of what a command needs."""
    setup = """mkdir home/.ssh
        echo PATH=/usr/bin:/bin >home/.ssh/environment
        echo 'echo noise from sshrc' >home/.ssh/rc
        chown -R relay home"""
    options = {"PermitUserEnvironment": "yes"}
    with machine(tmp_path / "ssh", Account(setup=setup), **options) as (_, remote):
        put(remote)
        done = remote.run(("sh", "-c", "echo $PATH"), 10)
        assert done.tail == "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin\n"


def test_looking_changes_nothing_and_trying_leaves_nothing(tmp_path: Path) -> None:
    """What the doctor does, and a rehearsal; both say what an installation would."""
    with machine(tmp_path / "ssh") as (ssh, remote):
        remote.look()
        assert not list(ssh.inside(THERE).iterdir())
        remote.try_out()
        assert [path.name for path in ssh.inside(THERE).rglob("*")] == ["generations"]
        ssh.inside(THERE).chmod(0o777)
        for each in (remote.look, remote.try_out):
            with pytest.raises(StageFailed, match="can be changed by other users there"):
                each()
    account = Account(setup="mount -o remount,ro /srv")
    with machine(tmp_path / "ro", account) as (_, remote), pytest.raises(StageFailed) as caught:
        remote.try_out()
    assert "read-only" in caught.value.what


def test_a_home_that_does_not_exist(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh", Account(home="/srv/nowhere")) as (_, remote):
        put(remote)
        assert remote.run(("echo", "fine"), 10).tail == "fine\n"


def test_one_session_at_a_time(tmp_path: Path) -> None:
    """A kept connection gives way to another, for the end of an overdue command, too."""
    with machine(tmp_path / "ssh", MaxSessions=1) as (ssh, remote), remote.connected():
        put(remote)
        assert remote.run(("echo", "fine"), 10).ok
        started = time.monotonic()
        assert not remote.run(endless(), 1).ok
        assert time.monotonic() - started < 30
        wait_until(lambda: not alive(ssh), what="the end of the command")


def test_one_connection_for_all_that_is_done_there(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh") as (ssh, remote):
        with remote.connected():
            for name in ("one", "two", "three"):
                put(replace(remote, directory=PurePosixPath(f"{THERE}/{name}")))
            assert remote.run(("true",), 10).ok
        assert ssh.logins == 1
        put(remote)
        assert ssh.logins == 3, "without it, one for each"


def test_a_connection_that_is_lost_in_between_is_made_anew(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh") as (ssh, remote), remote.connected():
        put(remote, "1")
        subprocess.run(["pkill", "-9", "-f", f"^sshd: {ssh.user}"], check=True)
        put(remote, "2")
        assert remote.run(("true",), 10).ok
        assert ssh.inside(f"{THERE}/current").readlink() == Path("generations/2")


def endless() -> tuple[str, ...]:
    """Return a command that no TERM ends, nor what it begins; ``alive`` tells of both."""
    loop = "while :; do sleep 30; done"
    return ("sh", "-c", f"trap '' TERM; ({loop}) & echo $! $$ >{THERE}/pids; {loop}")


def alive(ssh: SshServer) -> list[str]:
    numbers = ssh.inside(f"{THERE}/pids").read_text().split()
    assert len(numbers) == 2
    return [number for number in numbers if Path("/proc", number).exists()]


@pytest.mark.parametrize("signal", ["-9", "-15"])
def test_a_connection_that_is_lost_in_a_command_says_nothing_of_it(
    tmp_path: Path, signal: str
) -> None:
    """Neither that it failed: a certificate would go back for it."""
    with machine(tmp_path / "ssh") as (ssh, remote):
        lose = f"sleep 1; kill {signal} $(pgrep -u {Account.number} -x sshd); sleep 5"
        with pytest.raises(StageFailed, match="the connection was lost") as caught:
            remote.run(("sh", "-c", lose), 20)
        assert str(remote) in caught.value.what
        assert ssh.logins == 1


@pytest.mark.parametrize("shell", ["/bin/sh", "fish"])
def test_a_command_and_all_that_it_began_are_ended(tmp_path: Path, shell: str) -> None:
    with machine(tmp_path / "ssh", Account(shell=require(shell))) as (ssh, remote):
        done = remote.run(endless(), 1)
        assert (done.ok, done.how) == (False, "did not end within 1 s")
        wait_until(lambda: not alive(ssh), what="the end of the command and its child")


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh") as (_, remote):
        started = time.monotonic()
        done = remote.run(("sh", "-c", "echo started; sleep 20 & exit 0"), 15)
        assert (done.ok, done.tail) == (True, "started\n")
        assert time.monotonic() - started < 14


def test_a_switch_is_on_the_disk_before_it_counts(tmp_path: Path) -> None:
    """Files, their directory, what holds it, and the link: each before what follows it."""
    require("strace")
    server = "strace -f -e trace=fsync,rename -o /srv/trace /usr/lib/openssh/sftp-server"
    account = Account(setup="chmod 777 /srv")
    with machine(tmp_path / "ssh", account, Subsystem=f"sftp {server}") as (ssh, remote):

        def calls() -> list[str]:
            lines = ssh.inside("/srv/trace").read_text().splitlines()
            names = [line.split()[1].partition("(")[0] for line in lines]
            return [name for name in names if name in ("fsync", "rename")]

        remote.upload("1", FILES)
        made, files, temporary = ["fsync"], ["fsync", "fsync"], ["fsync"]
        assert calls() == [*made, *files, *temporary, "rename", "fsync"]
        remote.activate("1", ("1",))
        assert calls() == ["rename", "fsync"]


# --- what is told in words ------------------------------------------------------------------------


def test_no_sftp(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh", Subsystem="other /bin/false") as (_, remote):
        said = refusal(remote, "speaks no SFTP")
        assert "Subsystem sftp internal-sftp" in said.do
        assert remote.run(("true",), 10).ok


def test_a_login_file_that_prints_breaks_sftp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_settings, "CONNECT_SECONDS", 4.0)
    setup = "echo 'echo Welcome to the machine room' >home/.bashrc; chown relay home/.bashrc"
    account = Account(shell="/bin/bash", setup=setup)
    options = {"Subsystem": "sftp /usr/lib/openssh/sftp-server"}
    with machine(tmp_path / "ssh", account, **options) as (_, remote):
        said = refusal(remote, "Welcome to the machine room", "a login file there prints")
        assert ".bashrc" in said.do


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
def test_an_account_without_a_shell(tmp_path: Path, shell: str) -> None:
    """Files can be brought there, but nothing runs: not even by chance is that a success."""
    with machine(tmp_path / "ssh", Account(shell=shell)) as (_, remote):
        with pytest.raises(StageFailed, match="runs no commands for this account") as caught:
            remote.run(("true",), 10)
        assert str(remote) in caught.value.what and "usermod" in caught.value.do
        assert ("not available" in caught.value.what) == ("nologin" in shell)


@pytest.mark.parametrize("command", ["echo all is well", "cat", "/bin/true", "internal-sftp"])
def test_a_forced_command_is_no_success(tmp_path: Path, command: str) -> None:
    with machine(tmp_path / "ssh", ForceCommand=command) as (_, remote):
        with pytest.raises(StageFailed, match="runs no commands for this account") as caught:
            remote.run(("false",), 5)
        assert "ForceCommand" in caught.value.do
        if command == "internal-sftp":
            put(remote)
        else:
            refusal(remote, "speaks no SFTP")


def test_a_full_disk_there(tmp_path: Path) -> None:
    setup = "dd if=/dev/zero of=filler bs=4k status=none || true"
    with machine(tmp_path / "ssh", Account(setup=setup)) as (ssh, remote):
        refusal(remote, THERE, "the disk is full there")
        assert not list(ssh.inside(f"{THERE}/generations").glob("*"))
        ssh.inside("/srv/filler").unlink()
        put(remote)


def test_no_room_for_another_file_there(tmp_path: Path) -> None:
    setup = "mount -o remount,nr_inodes=$(($(df --output=iused . | tail -1) + 2)) /srv"
    with machine(tmp_path / "ssh", Account(setup=setup)) as (_, remote):
        refusal(remote, THERE, "the disk is full there")


def test_a_read_only_file_system_there(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh", Account(setup="mount -o remount,ro /srv")) as (_, remote):
        refusal(remote, THERE, "the file system there is read-only")


def test_a_directory_of_another_accounts(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh", Account(setup="chown root tls")) as (_, remote):
        refusal(remote, THERE, "this account may not")


def test_a_directory_that_another_account_could_change(tmp_path: Path) -> None:
    """Which may be let in by a group, or by being its owner."""
    with machine(tmp_path / "ssh", Account(setup="chmod 775 tls")) as (_, remote):
        refusal(remote, THERE, "can be changed by other users there (mode 0775)")
    setup = "mkdir -p tls/generations; chown 64322 tls; chown relay tls/generations"
    with machine(tmp_path / "two", Account(setup=setup)) as (ssh, remote):
        refusal(remote, THERE, "belongs to another user there (number 64322)")
        assert not list(ssh.inside(f"{THERE}/generations").glob("*"))


def test_what_is_in_the_way_there(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh", Account(setup="mkdir tls/current")) as (_, remote):
        refusal(remote, f"{THERE}/current is not a symbolic link")


def test_a_server_without_the_rename_that_replaces(tmp_path: Path) -> None:
    """Told before anything is switched, and nothing is left."""
    server = "sftp internal-sftp -P posix-rename"
    with machine(tmp_path / "ssh", Subsystem=server) as (ssh, remote):
        with pytest.raises(StageFailed) as caught:
            remote.upload("1", FILES)
        assert str(remote) in caught.value.what and "rename" in caught.value.what
        assert "posix-rename@openssh.com" in caught.value.do
        assert not list(ssh.inside(f"{THERE}/generations").glob("*"))


def test_a_locked_account(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh", Account(password="!")) as (_, remote):
        assert "locked" in refusal(remote, "does not let us in").do


def test_no_session_at_all(tmp_path: Path) -> None:
    with machine(tmp_path / "ssh", MaxSessions=0) as (_, remote):
        with pytest.raises(StageFailed, match="begins no session") as caught:
            remote.run(("true",), 10)
        assert "MaxSessions" in caught.value.do


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail ESMTP\r\n"])
def test_a_server_that_hangs_or_speaks_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes
) -> None:
    monkeypatch.setattr(remote_settings, "CONNECT_SECONDS", 1.0)
    (tmp_path / "hosts").write_text("")
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])
                    held[-1].sendall(greeting)

        threading.Thread(target=answer, daemon=True).start()
        port, place = listener.getsockname()[1], PurePosixPath(THERE)
        started = time.monotonic()
        refusal(
            Remote("u", "127.0.0.1", port, place, known_hosts=tmp_path / "hosts"),
            "did not answer by SSH within 1 s",
        )
        assert time.monotonic() - started < 15
    for each in held:
        each.close()


def test_a_machine_that_stops_answering_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of it stands still, and no connection is closed: not even cleaning up waits."""
    monkeypatch.setattr(remote_settings, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(remote_module, "EXCHANGE_SECONDS", 1.0)
    stopped: list[psutil.Process] = []
    with machine(tmp_path / "ssh") as (ssh, remote):

        async def stand_still(*_: object) -> None:
            if not stopped:
                stopped.extend(psutil.Process(ssh.number).children(recursive=True))
                for one in stopped:
                    one.suspend()

        with monkeypatch.context() as patched:
            patched.setattr(remote_files.Mirror, "_require_owner", stand_still)
            started = time.monotonic()
            try:
                with pytest.raises(StageFailed, match="did not answer in time") as caught:
                    put(remote)
                assert time.monotonic() - started < 20
            finally:
                for one in stopped:
                    one.resume()
        assert str(remote) in caught.value.what
        put(remote)


def test_no_such_name_and_nobody_there(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("")
    place = PurePosixPath(THERE)
    for host, words in (
        ("127.0.0.1", "refuses the connection"),
        ("no.such.invalid", "not resolved"),
    ):
        refusal(Remote("u", host, 1, place, known_hosts=tmp_path / "hosts"), words)
