"""Real mail servers, a database, Caddy and Tomcat take a renewal and are seen serving it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from internal_puller.install.presets import resolve
from internal_puller.install.probe import probe_target
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.targets import ProbePoint, Target
from shared.contract.errors import ConfigurationError
from tests.lab.peers import require
from tests.more_servers import MORE, PASSWORD, PROTOCOLS, await_tls, missing
from tests.servers import RunningServer
from tests.unit.internal_puller.install.helpers import NAME, installed, material

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]


@dataclass
class Site:
    kind: str
    target: Target
    server: RunningServer

    @property
    def served(self) -> str | None:
        return probe_target(self.target)[0].leaf_sha256


@pytest.fixture(params=sorted(MORE))
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
    more = {"pkcs12_password_file": password} if kind == "tomcat" else {}
    if kind == "postgresql":
        more = {"owner": "postgres"}
    target = Target(NAME, (NAME,), tmp_path / "live", preset=kind, probe_timeout=40, **more)  # type: ignore[arg-type]
    quiet = dataclasses.replace(target, test_command=(), reload_command=(), probe=())
    assert installed(quiet, material(1)).error is None
    with MORE[kind](target.directory / "current", base) as server:
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
    if not site.target.test_command:
        return
    site.server.config.write_text(site.server.config.read_text() + "\nnonsense {{{\n")
    report = installed(site.target, material(3))
    assert report.verdict is Verdict.BROKEN_BEFORE, report.error
    assert (report.active, site.served) == (3, material(2).leaf_sha256)


@pytest.mark.parametrize("kind", sorted(MORE))
def test_the_presets_own_commands_and_points(kind: str, tmp_path: Path) -> None:
    """What the preset says is there on a machine that has the program."""
    if missing(kind):
        require(missing(kind))
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    more = {"pkcs12_password_file": password} if kind == "tomcat" else {}
    if kind in ("tomcat", "postgresql") and shutil.which("service") is None:
        more["reload_command"] = ()  # type: ignore[assignment]
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live", preset=kind, **more))  # type: ignore[arg-type]
    assert plan.probe and "privkey" in plan.formats


def test_a_preset_without_its_program_says_how_to_go_on(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "live", preset="dovecot")
    changed = dataclasses.replace(target, test_command=("no-such-doveconf",))
    with pytest.raises(ConfigurationError) as refused:
        resolve(changed)
    assert "does not exist" in refused.value.what
