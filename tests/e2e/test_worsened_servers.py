"""What a renewal makes worse at real nginx, Apache and HAProxy, all started by hand.

Without systemd it is not known whether they run: what is seen of them decides alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from internal_puller.install import layout
from internal_puller.install.engine import Engine, Job
from internal_puller.install.material import Material
from internal_puller.install.probe import look_all, probe_target
from internal_puller.outbox.look import Answer
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigTestFailed
from shared.contract.key_policy import key_to_pem
from tests.lab.peers import require
from tests.line import wait_until
from tests.servers import RunningServer, apache_server, haproxy_server, nginx_server
from tests.unit.internal_puller.install.helpers import (
    NAME,
    engine_of,
    installed,
    intermediate,
    material,
)
from tests.unit.internal_puller.install.probe.fakes import mixed_key

pytestmark = pytest.mark.servers


def first(target: Target) -> None:
    """Have the first generation in place; nobody is told."""
    quiet = dataclasses.replace(target, test_command=(), reload_command=(), probe=())
    assert installed(quiet, material(1)).error is None


def told(target: Target, server: RunningServer) -> Target:
    return dataclasses.replace(
        target,
        test_command=server.test_command,
        reload_command=server.reload_command,
        probe=(ProbePoint(server.address, server.port, NAME),),
    )


def served(target: Target) -> str | None:
    return probe_target(target)[0].leaf_sha256


# --- a server that dies at its reload -------------------------------------------------------------


@pytest.fixture
def apache(tmp_path: Path) -> Iterator[tuple[Target, RunningServer]]:
    """Run an Apache whose key is not the target's; its configtest reads no keys."""
    require("apache2")
    target = Target(NAME, (NAME,), tmp_path / "live", preset="apache", probe_timeout=3)
    first(target)
    base = tmp_path / "apache"
    base.mkdir()
    with apache_server(target.directory / "current", base) as server:
        reaper = threading.Thread(target=os.waitpid, args=(server.pid, 0), daemon=True)
        reaper.start()  # as init would: a dead one that is not reaped looks alive to `graceful`
        try:
            yield told(target, server), server
        finally:  # `graceful` starts what is dead, in a session of its own
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((base / "apache.pid").read_text()), signal.SIGTERM)


def test_one_that_the_new_pair_ends_serves_the_old_one_again(
    apache: tuple[Target, RunningServer],
) -> None:
    target, server = apache
    key = server.config.with_name("fixed.pem")
    key.write_bytes(material(1).key_pem)
    text = server.config.read_text()
    server.config.write_text(text.replace(f"{target.directory}/current/privkey.pem", str(key)))
    report = installed(target, material(2))
    assert (report.verdict, report.active) == (Verdict.BACK_BY_LEAF, 1)
    assert served(target) == material(1).leaf_sha256
    assert layout.set_aside(target)


def test_one_that_another_ones_pair_ends_keeps_the_new_files(
    apache: tuple[Target, RunningServer],
) -> None:
    target, server = apache
    whole = server.config.read_text()
    key = server.config.with_name("others.pem")
    key.write_bytes(material(3).key_pem)
    port = server.port + 1
    others = f"""<VirtualHost 127.0.0.1:{port}>
        ServerName other
        SSLEngine on
        SSLCertificateFile {target.directory}/current/fullchain.pem
        SSLCertificateKeyFile {key}
        </VirtualHost>"""
    server.config.write_text(whole + others)
    report = installed(target, material(2))
    assert (report.verdict, report.active) == (Verdict.NOT_CAUSED, 2)
    assert served(target) is None
    assert not layout.set_aside(target)
    server.config.write_text(whole)
    subprocess.run(server.reload_command, check=True, capture_output=True, timeout=30)
    wait_until(lambda: served(target) is not None, what="Apache, started by its administrator")
    stood = {str(target.directory): Verdict.NOT_CAUSED}
    [again] = engine_of(target, patient=True).look_again([target], stood)
    assert (again.verdict, served(target)) == (Verdict.SERVED, material(2).leaf_sha256)


# --- by the test, and by the proof ------------------------------------------------------------


