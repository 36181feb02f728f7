"""What root does for the puller, on a machine with its own systemd and Debian's own units.

Asked by the account itself on the sockets, as somebody would who has taken it over.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from internal_puller.settings.targets import Target
from tests.lab.peers import require
from tests.line import wait_until
from tests.packages.booted import Booted, booted
from tests.packages.services import NAME, SERVICES
from tests.packages.test_booted import SITE, TLS, write_targets
from tests.topology.namespaces import hosts

pytestmark = [pytest.mark.packages, pytest.mark.timeout(600)]
STATE = "/var/lib/split-horizon-relay"
RECOVER = "internal-puller-recover.service"
ACCOUNT = ("setpriv", "--reuid=internal-puller", "--regid=internal-puller", "--clear-groups")
ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(sys.stdin.buffer.read())
connection.shutdown(socket.SHUT_WR)
while some := connection.recv(65536):
    sys.stdout.buffer.write(some)
"""
PAIR = """
cd "$1/generations/$2"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj "/CN=$3" \
  -addext "subjectAltName=DNS:$3" -keyout privkey.pem -out fullchain.pem 2>/dev/null
cat privkey.pem fullchain.pem >combined.pem
chown -R internal-puller:internal-puller "$1"
"""
UNITS = {"nginx": "nginx", "apache": "apache2", "haproxy": "haproxy"}


@dataclass(frozen=True)
class Inside:
    """A server machine with the puller's package, and one target for each of three servers."""

    machine: Booted

    def directory(self, server: str) -> str:
        return TLS if server == "nginx" else f"{TLS}-{server}"

    def ask(self, server: str, step: str) -> dict[str, Any]:
        """Ask for a step as the puller's account."""
        members = [{"directory": self.directory(server), "generation": 1}]
        request = {"server": server, "step": step, "members": members}
        return self._asked("commands", json.dumps(request))

    def mounts(self) -> dict[str, Any]:
        return self._asked("mounts", "")

    def _asked(self, socket: str, request: str) -> dict[str, Any]:
        place = f"/run/split-horizon-relay/{socket}"
        told = self.machine.run(*ACCOUNT, "python3", "-c", ASK, place, stdin=request).out
        return cast("dict[str, Any]", json.loads(told))

    def install(self, server: str, generation: int = 1) -> None:
        """Put a pair in place, as the puller does."""
        place = self.directory(server)
        self.machine.run("mkdir", "-p", f"{place}/generations/{generation}")
        self.machine.run("sh", "-euc", PAIR, "sh", place, str(generation), NAME)
        self.machine.run("ln", "-sfn", f"generations/{generation}", f"{place}/current")

    def spoil(self, server: str) -> None:
        """Put a key of another certificate in place, in what only the server itself reads."""
        place = f"{self.directory(server)}/current"
        key = f"openssl ecparam -genkey -name prime256v1 -noout >{place}/privkey.pem"
        both = f"cat {place}/privkey.pem {place}/fullchain.pem >{place}/combined.pem"
        self.machine.run("sh", "-euc", f"{key}; {both}")

    def state(self, server: str) -> str:
        return self.machine.unit(f"{UNITS[server]}.service", "ActiveState")

    def is_started(self, server: str) -> None:
        self.machine.run("systemctl", "reset-failed", UNITS[server], expect=None)
        self.machine.run("systemctl", "start", UNITS[server])

    def is_stopped(self, server: str) -> None:
        self.machine.run("systemctl", "stop", UNITS[server])


