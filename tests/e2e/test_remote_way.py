"""The way to another machine, as ssh's own configuration says it: jump hosts, aliases, commands."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from internal_puller.install.remote import Remote
from internal_puller.install.remote_settings import way_to
from shared.contract.errors import StageFailed
from tests.lab.peers import require
from tests.line import ROOT
from tests.ssh_server import SSHD, SshServer, make_key, ssh_server

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@dataclass
class Way:
    """A machine ``app``, and a ``bastion`` before it; ``config`` is what the target names."""

    app: SshServer
    bastion: SshServer
    config: Path
    remote: Remote

    def write(self, text: str) -> None:
        self.config.write_text(text)

    def run(self, **changes: object) -> None:
        done = dataclasses.replace(self.remote, **changes).run(("true",), 10)  # type: ignore[arg-type]
        assert done.ok, done

    def refusal(self, *words: str, **changes: object) -> StageFailed:
        with pytest.raises(StageFailed) as caught:
            self.run(**changes)
        for word in words:
            assert word in caught.value.what, caught.value.what
        assert caught.value.do and "\n" not in caught.value.what
        return caught.value


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    if SSHD is None:
        require("sshd")
    require("ssh")
    with contextlib.ExitStack() as stack:
        one, two = tmp_path / "app", tmp_path / "bastion"
        one.mkdir()
        two.mkdir()
        app = stack.enter_context(ssh_server(one))
        bastion = stack.enter_context(ssh_server(two, options={"LogLevel": "DEBUG1"}))
        both = tmp_path / "known_hosts"
        both.write_text(app.known_hosts.read_text() + bastion.known_hosts.read_text())
        public = app.key.with_suffix(".pub").read_text()
        with (two / "authorized_keys").open("a") as keys:
            keys.write(public)
        config = tmp_path / "config"
        place = PurePosixPath(tmp_path / "there")
        remote = Remote(app.user, "app", None, place, app.key, both, config)
        yield Way(app, bastion, config, remote)


def _alias(way: Way, more: str = "") -> str:
    return f"Host app\n HostName 127.0.0.1\n Port {way.app.port}\n {more}\n"


def test_an_alias_and_its_port(way: Way) -> None:
    way.write(_alias(way))
    way.run()
    assert (way.app.logins, way.bastion.logins) == (1, 0)
    way.refusal("app:1 refuses the connection", port=1)


def test_through_a_jump_host(way: Way) -> None:
    """Named by its address, and by an alias; one login at each for all that is done there."""
    way.write(_alias(way, f"ProxyJump {way.bastion.target}"))
    with way.remote.connected():
        way.run()
        way.run()
    assert (way.app.logins, way.bastion.logins) == (1, 1)
    jump = f"Host gate\n HostName 127.0.0.1\n Port {way.bastion.port}\n User {way.bastion.user}\n"
    way.write(_alias(way, "ProxyJump gate") + jump)
    way.run()
    assert (way.app.logins, way.bastion.logins) == (2, 2)
    passed = f"server_request_direct_tcpip: .* target 127.0.0.1 port {way.app.port}"
    assert len(re.findall(passed, (way.bastion.base / "sshd.log").read_text())) == 2


def test_a_way_that_was_not_reached_to_its_end_is_not_used(way: Way, tmp_path: Path) -> None:
    """A kept connection ends at the machine that is meant, or there is none."""
    mark = tmp_path / "mark"
    text = _alias(way, f"ProxyJump {way.bastion.target}")
    way.write(text)
    keys = way.app.base / "authorized_keys"
    kept = keys.read_text()
    with way.remote.connected():
        keys.write_text("")
        for _ in range(2):
            with pytest.raises(StageFailed, match="does not let us in"):
                way.remote.run(("touch", str(mark)), 10)
            assert not mark.exists(), "not on the machine before it"
        keys.write_text(kept)
        way.run()
    assert way.app.logins == 1


def test_through_a_jump_host_with_a_key_of_its_own(way: Way, tmp_path: Path) -> None:
    own = make_key(tmp_path / "gate")
    (way.bastion.base / "authorized_keys").write_text(own)
    jump = f"Host gate\n HostName 127.0.0.1\n Port {way.bastion.port}\n"
    text = _alias(way, "ProxyJump gate") + jump
    way.write(text)
    way.refusal("gate, on the way to root@app, does not let us in".replace("root", way.app.user))
    way.write(f"{text} IdentityFile {tmp_path}/gate\n")
    way.run()


def test_what_goes_wrong_on_the_way_is_told_of_that_machine(way: Way) -> None:
    way.write(_alias(way, "ProxyJump 127.0.0.1:1"))
    way.refusal("127.0.0.1:1, on the way to", "refuses the connection")
    way.write(_alias(way, "ProxyJump gate") + "Host gate\n HostName no.such.invalid\n")
    way.refusal("gate, on the way to", "no.such.invalid is not resolved")
    way.write(_alias(way, f"ProxyJump {way.bastion.target}"))
    known = way.app.known_hosts
    said = way.refusal("host key of", "on the way to", known_hosts=known)
    assert str(known) in said.do
    way.write("Host app\n ProxyJump gate\nHost gate\n ProxyJump app\n")
    way.refusal("leads through more than")


def test_a_proxy_command(way: Way) -> None:
    """Its tokens are filled in, and a shell runs it as ssh's would."""
    relay = (
        f"{sys.executable} -c 'import socket,sys,threading,shutil;"
        's=socket.create_connection((sys.argv[1],int(sys.argv[2])));f=s.makefile("rwb",0);'
        "threading.Thread(target=lambda:[sys.stdout.buffer.write(b) or sys.stdout.flush() "
        'for b in iter(lambda:s.recv(9999),b"")],daemon=True).start();'
        '[f.write(b) for b in iter(lambda:sys.stdin.buffer.read1(9999),b"")]\' %h %p'
    )
    way.write(_alias(way, f"ProxyCommand {relay}"))
    way.run()
    assert way.app.logins == 1
    way.write(_alias(way, "ProxyCommand exit 3"))
    way.refusal("closed the connection before the login (ProxyCommand exit 3)")


