"""Real servers read by the fixed names: the links, and the one file of layout ``copy``."""

from __future__ import annotations

import dataclasses
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from internal_puller.install.probe import probe_target
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from tests.lab.peers import require
from tests.line import wait_until
from tests.servers import SERVERS, RunningServer
from tests.unit.internal_puller.install.helpers import NAME, material
from tests.unit.internal_puller.install.layouts import place

pytestmark = pytest.mark.servers
PROGRAMS = {"nginx": "nginx", "apache": "apache2", "haproxy": "haproxy"}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("nginx", "link"), ("apache", "link"), ("haproxy", "link"), ("haproxy", "copy")],
)
def test_each_generation_is_taken_up(tmp_path: Path, kind: str, layout: str) -> None:
    require(PROGRAMS[kind])
    base = tmp_path / kind
    base.mkdir()
    target = Target(NAME, (NAME,), tmp_path / "live", preset=kind, layout=layout)
    quiet = dataclasses.replace(target, test_command=(), reload_command=())
    place(quiet, 1)
    with SERVERS[kind](target.directory, base) as server:
        probed = dataclasses.replace(quiet, probe=(ProbePoint(server.address, server.port, NAME),))
        for generation in (1, 2, 3, 2):
            place(quiet, generation)
            subprocess.run(server.test_command, check=True, capture_output=True)
            wait_until(lambda number=generation: taken_up(server, probed, number), seconds=60)


def taken_up(server: RunningServer, target: Target, generation: int) -> bool:
    """Reload and look; HAProxy hears no USR2 while it is starting after the last one."""
    subprocess.run(server.reload_command, check=True, capture_output=True)
    leaf = material(generation).leaf_sha256
    with suppress(AssertionError):
        return bool(wait_until(lambda: probe_target(target)[0].leaf_sha256 == leaf, seconds=10))
    return False