@pytest.fixture(scope="module")
def inside(
    debian_packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    for program in ("systemd-nspawn", "dbus-daemon", "nsenter", "ip", "nginx", "apache2"):
        require(program)
    with hosts("steps") as (host,):
        host.etc("resolv.conf").write_text("nameserver 192.0.2.53\n")
        package = debian_packages["puller"]
        base = tmp_path_factory.mktemp("booted")
        with booted(base / "inside", host, package) as machine:
            machine.run("dpkg", "--install", f"/{package.name}")
            made = Inside(machine)
            _prepare(made)
            yield made


def _prepare(made: Inside) -> None:
    machine = made.machine
    targets = [
        Target(NAME, (NAME,), Path(made.directory(server)), preset=server, probe=())
        for server in UNITS
    ]
    write_targets(machine, *targets)
    (machine / "etc/nginx/sites-enabled/www").write_text(SITE)
    for server in UNITS:
        if server in SERVICES:
            machine.run("sh", "-euc", SERVICES[server].before)
            for path, text in SERVICES[server].files.items():
                (machine / path).write_text(text.format(tls=f"{made.directory(server)}/current"))
        made.install(server)
    _sockets(machine)


def _sockets(machine: Booted) -> None:
    machine.run(
        *("systemctl", "start", "internal-puller-commands.socket", "internal-puller-mounts.socket")
    )


# --- a server is started after a reload of ours, and only then --------------------------------


def test_a_server_that_runs(inside: Inside) -> None:
    inside.is_started("nginx")
    assert inside.ask("nginx", "is-active")["running"] == "yes"
    assert inside.ask("nginx", "test")["ok"]
    assert inside.ask("nginx", "reload")["how"] == "ended with exit code 0"
    assert inside.ask("nginx", "start")["how"] == "was not run: nginx.service runs"


def test_apache_that_its_reload_ended_is_started_again(inside: Inside) -> None:
    """Its configtest reads no key, its reload says 0, and then every site is down."""
    inside.is_started("apache")
    inside.spoil("apache")
    assert inside.ask("apache", "test")["ok"]
    assert inside.ask("apache", "reload")["ok"]
    wait_until(lambda: inside.state("apache") in {"failed", "inactive"}, what="its end")
    assert inside.ask("apache", "is-active")["running"] in {"failed", "no"}
    left = inside.ask("apache", "reload")
    assert left["ok"] and left["running"] in {"failed", "no"}, "a reload revives nothing"
    inside.install("apache")
    told = inside.ask("apache", "start")
    assert told["ok"], told
    assert inside.state("apache") == "active"
    assert inside.ask("apache", "is-active")["running"] == "yes"


@pytest.mark.parametrize("server", UNITS)
def test_what_an_administrator_stopped_stays_stopped(inside: Inside, server: str) -> None:
    """Whatever the account asks, before and after, and how often."""
    inside.is_started(server)
    assert inside.ask(server, "reload")["ok"]
    inside.is_stopped(server)
    assert inside.ask(server, "is-active")["running"] == "no"
    left = inside.ask(server, "reload")
    assert left["ok"] and left["running"] == "no" and "is left alone" in left["how"]
    told = inside.ask(server, "start")
    assert not told["ok"]
    assert "was stopped after the reload, and did not end by itself" in told["how"], told
    assert f"systemctl start {UNITS[server]}" in told["how"]
    assert inside.state(server) == "inactive"


def test_reloads_without_end_around_a_stop_win_nothing(inside: Inside) -> None:
    inside.is_started("nginx")
    member = {"directory": TLS, "generation": 1}
    request = {"server": "nginx", "step": "reload", "members": [member]}
    loop = f"import subprocess, sys\nrequest = {json.dumps(request)!r}\n" + (
        f"while True: subprocess.run([sys.executable, '-c', {ASK!r}, "
        "'/run/split-horizon-relay/commands'], input=request.encode())\n"
    )
    (inside.machine / "usr/local/lib/loop.py").write_text(loop)
    spam = "systemd-run", "--quiet", "--unit=spam", "--property=User=internal-puller"
    inside.machine.run(*spam, "python3", "/usr/local/lib/loop.py")
    try:
        note = inside.machine / STATE / "commands/nginx.service.json"
        for _ in range(3):
            note.unlink(missing_ok=True)
            inside.is_started("nginx")
            wait_until(note.exists, what="a reload")
            stopped_in_between(inside)
            for _ in range(3):
                assert not inside.ask("nginx", "start")["ok"]
            assert inside.state("nginx") in {"inactive", "failed"}
    finally:
        inside.machine.run("systemctl", "stop", "spam")


def stopped_in_between(inside: Inside) -> None:
    """Stop it; systemd cancels a job to stop where one to reload comes right after it.

    It ends a reload that is under way by a signal, and then counts the unit as failed.
    """

    def is_stopped() -> bool:
        inside.machine.run("systemctl", "stop", "nginx", expect=None)
        return inside.state("nginx") in {"inactive", "failed"}

    try:
        wait_until(is_stopped, what="a stop among the reloads")
    except AssertionError as error:
        shown = inside.machine.run("systemctl", "show", "nginx").out
        raise AssertionError(f"{error}\n{shown}\n{inside.machine.journal(lines=80)}") from error


def test_a_server_that_no_reload_of_ours_has_met(inside: Inside) -> None:
    """It died by itself: an administrator's business, and not the account's."""
    inside.machine.run("rm", "-rf", f"{STATE}/commands")
    inside.is_started("nginx")
    inside.machine.run("systemctl", "kill", "--signal=KILL", "nginx")
    wait_until(lambda: inside.state("nginx") == "failed", what="its end")
    told = inside.ask("nginx", "start")
    assert not told["ok"] and "was not seen to run before a reload" in told["how"], told


def test_haproxy_at_its_start_limit(inside: Inside) -> None:
    """systemd starts it again and again with a pair that it refuses, and then no more."""
    inside.is_started("haproxy")
    assert inside.ask("haproxy", "reload")["ok"]
    inside.spoil("haproxy")
    inside.machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "haproxy")
    wait_until(lambda: inside.state("haproxy") == "failed", 60, what="its start limit")
    inside.install("haproxy")
    refused = inside.machine.run("systemctl", "start", "haproxy", expect=None)
    assert refused.code != 0, "the limit is why reset-failed comes first"
    assert inside.ask("haproxy", "is-active")["running"] == "failed"
    told = inside.ask("haproxy", "start")
    assert told["ok"], told
    assert inside.state("haproxy") == "active"


