"""Every other server that has a preset takes a renewal and is seen serving it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from internal_puller.install.hints import hint_lines
from internal_puller.install.presets import resolve
from internal_puller.install.probe import probe_target
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.presets.catalogue import NAMES, known
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError
from shared.host import systemctl
from tests import more_daemons, more_servers
from tests.lab.peers import require
from tests.more_servers import PASSWORD, await_tls
from tests.servers import RunningServer
from tests.unit.internal_puller.install.helpers import NAME, installed, material

KINDS = more_servers.MORE | more_daemons.DAEMONS
PROTOCOLS = more_servers.PROTOCOLS | more_daemons.PROTOCOLS
OWNERS = {"postgresql": "postgres", "prosody": "prosody", "exim": "nobody"}
"""Accounts that read the files; what starts as root does so before it becomes another."""
pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]


@dataclass
class Site:
    kind: str
    target: Target
    server: RunningServer

    @property
    def served(self) -> str | None:
        return probe_target(self.target)[0].leaf_sha256


def missing(kind: str) -> str:
    known_to = more_servers if kind in more_servers.MORE else more_daemons
    return str(known_to.missing(kind))


@pytest.fixture(params=sorted(KINDS))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    kind: str = request.param
    if os.geteuid() != 0:
        pytest.skip("these servers change their user: root")
    if missing(kind):
        require(missing(kind))
    base, password = tmp_path / kind, tmp_path / "password"
    base.mkdir(mode=0o755)
    password.write_text(PASSWORD)
    password.chmod(0o600)
    more: dict[str, Any] = {"pkcs12_password_file": password} if kind == "tomcat" else {}
    if kind in OWNERS:
        more["owner"] = OWNERS[kind]
    target = Target(NAME, (NAME,), tmp_path / "live", preset=kind, probe_timeout=40, **more)
    quiet = dataclasses.replace(target, test_command=(), reload_command=(), probe=())
    assert installed(quiet, material(1)).error is None
    with KINDS[kind](target.directory / "current", base) as server:
        point = ProbePoint(server.address, server.port, NAME, PROTOCOLS[kind])
        await_tls(server, PROTOCOLS[kind])
        yield Site(
            kind,
            dataclasses.replace(
                target,
                test_command=server.test_command,
                reload_command=server.reload_command,
                probe=(point,),
            ),
            server,
        )


def test_installed_reloaded_probed_and_rolled_back(site: Site) -> None:
    assert site.served == material(1).leaf_sha256
    report = installed(site.target, material(2))
    assert report.error is None, report.error.explain()
    assert site.served == material(2).leaf_sha256
    if not site.target.test_command or site.kind == "openldap":  # which has no file to break
        return
    site.server.config.write_text(site.server.config.read_text() + "\nnonsense {{{\n")
    report = installed(site.target, material(3))
    assert report.verdict is Verdict.BROKEN_BEFORE, report.error
    assert (report.active, site.served) == (3, material(2).leaf_sha256)


def test_it_was_told_by_the_lines_that_we_print(site: Site) -> None:
    told = [line.strip() for line in hint_lines(site.target) if line.startswith("    ")]
    assert told
    if site.kind == "cockpit":
        places = site.server.config / "ws-certs.d"
        links = {
            f"ln -s {one.readlink()} /etc/cockpit/ws-certs.d/{one.name}" for one in places.iterdir()
        }
        assert links == set(told)
        return
    configuration = " ".join(site.server.config.read_text().split())
    for line in told[:1] if site.kind == "tomcat" else told:  # the password is another one
        assert " ".join(line.split()) in configuration


def test_all_of_them_are_tried() -> None:
    tried = {*KINDS, "nginx", "apache", "haproxy"}  # those in test_install_servers.py
    assert set(NAMES) - {"none", "systemd"} == tried


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"exim"}))  # of which no program is here
def test_the_presets_own_commands_and_points(kind: str, tmp_path: Path) -> None:
    """What the preset says is there on a machine that has the program."""
    if missing(kind):
        require(missing(kind))
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    preset = known(kind)
    more: dict[str, Any] = {"pkcs12_password_file": password} if kind == "tomcat" else {}
    needed = "service" if "service" in preset.without_systemd else "sh"
    if shutil.which(needed) is None or not (systemctl.is_there() or preset.without_systemd):
        more["reload_command"] = ()
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live", preset=kind, **more))
    assert plan.probe and "privkey" in plan.formats
    assert shutil.which(preset.programs[0]) if preset.programs else preset.units


def test_a_preset_without_its_program_says_how_to_go_on(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "live", preset="dovecot")
    changed = dataclasses.replace(target, test_command=("no-such-doveconf",))
    with pytest.raises(ConfigurationError) as refused:
        resolve(changed)
    assert "does not exist" in refused.value.what