def test_a_shared_connection_is_not_used_and_that_is_told(way: Way, tmp_path: Path) -> None:
    text = _alias(way, f"ControlMaster auto\n ControlPath {tmp_path}/%C")
    way.write(text)
    way.run()
    assert way.remote.uses_control_master()
    (way.app.base / "authorized_keys").write_text("")
    said = way.refusal("does not let us in")
    assert "A ControlMaster connection of ssh is not used." in said.do


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ProxyUseFdpass yes", "ProxyUseFdpass yes"),
        ("BindInterface lo", "BindInterface lo"),
        ("ProxyCommand nc %Z", "%Z"),
        ("Port many", "ssh cannot read its configuration"),
        ("NoSuchThing 1", "NoSuchThing".lower()),
        ("ProxyJump gate:many", "ssh cannot read its configuration"),
    ],
)
def test_what_is_refused_in_words(way: Way, line: str, words: str) -> None:
    way.write(f"Host app\n HostName 127.0.0.1\n {line}\n")
    way.refusal(words)
    assert way.app.logins == 0


def test_what_counts_only_without_files_of_the_targets_own(way: Way) -> None:
    hosts = way.app.known_hosts
    way.write(
        _alias(way, f"PKCS11Provider /x.so\n KnownHostsCommand /x %H\n UserKnownHostsFile {hosts}")
    )
    way.run()
    way.refusal("PKCS11Provider /x.so", key=None)
    way.refusal("KnownHostsCommand /x %H", known_hosts=None)


