"""Direct mode against the lab's CA and DNS: ordered, checked, installed, renewed; no agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.direct_world import DirectWorld, direct_world
from tests.machine import NAME

pytestmark = pytest.mark.lab


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DirectWorld]:
    with direct_world(tmp_path) as world:
        yield world


def test_dns_01_by_update_without_any_agent(world: DirectWorld) -> None:
    world.want()
    target = world.target()
    report = world.machine.pull()
    assert [one.outcome for one in report.outcomes] == ["installed"], report.members()
    assert len(world.ca.orders) == 1
    [issued] = world.ca.issued
    assert issued.names == (NAME,)
    assert world.machine.active(target) == world.progress().generation
    assert world.dns.get("outside", f"_acme-challenge.{NAME}", "TXT") == []
    assert not world.of().has_attempt()
    assert world.machine.pull().members()["certificates"] == []
    assert len(world.ca.orders) == 1