def test_a_first_pair_that_the_configuration_does_without_goes_back_to_none(tmp_path: Path) -> None:
    require("apache2")
    target, new = (
        Target(NAME, (NAME,), tmp_path / name, preset="apache") for name in ("live", "new")
    )
    first(target)
    base = tmp_path / "apache"
    base.mkdir()
    with apache_server(target.directory / "current", base) as server:
        file = new.directory / "current/fullchain.pem"
        with server.config.open("a") as config:
            config.write(f"<IfFile {file}>\nSSLCertificateFiles {file}\n</IfFile>\n")
        one, other = told(target, server), told(new, server)
        state = tmp_path / "state"
        jobs = [Job(one, material(2)), Job(other, material(3))]
        found = Engine([one, other], state).install(jobs)
        assert [each.verdict for each in found] == [Verdict.SERVED, Verdict.BACK_BY_TEST]
        assert isinstance(found[1].error, ConfigTestFailed)
        assert [each.active for each in found] == [2, None]
        assert served(one) == material(2).leaf_sha256


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_leaf_that_is_shown_with_another_key_goes_back(tmp_path: Path, kind: str) -> None:
    """OpenSSL compares the public half that a key file holds: such a pair passes the test."""
    require(kind)
    target = Target(NAME, (NAME,), tmp_path / "live", preset=kind)
    first(target)
    base, keys, read = (tmp_path / name for name in (kind, "keys", "read"))
    for place in (base, keys, read):
        place.mkdir()
    ours, theirs = material(1).key_pem, material(2).key_pem
    (keys / "1").write_bytes(ours)
    (keys / "2").write_bytes(mixed_key(theirs, ours))
    current = target.directory / "current"

    def copied(generation: str) -> str:
        files = f"{current}/fullchain.pem {keys}/{generation}"
        return (
            f"cp {current}/fullchain.pem {read}; cp {keys}/{generation} {read}/privkey.pem; "
            f"cat {files} >{read}/combined.pem"
        )

    assert os.system(copied("1")) == 0
    with {"nginx": nginx_server, "haproxy": haproxy_server}[kind](read, base) as server:
        hook = ("sh", "-ec", f'{copied("$RELAY_GENERATION")}; exec "$@"', "hook")
        plain = told(target, server)
        hooked = dataclasses.replace(plain, test_command=(*hook, *server.test_command))
        [before] = probe_target(plain)
        assert before.answer is Answer.PROVEN
        hooked = dataclasses.replace(hooked, reload_command=(*hook, *server.reload_command))
        report = installed(hooked, material(2))
        assert (report.verdict, report.active) == (Verdict.BACK_BY_LEAF, 1)
        [after] = probe_target(plain)
        assert (after.answer, after.leaf_sha256) == (Answer.PROVEN, material(1).leaf_sha256)


# --- one name, two kinds of key ---------------------------------------------------------------


def of_kind(generation: int, kind: str) -> Material:
    leaf = intermediate().issue_cert(NAME, key_type=getattr(trustme.KeyType, kind.upper()))
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems).decode()
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    return Material(kind, generation, f"{generation:064x}", chain, key_to_pem(key))  # type: ignore[arg-type]


@pytest.mark.parametrize("server", ["nginx", "apache", "haproxy"])
def test_both_kinds_of_key_on_one_listener_are_renewed_together(
    tmp_path: Path, server: str
) -> None:
    require({"apache": "apache2"}.get(server, server))
    kinds, state, base = ("ecdsa", "rsa"), tmp_path / "state", tmp_path / server
    for place in (state, base):
        place.mkdir(mode=0o755 if place is base else 0o700)
    targets = [Target(kind, (NAME,), tmp_path / kind, preset=server) for kind in kinds]
    quiet = [
        dataclasses.replace(one, test_command=(), reload_command=(), probe=()) for one in targets
    ]
    jobs = [Job(one, of_kind(1, kind)) for one, kind in zip(quiet, kinds, strict=True)]
    assert all(one.error is None for one in Engine(quiet, state).install(jobs))
    run = {"nginx": nginx_server, "apache": apache_server, "haproxy": haproxy_server}[server]
    ecdsa, rsa = (f"{one.directory}/current" for one in targets)
    with run(Path(ecdsa), base) as running:
        files = ("fullchain.pem", "privkey.pem", "combined.pem")
        lines = []
        for line in running.config.read_text().splitlines():
            lines.append(line)
            if server == "haproxy":
                own = f"crt {ecdsa}/combined.pem"
                lines[-1] = line.replace(own, f"{own} crt {rsa}/combined.pem")
            elif ecdsa in line and any(name in line for name in files):
                lines.append(line.replace(ecdsa, rsa))
        running.config.write_text("\n".join(lines) + "\n")
        both = [dataclasses.replace(told(one, running), server="web") for one in targets]
        points = both[0].probe
        assert points is not None
        for generation in (2, 3):
            made = [of_kind(generation, kind) for kind in kinds]
            jobs = [Job(one, new) for one, new in zip(both, made, strict=True)]
            found = Engine(both, state).install(jobs)
            assert [one.verdict for one in found] == [Verdict.SERVED] * 2, found
            for kind, new in zip(kinds, made, strict=True):
                wait_until(
                    lambda kind=kind, new=new: (
                        look_all(points, 10, kind)[0].leaf_sha256  # type: ignore[misc]
                        == new.leaf_sha256
                    ),
                    what=f"the new leaf of {kind}",
                )