def test_the_note_is_out_of_the_accounts_reach(inside: Inside) -> None:
    inside.is_started("nginx")
    inside.ask("nginx", "reload")
    place = f"{STATE}/commands"
    assert inside.machine.run("stat", "-c", "%U %a", place).out.split() == ["root", "700"]
    assert inside.machine.run(*ACCOUNT, "ls", place, expect=2).out == ""
    forged = ("sh", "-c", f"rm -rf {place}; mkdir {place}; echo '{{}}' >{place}/nginx.service.json")
    inside.machine.run(*ACCOUNT, *forged, expect=2)
    assert inside.machine.run("stat", "-c", "%U %a", place).out.split() == ["root", "700"]


# --- mounts -----------------------------------------------------------------------------------


@contextlib.contextmanager
def container(machine: Booted, what: str) -> Iterator[None]:
    """A process in a mount namespace of its own that has mounted this, as a container has."""
    start = 'mount --bind "$1" /mnt && echo mounted && exec sleep 600'
    unshared = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", start, "sh", what)
    enter = ("nsenter", f"--target={machine.leader}", "--all", "--", *unshared)
    with subprocess.Popen(enter, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        wait_until(process.stdout.readline, what="the mount")
        try:
            yield
        finally:
            machine.run("pkill", "--exact", "sleep", expect=None)


def test_the_account_is_told_what_is_mounted_and_nothing_else(inside: Inside) -> None:
    found = inside.mounts()
    assert found["complete"] and found["paths"] == []
    assert sorted(found["directories"]) == sorted(inside.directory(server) for server in UNITS)
    with container(inside.machine, f"{TLS}/current"):
        assert inside.mounts()["paths"] == [f"{TLS}/generations/1"]
    with container(inside.machine, "/etc"):
        assert inside.mounts()["paths"] == []
    stranger = ("setpriv", "--reuid=nobody", "--clear-groups", "python3", "-c", ASK)
    inside.machine.run(*stranger, "/run/split-horizon-relay/mounts", expect=1)


# --- the next boot ----------------------------------------------------------------------------


def at_boot(inside: Inside, program: str) -> None:
    """Have the recovery run another program, and servers started as early as any."""
    machine = inside.machine
    inside.install("nginx")
    folder = machine / f"etc/systemd/system/{RECOVER}.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tried.conf").write_text(f"[Service]\nExecStart=\nExecStart={program}\n")
    (machine / "etc/systemd/system/early.target").write_text(
        "[Unit]\nDefaultDependencies=no\nWants=nginx.service apache2.service\n"
    )
    wants = machine / "etc/systemd/system/basic.target.wants"
    wants.mkdir(exist_ok=True)
    if not (wants / "early.target").is_symlink():
        (wants / "early.target").symlink_to("../early.target")
    notes = machine / STATE / "puller/groups"
    notes.mkdir(exist_ok=True)
    (notes / "a-group.json").write_text("{}")
    machine.run("chown", "-R", "internal-puller:internal-puller", f"{STATE}/puller")


