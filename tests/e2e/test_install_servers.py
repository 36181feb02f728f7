"""Real nginx, Apache and HAProxy take a renewal, refuse a broken one, and are seen doing so."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from internal_puller.install import layout
from internal_puller.install.probe import probe_target
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from tests.lab.peers import require
from tests.servers import SERVERS, RunningServer
from tests.unit.internal_puller.install.helpers import (
    NAME,
    engine_of,
    installed,
    material,
    rolled_back,
    root_pem,
)

pytestmark = pytest.mark.servers
PROGRAMS = {"nginx": "nginx", "apache": "apache2", "haproxy": "haproxy"}


@dataclass
class Site:
    target: Target
    server: RunningServer

    def put(self, generation: int, *, force: bool = False, **changes: object) -> Outcome:
        target = dataclasses.replace(self.target, **changes)  # type: ignore[arg-type]
        return installed(target, material(generation), force=force)

    def served(self) -> str | None:
        return probe_target(self.target)[0].leaf_sha256


@pytest.fixture(params=sorted(SERVERS))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    kind: str = request.param
    require(PROGRAMS[kind])
    base = tmp_path / kind
    base.mkdir()
    target = Target(NAME, (NAME,), tmp_path / "live", preset=kind, probe_timeout=20)
    quiet = dataclasses.replace(target, test_command=(), reload_command=(), probe=())
    assert installed(quiet, material(1)).error is None
    with SERVERS[kind](target.directory / "current", base) as server:
        point = ProbePoint(server.address, server.port, NAME)
        yield Site(
            dataclasses.replace(
                target,
                test_command=server.test_command,
                reload_command=server.reload_command,
                probe=(point,),
            ),
            server,
        )


def test_installed_twice_reloaded_and_probed(site: Site) -> None:
    assert site.served() == material(1).leaf_sha256
    for generation in (2, 3):
        report = site.put(generation)
        assert report.error is None, report.error.explain()
        assert report.before[0].leaf_sha256 == material(generation - 1).leaf_sha256
        assert [each.leaf_sha256 for each in report.looks] == [material(generation).leaf_sha256]
    back = rolled_back(site.target)
    assert (back.error, back.active) == (None, 2)
    assert site.served() == material(2).leaf_sha256


def test_a_configuration_that_was_broken_keeps_the_new_files(
    site: Site,
) -> None:
    whole = site.server.config.read_text()
    site.server.config.write_text(whole + "\nnonsense {\n")
    report = site.put(2)
    assert report.verdict is Verdict.BROKEN_BEFORE
    assert report.error is not None and "nonsense" in report.error.what
    assert (report.active, site.served()) == (2, material(1).leaf_sha256)
    site.server.config.write_text(whole)
    [again] = engine_of(site.target, patient=True).look_again([site.target])
    assert (again.verdict, site.served()) == (Verdict.SERVED, material(2).leaf_sha256)


def test_server_that_keeps_the_old_certificate(site: Site) -> None:
    report = site.put(2, reload_command=("true",), probe_timeout=1)
    assert (report.verdict, report.active) == (Verdict.NOT_TAKEN_UP, 2)
    assert site.served() == material(1).leaf_sha256
    assert not layout.set_aside(site.target)
    [again] = engine_of(site.target, patient=True).look_again([site.target])
    assert (again.verdict, site.served()) == (Verdict.SERVED, material(2).leaf_sha256)


def test_what_cannot_be_seen_stays(site: Site) -> None:
    dead = ProbePoint("127.0.0.1", 1, NAME)
    report = site.put(2, probe=(dead,), probe_timeout=0.3)
    assert (report.verdict, report.active) == (Verdict.CANNOT_BE_SEEN, 2)
    assert site.served() == material(2).leaf_sha256


def test_no_connection_is_refused_or_gets_a_mixed_pair_while_reloading(site: Site) -> None:
    known = {material(generation).leaf_sha256 for generation in (1, 2, 3)}
    stop, seen, errors = threading.Event(), set(), list[str]()

    def visit() -> None:
        while not stop.is_set():
            served = probe_target(site.target)[0]
            if served.leaf_sha256 is None:
                errors.append(served.why)
            seen.add(served.leaf_sha256)

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        for generation in (2, 3):
            assert site.put(generation).error is None
    finally:
        stop.set()
        visitor.join()
    assert errors == []
    assert seen <= known


@pytest.mark.parametrize("site", ["nginx"], indirect=True)
def test_ip_version_6(site: Site) -> None:
    if not _has_ipv6():
        pytest.skip("no IPv6 on loopback")
    text, port = site.server.config.read_text(), site.server.port
    both = f"listen 127.0.0.1:{port} ssl; listen [::1]:{port} ssl;"
    site.server.config.write_text(text.replace(f"listen 127.0.0.1:{port} ssl;", both))
    points = tuple(ProbePoint(address, port, NAME) for address in ("127.0.0.1", "::1"))
    report = site.put(2, probe=points)
    assert report.error is None, report.error.explain()
    assert [
        each.address for each in report.looks if each.leaf_sha256 == material(2).leaf_sha256
    ] == ["127.0.0.1", "::1"]


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_browser_side_chain_is_complete(site: Site) -> None:
    """A client that knows only the root accepts what is served: the intermediate came along."""
    assert site.put(2).error is None
    context = ssl.create_default_context(cadata=root_pem())
    address = (site.server.address, site.server.port)
    with (
        socket.create_connection(address, 5) as connection,
        context.wrap_socket(connection, server_hostname=NAME) as tls,
    ):
        assert tls.getpeercert()