def test_the_configuration_is_held_to_what_names_commands(way: Way, tmp_path: Path) -> None:
    """Whatever it includes, too: nothing of it is run before."""
    mark, more = tmp_path / "mark", tmp_path / "more.d"
    more.mkdir()
    included = more / "one"
    included.write_text(f'Match exec "touch {mark}"\n ProxyCommand touch {mark}\n')
    way.write(f"{_alias(way)}\nInclude {more}/*\n")
    for loose in (way.config, included, more):
        before = loose.stat().st_mode
        loose.chmod(before | 0o002)
        said = way.refusal("can be changed by other users", str(loose))
        assert "chmod go-w" in said.do
        assert not mark.exists()
        loose.chmod(before)
    if os.geteuid() == 0:
        os.chown(included, 12345, 12345)
        way.refusal(str(included), "belongs to the account")
        assert not mark.exists()
        os.chown(included, 0, 0)
    way.write(f"{_alias(way)}\nInclude ${{HOME}}/x\n")
    way.refusal("cannot be looked at")
    way.write(f"{_alias(way)}\nInclude {way.config}\n")
    way.refusal("too deep")
    way.config.unlink()
    way.refusal("There is no ssh configuration")


def test_keys_that_the_configuration_names(way: Way, tmp_path: Path) -> None:
    """Held to the same as the target's own; those with a passphrase are an agent's."""
    way.write(_alias(way, f"IdentityFile {way.app.key}\n IdentityAgent none"))
    way.run(key=None)
    way.app.key.chmod(0o644)
    way.refusal("IdentityFile file", "others can reach it", key=None)
    way.app.key.chmod(0o600)
    locked = tmp_path / "locked"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(locked)]
    subprocess.run(make, check=True, timeout=30)
    way.write(_alias(way, f"IdentityFile {locked}\n IdentityAgent none"))
    way.refusal("does not let us in", key=None)


def test_a_host_key_under_another_name(way: Way, tmp_path: Path) -> None:
    hosts = tmp_path / "aliases"
    hosts.write_text(f"machine-7 {(way.app.base / 'host.pub').read_text()}")
    way.write(_alias(way))
    way.refusal("host key of", known_hosts=hosts)
    way.write(_alias(way, "HostKeyAlias machine-7"))
    way.run(known_hosts=hosts)


def test_what_is_read_where_no_configuration_is_named(way: Way, tmp_path: Path) -> None:
    """That of the account, and the system's, as by ssh; not that of ``HOME``."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the home is in a mount namespace")
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(_alias(way, f"UserKnownHostsFile {way.app.known_hosts}"))
    code = (
        "import sys; from pathlib import Path, PurePosixPath\n"
        "from internal_puller.install.remote import Remote\n"
        "from internal_puller.install.remote_openssh import Machine, has_own_settings\n"
        f"remote = Remote({way.app.user!r}, 'app', None, PurePosixPath('/x'), Path(sys.argv[1]))\n"
        "print(remote.run(('true',), 10).ok)\n"
        "print(*(has_own_settings(Machine('u', host)) for host in ('app', 'other')))"
    )
    passwd = tmp_path / "passwd"
    passwd.write_text(f"root:x:0:0::{home}:/bin/sh\n" + Path("/etc/passwd").read_text())
    lines = 'mount --bind "$1" /etc/passwd; shift; exec "$@"'
    alone = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", lines, "sh")
    told = subprocess.run(
        [*alone, str(passwd), sys.executable, "-c", code, str(way.app.key)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.stdout.split() == ["True", "True", "False"], told.stderr


def test_without_ssh_there_is_no_configuration_of_its_own(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.write(_alias(way))
    monkeypatch.setattr("shared.host.commands.SEARCH_PATH", "/nonexistent")
    said = way.refusal("needs the program ssh, which is not installed")
    assert "openssh-client" in said.do
    way.run(config=None, host="127.0.0.1", port=way.app.port)


def test_what_the_target_says_comes_first(way: Way) -> None:
    way.write("Host app\n User somebody\n Port 1\n HostName 127.0.0.1\n ConnectTimeout 7\n")
    own = dataclasses.replace(way.remote, port=way.app.port)
    (found,) = way_to(own.machine)
    assert (found.user, found.port, found.host) == (way.app.user, way.app.port, "127.0.0.1")
    assert (found.connect_seconds, found.keys) == (7.0, (way.app.key,))
    assert own.run(("true",), 10).ok