def again(machine: Booted) -> None:
    machine.switch_off()
    machine.start()


def when(machine: Booted, unit: str, what: str) -> int:
    return int(machine.unit(unit, f"{what}TimestampMonotonic") or 0)


def test_recovery_comes_before_the_servers_and_can_have_them_tested(inside: Inside) -> None:
    machine = inside.machine
    members = [{"directory": TLS, "generation": 1}]
    request = {"server": "nginx", "step": "test", "members": members}
    (machine / "usr/local/lib/asked").write_text(json.dumps(request))
    (machine / "usr/local/lib/ask.py").write_text(ASK)
    ask = "python3 /usr/local/lib/ask.py /run/split-horizon-relay/commands </usr/local/lib/asked"
    at_boot(inside, f"/bin/sh -euc 'sleep 2; {ask} >{STATE}/puller/answer'")
    again(machine)
    wait_until(lambda: inside.state("nginx") == "active", 60, what="nginx")
    told = json.loads((machine / STATE / "puller/answer").read_text())
    assert told["ok"], told
    ended = when(machine, RECOVER, "ExecMainExit")
    for unit in ("nginx", "apache2"):
        assert 0 < ended <= when(machine, f"{unit}.service", "ExecMainStart")
    assert when(machine, RECOVER, "ExecMainStart") < ended - 2_000_000


def test_after_the_boot_what_was_stopped_stays_so_and_what_failed_may_be_started(
    inside: Inside,
) -> None:
    _sockets(inside.machine)
    inside.is_started("nginx")
    inside.ask("nginx", "reload")
    inside.is_started("haproxy")
    inside.ask("haproxy", "reload")
    at_boot(inside, "/bin/true")
    (inside.machine / "etc/systemd/system/early.target").write_text(
        "[Unit]\nDefaultDependencies=no\nWants=nginx.service\n"
    )
    inside.spoil("nginx")
    again(inside.machine)
    _sockets(inside.machine)
    wait_until(lambda: inside.state("nginx") == "failed", 60, what="a start in vain")
    told = inside.ask("haproxy", "start")
    assert not told["ok"] and "has not failed since the machine was booted" in told["how"], told
    inside.install("nginx")
    told = inside.ask("nginx", "start")
    assert told["ok"], told
    assert inside.state("nginx") == "active"


def test_a_recovery_that_hangs_holds_the_boot_up_for_half_a_minute(inside: Inside) -> None:
    at_boot(inside, "/bin/sleep 900")
    again(inside.machine)
    wait_until(lambda: inside.state("nginx") == "active", 60, what="nginx")
    assert inside.machine.unit(RECOVER, "Result") == "timeout"
    held = when(inside.machine, RECOVER, "InactiveEnter") - when(
        inside.machine, RECOVER, "InactiveExit"
    )
    assert 25_000_000 < held < 60_000_000


def test_without_a_note_nothing_is_recovered(inside: Inside) -> None:
    (inside.machine / STATE / "puller/groups/a-group.json").unlink()
    again(inside.machine)
    wait_until(lambda: inside.state("nginx") == "active", 60, what="nginx")
    assert inside.machine.unit(RECOVER, "ConditionResult") == "no"
    assert when(inside.machine, RECOVER, "ExecMainStart") == 0
