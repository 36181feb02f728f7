"""A pair behind a virtual address: what a probe at that address, and one at home, say of a standby.

Real nginx on two hosts; the address is moved as keepalived moves it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from internal_puller.install.judge import Case, Leaf, Reload, judge
from internal_puller.install.judge import Test as ConfigTest
from internal_puller.install.probe import look_all
from internal_puller.install.server import Running, Server
from internal_puller.install.words import About, error_of
from internal_puller.outbox.look import Look, shows
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.probe_point import ProbePoint
from tests.lab.peers import require
from tests.line import wait_until
from tests.unit.internal_puller.install.helpers import NAME, material

from .conftest import nginx_conf
from .namespaces import Namespace, Wire, configure, connect, hosts

pytestmark = [
    pytest.mark.topology,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
VIRTUAL = "192.0.2.10"
AT_HOME = ProbePoint("127.0.0.1", 443, NAME)
AT_VIRTUAL = ProbePoint(VIRTUAL, 443, NAME)
NGINX = Server("nginx", "", (), ())


@dataclass(frozen=True)
class Machine:
    """One of the two: its nginx, and what it sees from where it is."""

    host: Namespace
    base: Path

    def put(self, generation: int) -> None:
        found = material(generation)
        (self.base / "fullchain.pem").write_text(found.chain_pem)
        (self.base / "privkey.pem").write_bytes(found.key_pem)

    def nginx(self, *arguments: str) -> None:
        conf = str(self.base / "nginx.conf")
        self.host.run("nginx", "-c", conf, "-p", str(self.base), *arguments)

    def see(self, point: ProbePoint) -> tuple[Look, ...]:
        with self.host.entered():
            return look_all((point,), 5.0)

    def holds_address(self, *, holds: bool) -> None:
        verb = "add" if holds else "del"
        configure(self.host, f"address {verb} {VIRTUAL}/24 dev eth0")

    def keeps_showing(self, leaf: str) -> bool:
        """Old workers and new ones answer side by side for a while: spread over a second."""
        for _ in range(6):
            if not shows(self.see(AT_HOME), leaf):
                return False
            time.sleep(0.2)
        return True

    def install(self, generation: int) -> dict[ProbePoint, tuple[Verdict, str]]:
        """Return what each probe point would have led to, were it the target's."""
        points = (AT_HOME, AT_VIRTUAL)
        before = {point: self.see(point) for point in points}
        self.put(generation)
        self.nginx("-s", "reload")
        leaf = material(generation).leaf_sha256
        wait_until(lambda: self.keeps_showing(leaf))
        return {
            point: _verdict(generation, before[point], self.see(point), NGINX) for point in points
        }


def _verdict(
    generation: int, before: tuple[Look, ...], after: tuple[Look, ...], server: Server
) -> tuple[Verdict, str]:
    new, old = (Leaf(material(one).leaf_sha256, 0, 100) for one in (generation, generation - 1))
    yes = Running.YES
    verdict = judge(Case(new, old, ConfigTest.PASSES, yes, Reload.DONE, yes, before, after, 10))
    about = About(NAME, generation, new.sha256, server, generation - 1, yes, "", before, after)
    error = error_of(verdict, about)
    return verdict, error.what if error else ""


@contextmanager
def pair(base: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines on one cable, both with generation 1; the first holds the address."""
    with hosts("first", "second") as (first, second):
        connect(Wire((first, "eth0", "192.0.2.11/24"), (second, "eth0", "192.0.2.12/24")))
        machines = tuple(Machine(host, base / host.name) for host in (first, second))
        for one in machines:
            one.base.mkdir()
            files = f"ssl_certificate {one.base}/fullchain.pem; "
            files += f"ssl_certificate_key {one.base}/privkey.pem;"
            text = nginx_conf(one.base, f"listen 443 ssl; {files}")
            (one.base / "nginx.conf").write_text(text)
            one.put(1)
            one.nginx()
        machines[0].holds_address(holds=True)
        for one in machines:
            wait_until(partial(_shows_first, one))
        yield machines[0], machines[1]


def _shows_first(machine: Machine) -> bool:
    leaf = material(1).leaf_sha256
    return all(shows(machine.see(point), leaf) for point in (AT_HOME, AT_VIRTUAL))


def test_a_standby_is_recognised_and_a_probe_at_home_sees_it(tmp_path: Path) -> None:
    require("nginx")
    with pair(tmp_path) as (active, standby):
        assert {verdict for verdict, _ in active.install(2).values()} == {Verdict.SERVED}

        found = standby.install(2)  # the active one was first
        verdict, what = found[AT_VIRTUAL]
        assert verdict is Verdict.SEEN_BEFORE
        assert f"{NAME} at {VIRTUAL} port 443" in what
        assert f" of {NAME}" in what
        assert "does not look at this server alone" in what
        assert found[AT_HOME][0] is Verdict.SERVED

        found = standby.install(3)  # the standby is first
        assert found[AT_VIRTUAL][0] is Verdict.NOT_TAKEN_UP
        assert found[AT_HOME][0] is Verdict.SERVED

        # The address moves: clients get what the standby has loaded already.
        active.holds_address(holds=False)
        standby.holds_address(holds=True)
        wait_until(lambda: shows(standby.see(AT_VIRTUAL), material(3).leaf_sha256))
