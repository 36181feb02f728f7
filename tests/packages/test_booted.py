"""The README's commands on two machines with their own systemd, joined by the Internet and a NAT.

What only a real process 1 shows: accounts, sandboxes as the kernel enforces them, a socket that is
passed on, timers, reloads through D-Bus, and what is left after a package is removed.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from internal_puller.settings.presets.catalogue import NAMES, known
from internal_puller.settings.presets.preset import UNIT
from internal_puller.settings.targets import Target, load_targets, save_targets
from tests.lab import LabCa, SplitDns
from tests.lab.peers import require
from tests.line import wait_until
from tests.packages.booted import Booted, booted
from tests.packages.services import SERVICES
from tests.topology.world import INTERNET, RELAY, WWW, inside_dns, lab_ca, outside_dns, world

pytestmark = [pytest.mark.packages, pytest.mark.timeout(900)]
TLS = f"/etc/split-horizon-relay/tls/{WWW}"
SITE = f"""server {{
  listen 443 ssl;
  server_name {WWW};
  ssl_certificate {TLS}/current/fullchain.pem;
  ssl_certificate_key {TLS}/current/privkey.pem;
}}
"""
SHOWN = "import ssl; print(ssl.get_server_certificate(('127.0.0.1', 443)))"
PULL = "internal-puller.service"
STAYS = "internal-puller-run.service"
RECOVER = "internal-puller-recover.service"
ROOTS = ("internal-puller-commands@x.service", "internal-puller-mounts@x.service")


@dataclass
class Machines:
    """The VM with the agent and the server with the puller, both installed by their packages."""

    ca: LabCa
    dns: SplitDns
    vm: Booted
    inside: Booted

    def newest_is_in_place(self, directory: str = TLS) -> bool:
        """Tell whether the files are the newest that the CA issued."""
        link = self.inside / directory / "current"
        if not link.is_symlink():
            return False
        place = self.inside / directory / link.readlink() / "cert.pem"
        return ssl.PEM_cert_to_DER_cert(place.read_text()) == self.ca.issued[-1].der

    def newest_is_served(self) -> bool:
        """Tell whether nginx shows the newest that the CA issued."""
        shown = self.inside.run("python3", "-c", SHOWN).out
        return ssl.PEM_cert_to_DER_cert(shown) == self.ca.issued[-1].der

    def renewed(self) -> None:
        """Have the agent get and keep the next generation."""
        before = self.status()["issued"]["generation"]
        self.vm.run("external-agent", "renew", WWW)
        wait_until(lambda: self.status()["issued"]["generation"] > before, 60)

    def status(self) -> dict[str, Any]:
        """Return what the agent says of the certificate."""
        told = json.loads(self.vm.run("external-agent", "status", "--json", expect=None).out)
        return cast("dict[str, Any]", told["certificates"][0])


@pytest.fixture(scope="module")
def machines(
    debian_packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    for program in ("systemd-nspawn", "dbus-daemon", "nsenter", "ip", "nft", "nginx"):
        require(program)
    base = tmp_path_factory.mktemp("booted")
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(world())
        dns = stack.enter_context(outside_dns(net))
        stack.enter_context(inside_dns(net))
        ca = stack.enter_context(lab_ca(net, dns))
        agent, puller = debian_packages["agent"], debian_packages["puller"]
        vm = stack.enter_context(booted(base / "vm", net.vm, agent))
        inside = stack.enter_context(booted(base / "inside", net.intranet, puller))
        inside.run("systemctl", "start", "nginx")
        made = Machines(ca, dns, vm, inside)
        _first_afternoon(made, agent.name, puller.name)
        yield made


def _first_afternoon(made: Machines, agent: str, puller: str) -> None:
    """Four commands on the VM and three inside, as the README has them."""
    vm, inside, ca = made.vm, made.inside, made.ca
    (vm / "root/ca.pem").write_text(ca.tls_root_pem)
    vm.run("dpkg", "--install", f"/{agent}")
    vm.run(
        *("external-agent", "init", "--ca", ca.directory_url, "--ca-root", "/root/ca.pem"),
        *("--agree-terms", "--relay-url", f"https://{RELAY}:8443"),
    )
    settings = vm / "etc/split-horizon-relay/agent.toml"
    ours = f'[dns01]\nresolvers = ["{INTERNET}"]\n'  # no public resolver is reached from here
    settings.write_text(
        settings.read_text().replace("[dns01]\n", ours) + "[doctor]\nresolvers = []\n"
    )
    vm.run(
        *("systemctl", "enable", "--now"),
        *("external-agent-challenge.socket", "external-agent.service"),
    )
    token = vm.run("external-agent", "add", WWW).out

    (inside / "root/staging-root.pem").write_text(ca.root_pem)
    inside.run("dpkg", "--install", f"/{puller}")
    told = inside.run(
        *("internal-puller", "enroll", "--preset", "nginx"),
        *("--root", "/root/staging-root.pem"),
        stdin=token,
    )
    assert "kept as /etc/split-horizon-relay/roots/" in told.out
    (inside / "etc/nginx/sites-enabled/www").write_text(SITE)
    ca.wait_for(lambda ca: bool(ca.issued), 60)
    wait_until(lambda: inside.run("internal-puller", "pull") and made.newest_is_in_place())
    inside.run("systemctl", "enable", "--now", "internal-puller.timer")


def test_two_machines_share_no_cgroup(machines: Machines) -> None:
    """They have units of one name, and each systemd removes the cgroups that it finds empty."""
    trees = [cgroups(machine.leader) for machine in (machines.vm, machines.inside)]
    shared = [name for name in trees[0] if trees[0][name] == trees[1][name]]
    assert not shared, trees


def cgroups(process: int) -> dict[str, str]:
    """Return the cgroup of a process in each hierarchy."""
    lines = Path(f"/proc/{process}/cgroup").read_text().splitlines()
    return dict(line.split(":", 2)[1:] for line in lines)


def test_what_is_served_is_what_the_ca_issued(machines: Machines) -> None:
    status = machines.inside.run("internal-puller", "status").out
    assert re.search(rf"^{re.escape(WWW)}\s.*\byes\b", status, re.MULTILINE), status


def test_the_doctor_finds_nothing_to_be_done(machines: Machines) -> None:
    told = machines.inside.run("internal-puller", "doctor").out
    assert "unknown" not in told, told


def test_nobody_runs_as_root_who_speaks_to_the_network(machines: Machines) -> None:
    agent = machines.vm.unit("external-agent.service", "MainPID")
    owner = machines.vm.run("ps", "-o", "user=", "-p", agent).out.strip()
    assert owner == "external-agent"
    assert machines.inside.unit(PULL, "User") == machines.inside.unit(STAYS, "User")
    assert machines.inside.unit(PULL, "User") == "internal-puller"


def test_the_exposure_of_every_unit(machines: Machines) -> None:
    """At most 2.0, as systemd counts it."""
    for machine, units in (
        (machines.vm, ("external-agent.service",)),
        (machines.inside, (PULL, STAYS, RECOVER, *ROOTS)),
    ):
        for unit in units:
            told = machine.run("systemd-analyze", "security", "--no-pager", unit).out
            (level,) = re.findall(r"Overall exposure level for .*: ([0-9.]+)", told)
            assert float(level) <= 2.0, (unit, level)


def test_the_timers_service_installs_and_reloads(machines: Machines) -> None:
    machines.renewed()
    machines.inside.run("systemctl", "start", PULL)
    assert machines.newest_is_in_place()
    key = machines.inside / TLS / "current" / "privkey.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    assert machines.inside.run("stat", "-c", "%U", f"{TLS}/current/privkey.pem").out.strip() == (
        "internal-puller"
    )
    said = machines.inside.journal("internal-puller-commands@*")
    assert "nginx -t ended with exit code 0" in said
    assert "systemctl reload nginx ended with exit code 0" in said


def test_the_one_that_stays_is_woken(machines: Machines) -> None:
    machines.inside.run("systemctl", "start", STAYS)
    try:
        machines.renewed()
        wait_until(machines.newest_is_in_place, 60)
        assert machines.inside.unit(STAYS, "NRestarts") == "0"
    finally:
        machines.inside.run("systemctl", "stop", STAYS)


def test_a_configuration_that_was_broken_already_takes_nothing_back(machines: Machines) -> None:
    """The new files are not the cause: they stay, unserved, until the configuration is mended."""
    site = machines.inside / "etc/nginx/sites-enabled/broken"
    site.write_text("server { listen 443 ssl; nonsense; }\n")
    try:
        machines.renewed()
        done = machines.inside.run("systemctl", "start", PULL, expect=None)
        assert done.code != 0
        assert machines.inside.unit(PULL, "ExecMainStatus") == "9"
        assert machines.newest_is_in_place()
        assert not machines.newest_is_served()
        said = machines.inside.journal(PULL)
        assert "the configuration of nginx was already broken" in said
        assert "nonsense" in said
    finally:
        site.unlink()
    machines.inside.run("internal-puller", "pull", "--retry")
    assert machines.newest_is_in_place()
    wait_until(machines.newest_is_served)


def write_targets(machine: Booted, *targets: Target) -> None:
    """As an administrator leaves the file who knows its owner, group and mode."""
    file = "etc/split-horizon-relay/targets.toml"
    save_targets(machine / file, targets)
    machine.run("chown", "root:internal-puller", f"/{file}")
    machine.run("chmod", "640", f"/{file}")


def test_every_preset_with_debians_own_unit(machines: Machines) -> None:
    """All of them at once: tested, reloaded and seen by the service, in its sandbox."""
    inside = machines.inside
    file = inside / "etc/split-horizon-relay/targets.toml"
    (nginx,) = load_targets(file)
    for kind, service in SERVICES.items():
        inside.run("sh", "-euc", service.before.format(tls=f"{TLS}-{kind}/current"))
    own = [
        replace(
            nginx,
            directory=Path(f"{TLS}-{kind}"),
            preset=kind,
            probe=(service.probe,),
            probe_timeout=40.0,
            **service.target,
        )
        for kind, service in SERVICES.items()
    ]
    quiet = [replace(one, test_command=(), reload_command=(), probe=()) for one in own]
    write_targets(inside, nginx, *quiet)  # their files first, or no server starts
    inside.run("internal-puller", "pull")
    for kind, service in SERVICES.items():
        for path, text in service.files.items():
            (inside / path).write_text(text.format(tls=f"{TLS}-{kind}/current"))
    inside.run("systemctl", "start", *(service.unit for service in SERVICES.values()))
    write_targets(inside, nginx, *own)
    machines.renewed()
    inside.run("systemctl", "start", PULL)
    said = inside.journal("internal-puller-commands@*", lines=400)
    for kind, service in SERVICES.items():
        assert machines.newest_is_in_place(f"{TLS}-{kind}")
        command = " ".join(part.replace(UNIT, service.unit) for part in known(kind).reload)
        assert f"{command} ended with exit code 0" in said, said


def test_what_presets_run_leaves_a_stopped_unit_stopped(machines: Machines) -> None:
    """By Debian's own units, of every server that has a preset and is installed here."""
    tried = set()
    for preset in map(known, NAMES):
        for unit in preset.units:
            if machines.inside.unit(unit, "LoadState") != "loaded":
                continue
            ran = machines.inside.unit(unit, "ActiveState") == "active"
            machines.inside.run("systemctl", "stop", unit)
            argv = [part.replace(UNIT, unit) for part in preset.reload]
            machines.inside.run(*argv, expect=None)
            assert machines.inside.unit(unit, "ActiveState") != "active", argv
            if ran:
                machines.inside.run("systemctl", "start", unit)
            tried.add(preset.name)
    assert tried >= {"nginx", "apache", "haproxy", "postgresql", "tomcat", "openldap", "vsftpd"}
    machines.inside.run("systemctl", "stop", "apache2", "nginx")  # they want the same port
    machines.inside.run("systemctl", "reload-or-restart", "apache2")  # what no preset may do
    assert machines.inside.unit("apache2", "ActiveState") == "active"
    machines.inside.run("systemctl", "stop", "apache2")
    machines.inside.run("systemctl", "start", "nginx")


def test_after_the_next_boot_all_of_it_is_there(machines: Machines) -> None:
    assert machines.inside.unit("internal-puller.timer", "UnitFileState") == "enabled"
    for unit in ("external-agent.service", "external-agent-challenge.socket"):
        assert machines.vm.unit(unit, "UnitFileState") == "enabled"


def test_a_removed_package_leaves_the_server_running(machines: Machines) -> None:
    machines.inside.run("dpkg", "--purge", "split-horizon-relay-puller")
    assert machines.inside.unit("internal-puller.timer", "ActiveState") == "inactive"
    assert not (machines.inside / "usr/bin/internal-puller").is_symlink()
    assert (machines.inside / TLS / "current" / "privkey.pem").is_file()
    machines.inside.run("systemctl", "reload", "nginx")
