"""Several targets on one server of another machine: a real nginx there, behind a real sshd."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from internal_puller.doctor.machine import target_findings
from internal_puller.install.engine import Engine, Job
from internal_puller.install.formats import render
from internal_puller.install.layout import CURRENT
from internal_puller.install.presets import Plan, resolve
from internal_puller.install.probe import look_all
from internal_puller.install.remote import Remote, RemoteFile
from internal_puller.install.remote_control import remote_control
from internal_puller.install.server import Control, Running, Server
from internal_puller.install.unit_state import read_state
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import Verdict as Judged
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from internal_puller.state.progress import Progress
from shared.contract.diagnosis import Verdict
from shared.contract.errors import StageFailed
from shared.host.systemctl import read_properties
from tests.lab.peers import require
from tests.lab.ports import free_port
from tests.line import wait_until
from tests.machine import Machine
from tests.ssh_server import SSHD, Account, SshServer, ssh_server
from tests.unit.internal_puller.install.helpers import NAME, material

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

NAMES = ("one", "two")


@dataclass
class Group:
    """Two targets on one nginx, which needs the files of both to start at all."""

    base: Path
    ssh: SshServer
    nginx: Sequence[str]
    ports: tuple[int, int]
    plans: tuple[Plan, ...]

    @property
    def told(self) -> list[str]:
        """The commands that were run there, in order, with the directories they were told of."""
        log = self.base / "told"
        return log.read_text().splitlines() if log.exists() else []

    def remote(self, number: int) -> Remote:
        remote = self.plans[number].remote
        assert remote is not None
        return remote

    def control(self, generation: int) -> Control:
        def command(step: str, *argv: str) -> tuple[str, ...]:
            line = f'echo "{step} $RELAY_GENERATION $RELAY_DIRECTORY" >>{self.base}/told; exec "$@"'
            return ("sh", "-c", line, "sh", *self.nginx, *argv)

        server = Server(
            "nginx", self.ssh.target, command("test", "-t"), command("reload", "-s", "reload")
        )
        return remote_control(server, [(plan, generation) for plan in self.plans])

    def upload(self, generation: int) -> None:
        for number, plan in enumerate(self.plans):
            rendered = render(material(generation), plan.rendering)
            files = {name: RemoteFile(file.content, 0o600) for name, file in rendered.items()}
            self.remote(number).upload(str(generation), files)

    def activate(self, generation: int | None, *numbers: int) -> None:
        for number in numbers:
            name = None if generation is None else str(generation)
            self.remote(number).activate(name, ("1", "2"))

    def served(self, number: int) -> str | None:
        return look_all((ProbePoint("127.0.0.1", self.ports[number], NAME),), 10)[0].leaf_sha256


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    if SSHD is None:
        require("sshd")
    base, ports = tmp_path / "ssh", (free_port(), free_port())
    base.mkdir()
    with contextlib.ExitStack() as stack:
        ssh = stack.enter_context(ssh_server(base))
        listen = "".join(
            f"""server {{ listen 127.0.0.1:{ports[number]} ssl;
            ssl_certificate {tmp_path}/{name}/{CURRENT}/fullchain.pem;
            ssl_certificate_key {tmp_path}/{name}/{CURRENT}/privkey.pem; }}"""
            for number, name in enumerate(NAMES)
        )
        config = tmp_path / "nginx.conf"
        config.write_text(
            f"pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log; events {{}} "
            f"http {{ access_log off; {listen} }}"
        )
        nginx = (require("nginx"), "-e", str(tmp_path / "error.log"), "-c", str(config))
        plans = tuple(
            resolve(
                Target(
                    NAME,
                    (NAME,),
                    tmp_path / f"here-{name}",
                    ssh=ssh.target,
                    ssh_key=ssh.key,
                    ssh_known_hosts=ssh.known_hosts,
                    remote_directory=tmp_path / name,
                )
            )
            for name in NAMES
        )
        group = Group(tmp_path, ssh, nginx, ports, plans)
        try:
            yield group
        finally:
            subprocess.run([*nginx, "-s", "stop"], check=False, capture_output=True, timeout=20)


def test_two_new_ones_come_up_by_one_test_and_one_reload(group: Group) -> None:
    """Over one connection, from the first file to the reload."""
    with group.remote(0).connected():
        group.upload(1)
        group.activate(1, 0)
        assert not group.control(1).test().ok  # type: ignore[union-attr]
        group.activate(1, 1)
        control = group.control(1)
        assert control.test().ok  # type: ignore[union-attr]
        subprocess.run(group.nginx, check=True, timeout=20)
        group.upload(2)
        group.activate(2, 0, 1)
        told = len(group.told)
        control = group.control(2)
        assert control.test().ok  # type: ignore[union-attr]
        assert control.reload().ok  # type: ignore[union-attr]
    assert group.ssh.logins == 1
    both = f"2 2 {group.base}/one/current {group.base}/two/current"
    assert group.told[told:] == [f"test {both}", f"reload {both}"]
    leaf = material(2).leaf_sha256
    wait_until(lambda: {group.served(0), group.served(1)} == {leaf}, what="the new leaves")


def test_the_engine_logs_in_once_for_a_group(group: Group) -> None:
    quiet = [plan.target for plan in group.plans]
    told = [
        dataclasses.replace(
            target,
            server="web",
            test_command=(*group.nginx, "-t"),
            reload_command=(*group.nginx, "-s", "reload"),
            probe=(ProbePoint("127.0.0.1", port, NAME),),
        )
        for target, port in zip(quiet, group.ports, strict=True)
    ]
    state = group.base / "state"
    state.mkdir(mode=0o700)

    def install(targets: Sequence[Target], generation: int) -> list[Outcome]:
        jobs = [Job(target, material(generation)) for target in targets]
        return Engine(targets, state).install(jobs)

    assert [one.error for one in install(quiet, 1)] == [None, None]
    subprocess.run(group.nginx, check=True, timeout=20)
    before = group.ssh.logins
    assert [one.verdict for one in install(told, 2)] == [Judged.SERVED] * 2
    assert group.ssh.logins == before + 1


def test_a_connection_lost_in_the_middle_converges_at_the_next_run(group: Group) -> None:
    """What is half there is found, left as it is where it is whole, and the rest is done."""
    with group.remote(0).connected():
        group.upload(1)
        group.activate(1, 0, 1)
        group.upload(2)
        group.activate(2, 0)
        port = group.ssh.port
        subprocess.run(["pkill", "-9", "-P", str(group.ssh.number)], check=True)
        _end(group.ssh)
        with pytest.raises(StageFailed, match="refuses the connection"):
            group.activate(2, 1)
    links = [(group.base / name / CURRENT).readlink().name for name in NAMES]
    assert links == ["2", "1"]
    (group.base / "two" / "generations" / "2" / "privkey.pem").unlink()
    with ssh_server(group.ssh.base, port):
        with pytest.raises(StageFailed, match="another content"):
            group.upload(2)
        (group.base / "two" / "generations" / "2").rename(group.base / "aside")
        for _ in range(2):
            group.upload(2)
            group.activate(2, 0, 1)
            links = [(group.base / name / CURRENT).readlink().name for name in NAMES]
            assert links == ["2", "2"]
        group.activate(None, 0, 1)
        group.activate(None, 0, 1)
        assert not any((group.base / name / CURRENT).is_symlink() for name in NAMES)


def _end(ssh: SshServer) -> None:
    subprocess.run(["kill", "-9", str(ssh.number)], check=True)


# --- the service manager there --------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
echo "$*" >>/srv/asked
case "$*" in
*show*) cat /srv/shown;;
*start*) cp /srv/started /srv/shown;;
*reset-failed*) exit 0;;
esac
"""


