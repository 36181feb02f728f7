"""The probe against real servers: what they are configured to show, and what it says of them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from internal_puller.install.presets import resolve
from internal_puller.install.probe import look
from internal_puller.install.sight import Awaited, Sight
from internal_puller.outbox.look import Answer, Look, Trouble, shows
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.protocols import STARTTLS
from internal_puller.settings.targets import Target
from tests import probed_servers as servers
from tests.lab.peers import require
from tests.lab.ports import free_port
from tests.more_servers import missing
from tests.servers import nginx_server
from tests.unit.internal_puller.install.probe.fakes import NAME, Pair, mixed_pair, pair, sha256

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

LIMIT = 30.0
START_SECONDS = 60.0


@dataclass
class Pairs:
    ecdsa: Pair
    rsa: Pair
    mixed: Pair

    def of(self, seen: Look) -> str | None:
        """Return whose leaf was seen."""
        for name in ("ecdsa", "rsa"):
            if sha256(getattr(self, name)) == seen.leaf_sha256:
                return name
        return None


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    if os.geteuid() != 0:
        pytest.skip("these servers change their user: root")
    return Pairs(pair(tmp_path, "ecdsa"), pair(tmp_path, "rsa"), mixed_pair(tmp_path))


@pytest.fixture
def base() -> Iterator[Path]:
    """Where the servers' own accounts come: not below pytest's directory, which is root's alone."""
    made = Path(tempfile.mkdtemp(prefix="relay-probe-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def see(port: int, protocol: str = "tls", kind: str | None = None) -> Look:
    (seen,) = look(ProbePoint("127.0.0.1", port, NAME, protocol), LIMIT, kind)
    return seen


def await_open(ports: servers.Ports, base: Path) -> None:
    """Wait until every port takes connections."""
    deadline = time.monotonic() + START_SECONDS
    for port in ports.values():
        while "refused" in see(port).why:
            assert time.monotonic() < deadline, servers.log_of(base)
            time.sleep(0.05)


Row = tuple[str, str, str | None, Answer, str | None, Trouble | None]
"""Listener, protocol, kind wanted; answer, whose leaf, trouble."""
PROVEN, SHOWN, NONE = Answer.PROVEN, Answer.SHOWN, Answer.NONE
NGINX: tuple[Row, ...] = (
    ("both-1.2", "tls", "rsa", PROVEN, "rsa", None),
    ("both-1.2", "tls", "ecdsa", PROVEN, "ecdsa", None),
    ("both-1.3", "tls", "rsa", PROVEN, "rsa", None),
    ("both-1.3", "tls", "ecdsa", PROVEN, "ecdsa", None),
    ("proxy", "proxy+tls", None, PROVEN, "ecdsa", None),
    ("proxy", "proxy2+https", None, PROVEN, "ecdsa", None),
    ("proxy", "tls", None, NONE, None, None),
    ("client-1.2", "tls", None, PROVEN, "ecdsa", None),
    ("client-1.3", "tls", None, PROVEN, "ecdsa", None),
    ("other-suites", "tls", None, NONE, None, Trouble.NO_HANDSHAKE),
    ("mixed-1.2", "tls", None, SHOWN, "ecdsa", Trouble.MIXED_PAIR),
    ("mixed-1.3", "tls", None, SHOWN, "ecdsa", Trouble.MIXED_PAIR),
    ("mixed-1.3", "tls", "rsa", SHOWN, "ecdsa", Trouble.MIXED_PAIR),
    ("rejects", "tls", None, NONE, None, None),
    ("plain", "tls", None, NONE, None, None),
    ("old", "tls", None, PROVEN, "ecdsa", None),
    ("old", "tls", "rsa", PROVEN, "ecdsa", None),
)
APACHE: tuple[Row, ...] = (
    ("both", "tls", "rsa", PROVEN, "rsa", None),
    ("both", "tls", "ecdsa", PROVEN, "ecdsa", None),
    ("old", "tls", None, PROVEN, "rsa", None),
    ("client-1.2", "tls", None, PROVEN, "ecdsa", None),
    ("proxy", "proxy+tls", None, PROVEN, "ecdsa", None),
    ("proxy", "proxy2+tls", None, PROVEN, "ecdsa", None),
    ("other-suites", "tls", None, NONE, None, Trouble.NO_HANDSHAKE),
)
HAPROXY: tuple[Row, ...] = (
    ("client-1.2", "tls", None, PROVEN, "ecdsa", None),
    ("client-1.3", "tls", None, PROVEN, "ecdsa", None),
    ("proxy", "proxy+tls", None, PROVEN, "ecdsa", None),
    ("proxy", "proxy2+tls", None, PROVEN, "ecdsa", None),
    ("proxy", "tls", None, NONE, None, None),
    ("both-1.2", "tls", "rsa", PROVEN, "rsa", None),
    ("both-1.2", "tls", "ecdsa", PROVEN, "ecdsa", None),
    ("both-1.3", "tls", "rsa", PROVEN, "rsa", None),
    ("both-1.3", "tls", "ecdsa", PROVEN, "ecdsa", None),
    ("other-suites", "tls", None, NONE, None, Trouble.NO_HANDSHAKE),
)
OPENSSL: tuple[Row, ...] = (
    ("tls1", "tls", None, PROVEN, "ecdsa", None),
    ("tls1_1", "tls", None, PROVEN, "rsa", None),
    ("one-suite-1.0", "tls", None, PROVEN, "rsa", None),
    ("one-suite-1.0", "tls", "ecdsa", PROVEN, "rsa", None),
    ("sha1-dhe", "tls", None, PROVEN, "rsa", None),
    ("no-encryption", "tls", None, PROVEN, "rsa", None),
    ("legacy", "tls", None, PROVEN, "rsa", None),
)


def wrong(rows: tuple[Row, ...], ports: servers.Ports, pairs: Pairs) -> list[tuple[Row, Look]]:
    found = []
    for row in rows:
        listener, protocol, kind, *expected = row
        seen = see(ports[listener], protocol, kind)
        if [seen.answer, pairs.of(seen), seen.trouble] != expected:
            found.append((row, seen))
    return found


def test_nginx(pairs: Pairs, base: Path) -> None:
    require("nginx")
    with servers.nginx(base, pairs.ecdsa, pairs.rsa, pairs.mixed) as ports:
        await_open(ports, base)
        assert wrong(NGINX, ports, pairs) == []


def test_reload_of_nginx_is_over_when_it_is_said_to_be(pairs: Pairs, tmp_path: Path) -> None:
    """Old and new workers answer for a moment: once a leaf was awaited, no other one comes."""
    require("nginx")
    current, base = tmp_path / "current", tmp_path / "nginx"
    for place in (current, base):
        place.mkdir()

    def put(one: Pair) -> None:
        shutil.copy(one.chain, current / "fullchain.pem")
        shutil.copy(one.key, current / "privkey.pem")

    put(pairs.ecdsa)
    with nginx_server(current, base) as server:
        point = ProbePoint(server.address, server.port, NAME)
        for one in (pairs.rsa, pairs.ecdsa):
            put(one)
            subprocess.run(server.reload_command, check=True, capture_output=True, timeout=30)
            assert waited(point, sha256(one), LIMIT)
            assert {see(server.port).leaf_sha256 for _ in range(40)} == {sha256(one)}


def waited(
    point: ProbePoint, leaf: str, seconds: float, starting: Callable[[], bool] | None = None
) -> bool:
    """Tell whether a leaf was awaited."""
    plan = resolve(Target(NAME, (NAME,), Path("/nowhere"), probe=(point,)))
    wanted = Awaited(plan, lambda looks: shows(looks, leaf), seconds)
    if starting is not None:
        wanted = replace(wanted, starting=starting, patience=LIMIT)
    [looks] = Sight().wait([wanted])
    return shows(looks, leaf)


def test_server_on_its_way_is_waited_for(pairs: Pairs, base: Path) -> None:
    """Its port refuses for longer than its leaf is waited for, while its unit is starting."""
    require("openssl")
    port, go, asked = free_port(), base / "go", list[float]()
    argv = ("openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}")
    files = ("-cert", str(pairs.ecdsa.chain), "-key", str(pairs.ecdsa.key))
    waits = f"until test -e {go}; do sleep 0.05; done; exec {shlex.join((*argv, *files))}"
    point, leaf = ProbePoint("127.0.0.1", port, NAME), sha256(pairs.ecdsa)

    def starting() -> bool:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] > 0.6:
            go.touch()
        return True

    with servers.started("sh", "-c", waits, log=base / "log"):
        assert not waited(point, leaf, 0.2)
        assert waited(point, leaf, 0.2, starting)


def test_apache(pairs: Pairs, base: Path) -> None:
    require("apache2")
    with servers.apache(base, pairs.ecdsa, pairs.rsa) as ports:
        await_open(ports, base)
        assert wrong(APACHE, ports, pairs) == []


def test_haproxy(pairs: Pairs, base: Path) -> None:
    require("haproxy")
    with servers.haproxy(base, pairs.ecdsa, pairs.rsa) as ports:
        await_open(ports, base)
        assert wrong(HAPROXY, ports, pairs) == []


def test_openssl_with_what_others_have_given_up(pairs: Pairs, base: Path) -> None:
    require("openssl")
    with servers.openssl(base, pairs.ecdsa, pairs.rsa) as ports:
        await_open(ports, base)
        assert wrong(OPENSSL, ports, pairs) == []


Start = Callable[[Path, Pair], AbstractContextManager[servers.Ports]]
SPEAKING: dict[str, tuple[Start, tuple[str, ...], str]] = {
    "postfix": (servers.postfix, ("smtp", "smtps", "proxy+smtp", "proxy2+smtp"), "postfix"),
    "dovecot": (
        servers.dovecot,
        (
            *("imap", "imaps", "pop3", "pop3s", "lmtp", "sieve"),
            *("proxy+imap", "proxy2+pop3"),
        ),
        "dovecot",
    ),
    "slapd": (servers.slapd, ("ldap", "ldaps"), "slapd"),
    "mariadb": (servers.mariadb, ("mysql",), "mariadbd"),
    "postgresql": (servers.postgresql, ("postgresql",), ""),
    "vsftpd": (servers.vsftpd, ("ftp", "ftps"), "vsftpd"),
    "prosody": (servers.prosody, ("xmpp", "xmpp-server", "xmpps"), "prosody"),
}


@pytest.fixture(params=SPEAKING)
def speaking(
    request: pytest.FixtureRequest, pairs: Pairs, base: Path
) -> Iterator[tuple[servers.Ports, tuple[str, ...]]]:
    start, protocols, program = SPEAKING[request.param]
    if program:
        require(program)
    elif missing("postgresql"):
        require(missing("postgresql"))
    with start(base, pairs.rsa) as ports:
        await_open(ports, base)
        yield ports, protocols


def test_servers_that_speak_before_tls(
    speaking: tuple[servers.Ports, tuple[str, ...]], pairs: Pairs, base: Path
) -> None:
    ports, protocols = speaking
    for protocol in protocols:
        seen = see(ports[protocol], protocol)
        assert (seen.answer, pairs.of(seen)) == (PROVEN, "rsa"), (
            protocol,
            seen,
            servers.log_of(base),
        )
    if "none" in ports:
        seen = see(ports["none"], "smtp")
        assert (seen.answer, seen.trouble) == (NONE, None) and "it said" in seen.why


def test_every_dialogue_is_held_with_a_real_server() -> None:
    held = {protocol for _, protocols, _ in SPEAKING.values() for protocol in protocols}
    assert set(STARTTLS) <= held
