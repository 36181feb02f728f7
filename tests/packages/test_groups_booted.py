"""Installing by the shipped units on a machine with its own systemd: servers that are stopped, that
die, and that take their time.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target, load_targets
from tests.line import wait_until
from tests.packages import test_booted
from tests.packages.booted import Booted
from tests.packages.services import NAME, SERVICES
from tests.packages.test_booted import PULL, SITE, TLS, Machines, write_targets

pytestmark = [pytest.mark.packages, pytest.mark.timeout(900)]
machines = test_booted.machines

TARGETS = "etc/split-horizon-relay/targets.toml"
FIRST, APACHE, SLOW = (f"{TLS}-{name}" for name in ("first", "apache", "slow"))
STATIC = "/etc/apache2/static.key"
SLOW_PORT = 4470
PEM = f"{SLOW}/current"
SLOW_SERVER = f"""[Service]
ExecStartPre=/bin/sh -c 'echo start >>/run/slow-starts; sleep 20'
ExecStart=openssl s_server -quiet -accept {SLOW_PORT} -www \
  -cert {PEM}/cert.pem -cert_chain {PEM}/chain.pem -key {PEM}/privkey.pem
TimeoutStartSec=90
"""


@pytest.fixture
def inside(machines: Machines) -> Iterator[Booted]:
    """The server machine with nginx alone, and afterwards so again."""
    machine = machines.inside
    (nginx,) = load_targets(machine / TARGETS)
    yield machine
    (machine / "etc/nginx/sites-enabled/www").write_text(SITE)
    machine.run("systemctl", "stop", "apache2", "slow", expect=None)
    write_targets(machine, nginx)
    machine.run("systemctl", "reset-failed", expect=None)
    machine.run("systemctl", "restart", "nginx")
    machine.run("internal-puller", "pull", "--retry", expect=None)
    assert machines.newest_is_in_place()


def state(machine: Booted, unit: str) -> str:
    return machine.unit(f"{unit}.service", "ActiveState")


def pulled(machine: Booted) -> str:
    """Have the timer's service pull, and return what it said."""
    since = machine.run("date", "+%s").out.strip()
    machine.run("systemctl", "start", PULL, expect=None)
    return machine.run(
        *("journalctl", "--no-pager", "--quiet", f"--since=@{since}", f"--unit={PULL}")
    ).out


def nginx_of(machine: Booted) -> Target:
    (target,) = (one for one in load_targets(machine / TARGETS) if str(one.directory) == TLS)
    return target


def leaf_at(machine: Booted, port: int = 443) -> bytes:
    """What a client sees."""
    command = (
        f"openssl s_client -connect 127.0.0.1:{port} -servername {NAME} </dev/null 2>/dev/null"
    )
    told = machine.run("sh", "-c", f"{command} | openssl x509").out
    return ssl.PEM_cert_to_DER_cert(told)


# --- servers that do not run ------------------------------------------------------------------


def test_a_first_certificate_while_the_server_is_stopped(
    machines: Machines, inside: Booted
) -> None:
    """Its configuration names the files: without them it could not start any more."""
    inside.run("systemctl", "stop", "nginx")
    site = SITE.replace(TLS, FIRST)
    (inside / "etc/nginx/sites-enabled/www").write_text(site)
    write_targets(inside, replace(nginx_of(inside), directory=Path(FIRST)))
    said = pulled(inside)
    assert machines.newest_is_in_place(FIRST)
    assert state(inside, "nginx") == "inactive"
    assert "systemctl start nginx" in said, said
    inside.run("systemctl", "start", "nginx")
    assert leaf_at(inside) == machines.ca.issued[-1].der


def test_a_renewal_while_the_server_is_stopped(machines: Machines, inside: Booted) -> None:
    inside.run("systemctl", "stop", "nginx")
    machines.renewed()
    said = pulled(inside)
    assert machines.newest_is_in_place()
    assert state(inside, "nginx") == "inactive", "what somebody stopped stays stopped"
    assert "systemctl start nginx" in said, said
    assert not (inside / TLS / "set-aside.json").exists()
    inside.run("systemctl", "start", "nginx")
    assert leaf_at(inside) == machines.ca.issued[-1].der
    wait_until(lambda: inside.run("internal-puller", "pull", expect=None).code == 0, 90)
    status = inside.run("internal-puller", "status").out
    assert re.search(rf"^{re.escape(NAME)}\s.*\byes\b", status, re.MULTILINE), status