@contextlib.contextmanager
def machine_of(base: Path, **lines: str) -> Iterator[tuple[SshServer, Any]]:
    """Run a machine whose systemctl says what a file there says; its reload would start it."""
    systemctl = require("systemctl")
    base.mkdir()
    setup = f"""printf %s '{SYSTEMCTL}' >systemctl; chmod 755 systemctl
        mount --bind systemctl {systemctl}; chmod 777 /srv
        echo 'LoadState=loaded\nActiveState=active\nSubState=running' >started; cp started shown
        chmod 666 shown"""
    with ssh_server(base, account=Account(setup=setup)) as ssh:
        target = Target(
            *(NAME, (NAME,), base / "here"),
            ssh=ssh.target,
            ssh_key=ssh.key,
            ssh_known_hosts=ssh.known_hosts,
            remote_directory=Path("/srv/tls"),
            reload_command=("systemctl", "reload", "web"),
        )
        server = Server("web", ssh.target, (), ("touch", "/srv/reloaded"), unit="web.service")
        plan = resolve(target)
        yield ssh, (target, server, remote_control(server, [(plan, 1)]))


STATES = {
    "LoadState=loaded\nActiveState=active\nSubState=running\nJob=0": Running.YES,
    "LoadState=loaded\nActiveState=active\nSubState=running": Running.YES,
    "LoadState=loaded\nActiveState=active\nSubState=running\nJob=77": Running.CHANGING,
    "LoadState=loaded\nActiveState=reloading\nSubState=reload": Running.CHANGING,
    "LoadState=loaded\nActiveState=activating\nSubState=auto-restart": Running.CHANGING,
    "LoadState=loaded\nActiveState=deactivating\nSubState=stop": Running.CHANGING,
    "LoadState=loaded\nActiveState=inactive\nSubState=dead": Running.NO,
    "LoadState=masked\nActiveState=inactive\nSubState=dead": Running.NO,
    "LoadState=loaded\nActiveState=failed\nSubState=failed": Running.FAILED,
    "LoadState=not-found\nActiveState=inactive\nSubState=dead": Running.NOT_KNOWN,
    "LoadState=loaded\nActiveState=maintenance": Running.NOT_KNOWN,
    "System has not been booted with systemd": Running.NOT_KNOWN,
    "": Running.NOT_KNOWN,
}


@pytest.mark.parametrize("shown", STATES)
def test_how_a_unit_stands(shown: str) -> None:
    assert read_state(read_properties(shown)).running is STATES[shown]


def test_a_stopped_server_is_left_stopped_and_a_dead_one_is_started(tmp_path: Path) -> None:
    with machine_of(tmp_path / "ssh") as (ssh, (target, _, control)):
        shown, reloaded = ssh.inside("/srv/shown"), ssh.inside("/srv/reloaded")
        for state in ("inactive", "failed"):
            shown.write_text(f"LoadState=loaded\nActiveState={state}\n")
            assert control.running() in (Running.NO, Running.FAILED)
            assert control.reload() is None
            assert not reloaded.exists()
        found = list(target_findings(target, Machine(tmp_path / "m").settings, Progress()))
        (told,) = [one for one in found if one.check == "reload"]
        assert told.verdict is Verdict.PROBLEM and "web.service has failed there" in told.what
        ssh.inside("/srv/asked").unlink()
        assert control.start().ok
        asked = ssh.inside("/srv/asked").read_text().splitlines()
        assert [line.split()[1:] for line in asked] == [
            ["reset-failed", "web.service"],
            ["start", "web.service"],
        ]
        assert control.running() is Running.YES
        assert control.reload().ok and reloaded.exists()
        assert len(control.boot_id()) == 36
        before = ssh.logins
        control.reload()
        assert ssh.logins == before + 1, "looked at and told over one connection"


def test_a_machine_without_systemd(tmp_path: Path) -> None:
    """Whether it runs is not known there; it is told all the same."""
    with machine_of(tmp_path / "ssh") as (ssh, (_, _, control)):
        ssh.inside("/srv/systemctl").write_text("#!/bin/sh\necho not booted with systemd; exit 1\n")
        assert control.running() is Running.NOT_KNOWN
        assert control.reload().ok
        assert not control.start().ok