def _apache(machine: Booted, key: str) -> Target:
    machine.run("sh", "-euc", SERVICES["apache"].before)
    for path, text in SERVICES["apache"].files.items():
        told = text.format(tls=f"{APACHE}/current")
        (machine / path).write_text(told.replace(f"{APACHE}/current/privkey.pem", key))
    probe = (SERVICES["apache"].probe,)
    return replace(nginx_of(machine), directory=Path(APACHE), preset="apache", probe=probe)


def test_one_that_is_stopped_beside_one_that_runs(machines: Machines, inside: Booted) -> None:
    """`reload-or-restart` and `apachectl graceful` start what is stopped."""
    apache = _apache(inside, f"{APACHE}/current/privkey.pem")
    write_targets(inside, nginx_of(inside), apache)
    machines.renewed()
    pulled(inside)
    assert machines.newest_is_in_place() and machines.newest_is_in_place(APACHE)
    assert leaf_at(inside) == machines.ca.issued[-1].der
    assert state(inside, "apache2") == "inactive"


def test_apache_that_its_reload_ended(machines: Machines, inside: Booted) -> None:
    """Its configtest reads no key: the reload says 0, and then every site is down."""
    apache = _apache(inside, f"{APACHE}/current/privkey.pem")
    write_targets(inside, nginx_of(inside), replace(apache, test_command=(), reload_command=()))
    inside.run("internal-puller", "pull", expect=None)
    inside.run("cp", "-L", f"{APACHE}/current/privkey.pem", STATIC)
    apache = _apache(inside, STATIC)  # an administrator's mistake: the key of the next one differs
    inside.run("systemctl", "restart", "apache2")
    write_targets(inside, nginx_of(inside), apache)
    before, pid = leaf_at(inside, 4431), inside.unit("apache2.service", "MainPID")
    machines.renewed()
    said = pulled(inside)
    assert state(inside, "apache2") == "active"
    assert leaf_at(inside, 4431) == before
    assert not machines.newest_is_in_place(APACHE)
    assert inside.unit("apache2.service", "MainPID") != pid, "it had ended"
    assert inside.unit(PULL, "ExecMainStatus") == "9", said
    assert machines.newest_is_in_place(), "nginx is another server"
    assert leaf_at(inside) == machines.ca.issued[-1].der


# --- a server that takes its time -------------------------------------------------------------


def test_a_restart_that_takes_twenty_seconds_is_one(machines: Machines, inside: Booted) -> None:
    (inside / "etc/systemd/system/slow.service").write_text(SLOW_SERVER)
    inside.run("systemctl", "daemon-reload")
    slow = replace(
        nginx_of(inside),
        directory=Path(SLOW),
        preset="none",
        test_command=(),
        reload_command=("systemctl", "restart", "slow"),
        command_timeout=60.0,
        probe=(ProbePoint("127.0.0.1", SLOW_PORT, NAME),),
        probe_timeout=60.0,
    )
    write_targets(inside, nginx_of(inside), replace(slow, reload_command=(), probe=()))
    inside.run("internal-puller", "pull", expect=None)
    inside.run("systemctl", "start", "slow")
    write_targets(inside, nginx_of(inside), slow)
    machines.renewed()
    (inside / "run/slow-starts").unlink(missing_ok=True)
    inside.run("rm", "-f", "/run/slow-starts")
    pulled(inside)
    assert inside.run("cat", "/run/slow-starts").out.splitlines() == ["start"]
    assert machines.newest_is_in_place(SLOW)
    assert inside.unit(PULL, "ExecMainStatus") == "0"
    assert leaf_at(inside, SLOW_PORT) == machines.ca.issued[-1].der
