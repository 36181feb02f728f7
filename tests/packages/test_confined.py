"""What the services may do, found out by trying, on booted machines and as the shipped units.

A drop-in lets the unit itself run another program; all else of it stays as it is shipped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from internal_puller.settings.targets import Target, load_targets
from tests.line import wait_until
from tests.packages import asking, test_booted, walk
from tests.packages.booted import Booted
from tests.packages.test_booted import PULL, STAYS, TLS, Machines, write_targets
from tests.topology.world import INTERNET, WWW

pytestmark = [pytest.mark.packages, pytest.mark.timeout(900)]
machines = test_booted.machines

AGENT = "external-agent.service"
PLACES = {
    PULL: "/var/lib/split-horizon-relay/puller",
    STAYS: "/var/lib/split-horizon-relay/puller",
    AGENT: "/var/lib/split-horizon-relay/agent",
}
# Logging and readiness; where a machine has them DNS (systemd-resolved, nscd), and for the agent
# PostgreSQL. There is no D-Bus.
ALLOWED = re.compile(
    r"/run/systemd/(notify|journal/(socket|stdout|dev-log|syslog)|resolve/io\.systemd\.Resolve)"
    r"|/run/nscd/socket"
)
TARGETS, DIRECT, PULLER = (
    f"etc/split-horizon-relay/{name}.toml" for name in ("targets", "direct", "puller")
)
COMMANDS = "/run/split-horizon-relay/commands"
MOUNTS = "/run/split-horizon-relay/mounts"
PYTHON = "/opt/split-horizon-relay/puller/bin/python"
# Other services' ways to be told what to do, as Debian's packages make them; 0666 is the worst.
STAND_INS = {
    "/run/docker.sock": 0o660,
    "/run/haproxy/admin.sock": 0o660,
    "/run/libvirt/libvirt-sock": 0o666,
    "/run/snapd.socket": 0o666,
}
KEYS = {
    "/etc/ssl/private/x.key": ("root", "ssl-cert", 0o640),
    "/var/lib/postgresql/x.key": ("postgres", "postgres", 0o600),
    "/root/x.key": ("root", "root", 0o644),
}
OTHERS = (
    "/etc/shadow",
    "/dev/shm/x.key",
    "/proc/1/environ",
    "/proc/1/mem",
    "/proc/kcore",
    "/dev/mem",
)


@dataclass(frozen=True)
class Found:
    told: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.told[name]


def in_place_of(machine: Booted, unit: str, program: Path | str, *arguments: str) -> str:
    """Let a unit run a program of ours to its end, and return what that wrote."""
    if isinstance(program, Path):
        there = f"/usr/local/lib/{program.name}"
        (machine / there).write_text(program.read_text())
        program = f"/usr/bin/python3 {there}"
    said = "/usr/local/lib/said"
    folder = machine / f"etc/systemd/system/{unit}.d"
    folder.mkdir(parents=True, exist_ok=True)
    dropin = folder / "tried.conf"
    dropin.write_text(
        "[Service]\nType=oneshot\nExecStart=\nRestart=no\nTimeoutStartSec=5min\n"
        f"ExecStart={' '.join((program, *arguments))}\nStandardOutput=truncate:{said}\n"
    )
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", unit)
        return (machine / said).read_text()
    finally:
        dropin.unlink()
        machine.run("systemctl", "daemon-reload")


def _stand_ins(machine: Booted) -> None:
    make = "import os,socket,sys,time\nfor path in sys.argv[1:]:\n"
    make += " os.makedirs(os.path.dirname(path), exist_ok=True)\n"
    make += " globals().setdefault('kept', []).append(socket.socket(socket.AF_UNIX))\n"
    make += " kept[-1].bind(path); kept[-1].listen()\nterminal = os.openpty()\n"
    make += "open('/dev/shm/x.key', 'w').close()\ntime.sleep(9999)"
    (machine / "usr/local/lib/stand_ins.py").write_text(make)
    machine.run(
        *("systemd-run", "--quiet", "--unit=stand-ins", "python3", "/usr/local/lib/stand_ins.py"),
        *STAND_INS,
    )
    for path, mode in STAND_INS.items():
        machine.run("sh", "-c", f"until chmod {mode:o} {path}; do sleep 0.1; done")
    machine.run("sh", "-c", "test -p /run/initctl || mkfifo -m 600 /run/initctl")
    machine.run("sh", "-c", "test -p /run/told || mkfifo -m 666 /run/told")
    for path, (owner, group, mode) in KEYS.items():
        machine.run("install", "-D", "-m", f"{mode:o}", "/dev/null", path)
        machine.run("chown", f"{owner}:{group}", path, expect=None)


def _walked(machine: Booted, unit: str) -> Found:
    _stand_ins(machine)
    try:
        listed = machine.run("find", "/run", "-type", "s", "-o", "-type", "p").out.split()
        assert set(STAND_INS) | {"/run/initctl"} <= set(listed)
        asked = {
            "sockets": [*listed, *(f"/proc/1/root{one}" for one in listed)],
            "secrets": [*KEYS, *OTHERS],
            "place": PLACES[unit],
        }
        (machine / "usr/local/lib/asked").write_text(json.dumps(asked))
        said = in_place_of(machine, unit, Path(walk.__file__), "/usr/local/lib/asked")
        return Found(cast("dict[str, Any]", json.loads(said)))
    finally:
        machine.run("systemctl", "stop", "stand-ins")
        machine.run("rm", "-f", *STAND_INS, *KEYS, "/run/told", "/dev/shm/x.key")


def _check(found: Found, *more: str) -> None:
    allowed = [one for one in found.sockets if ALLOWED.fullmatch(one)]
    assert sorted(set(found.sockets) - set(allowed)) == sorted(more)
    assert "/run/systemd/notify" in allowed and "/run/systemd/journal/dev-log" in allowed
    assert found.secrets == []
    assert found.by_handle == []
    assert found.systemctl != 0
    devices = {f"/dev/{one}" for one in ("null", "zero", "full", "random", "urandom", "tty")}
    private = {"/tmp", "/var/tmp"}  # PrivateTmp: of the unit itself
    assert set(found.writable) - devices - private - set(allowed) - set(more) == set()
    assert set(found.takeable) - private == set()


@pytest.mark.parametrize("unit", [PULL, STAYS])
def test_what_the_kernel_lets_the_puller_open(machines: Machines, unit: str) -> None:
    sockets = (f"internal-puller-{name}.socket" for name in ("commands", "mounts"))
    machines.inside.run("systemctl", "start", *sockets)
    found = _walked(machines.inside, unit)
    _check(found, COMMANDS, MOUNTS)
    assert set(found.capabilities.values()) == {1}, "CAP_CHOWN"
    refused = dict(found.tricks)
    for name in ("give it to root", "remove what was given away"):
        assert refused.pop(name) == "done"
    assert "done" not in refused.values(), refused
    assert machines.inside.run("systemctl", "is-system-running", expect=None).out.strip() in (
        *("running", "degraded"),
    )


def test_what_the_kernel_lets_the_agent_open(machines: Machines) -> None:
    machines.vm.run("systemctl", "stop", AGENT)
    try:
        found = _walked(machines.vm, AGENT)
    finally:
        machines.vm.run("systemctl", "start", AGENT)
    _check(found)
    assert set(found.capabilities.values()) == {0}
    refused = dict(found.tricks)
    assert refused.pop("remove what was given away") == "done", "it was never given"
    assert "done" not in refused.values(), refused


def test_the_agents_own_socket_is_for_root_and_itself(machines: Machines) -> None:
    path = "/var/lib/split-horizon-relay/agent/operator.sock"
    told = machines.vm.run("stat", "-c", "%U %a", path).out.split()
    assert told == ["external-agent", "600"]
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    machines.vm.run("python3", "-c", connect)
    strangers = ("setpriv", "--reuid=nobody", "--clear-groups", "python3", "-c", connect)
    assert "PermissionError" in machines.vm.run(*strangers, expect=1).err


def test_a_restore_hands_over_and_brings_the_roots(machines: Machines) -> None:
    vm, state = machines.vm, PLACES[AGENT]
    place = "/etc/split-horizon-relay"
    vm.run("external-agent", "backup", "/root/backup.tar")
    vm.run("systemctl", "stop", AGENT)
    vm.run("mkdir", "/root/away")
    vm.run("mv", f"{place}/agent.toml", f"{place}/ca-root.pem", state, "/root/away")
    vm.run("install", "-d", "-m", "700", "-o", "external-agent", "-g", "external-agent", state)
    try:
        done = vm.run("external-agent", "restore", "/root/backup.tar")
        assert "belongs to the account external-agent" in done.out + done.err
        assert set(vm.run("find", state, "-printf", "%u\n").out.split()) == {"external-agent"}
        modes = vm.run("stat", "-c", "%U %G %a", f"{place}/agent.toml", f"{place}/ca-root.pem").out
        assert modes.splitlines() == ["root external-agent 640", "root root 644"]
    finally:
        vm.run("systemctl", "start", AGENT)
    machines.renewed()


# --- the commands' socket ---------------------------------------------------------------------


def request_of(server: str = "nginx", step: str = "test", directory: str = TLS) -> str:
    member = {"directory": directory, "generation": 1}
    return json.dumps({"server": server, "step": step, "members": [member]})


def test_the_account_can_ask_for_nothing_else(machines: Machines) -> None:
    """It may choose a target and a step, in a file that is root's; it may not change what runs."""
    for request, answer in (
        (request_of(directory="/etc"), "There is no target in /etc"),
        (request_of(step="rm"), "'step' is none of"),
        (request_of(step="stop"), "'step' is none of"),
        (request_of(server="ssh"), "there is no one server 'ssh' that reads"),
        (request_of(step="reset-failed"), "'step' is none of"),
        (request_of(step="start"), "was not run: nginx"),
        ("nonsense", "not acceptable JSON"),
    ):
        (machines.inside / "usr/local/lib/request").write_text(request)
        told = in_place_of(machines.inside, PULL, Path(asking.__file__), "one")
        assert '"how":"was not run: ' in told and answer in told, told
    stranger = ("setpriv", "--reuid=nobody", "--clear-groups", "python3")
    machines.inside.run(*stranger, "/usr/local/lib/asking.py", "one", expect=1)


def test_settings_that_others_can_write_name_no_commands(machines: Machines) -> None:
    inside = machines.inside
    (inside / "usr/local/lib/request").write_text(request_of())
    place = "/etc/split-horizon-relay"
    for spoil, repair in (
        (f"chmod 666 {place}/targets.toml", f"chmod 640 {place}/targets.toml"),
        (f"chmod 777 {place}", f"chmod 755 {place}"),
        (f"chown internal-puller {place}", f"chown root {place}"),
    ):
        inside.run("sh", "-c", spoil)
        try:
            told = in_place_of(inside, PULL, Path(asking.__file__), "one")
        finally:
            inside.run("sh", "-c", repair)
        assert '"ok":null' in told and "changed by other" in told, (spoil, told)
    assert '"ok":true' in in_place_of(inside, PULL, Path(asking.__file__), "one")


def test_a_hundred_at_once_hold_nobody_up(machines: Machines) -> None:
    """Malformed, oversized, slow and mute ones; an honest request among them is answered."""
    inside = machines.inside
    (inside / "usr/local/lib/request").write_text(request_of())
    (inside / "usr/local/lib/asking.py").write_text(Path(asking.__file__).read_text())
    said = in_place_of(inside, PULL, PYTHON, "/usr/local/lib/asking.py", "hundred", TLS)
    told = json.loads(said)
    assert told["honest"]["ok"], told
    assert told["most_answer"] <= 4096, "what is refused is refused in a few words"

    def none_is_left() -> bool:
        units = ("systemctl", "list-units", "--no-legend", "internal-puller-commands@*")
        return not inside.run(*units).out.strip()

    wait_until(none_is_left, 30, what="the end of all of them")
    assert inside.unit("internal-puller-commands.socket", "ActiveState") == "active"


# --- every mode through the units -------------------------------------------------------------


def _owners(machines: Machines, place: str) -> set[str]:
    return set(machines.inside.run("find", place, "!", "-type", "l", "-printf", "%u\n").out.split())


def test_what_root_types_leaves_nothing_that_the_service_cannot_use(machines: Machines) -> None:
    """A roll-back and a pull by hand, and then the timer's service."""
    inside = machines.inside
    machines.renewed()
    inside.run("systemctl", "start", PULL)
    inside.run("internal-puller", "rollback", WWW)
    assert not machines.newest_is_in_place()
    inside.run("internal-puller", "pull", "--retry")
    for place in (TLS, PLACES[PULL]):
        assert _owners(machines, place) == {"internal-puller"}
    settings = inside.run("stat", "-c", "%U %G %a", "/etc/split-horizon-relay/targets.toml").out
    assert settings.split() == ["root", "internal-puller", "640"]
    machines.renewed()
    inside.run("systemctl", "start", PULL)
    assert machines.newest_is_in_place()


def test_a_rehearsal_typed_by_root(machines: Machines) -> None:
    """With the lab's CA as staging, too: to the server's configuration test, and no further."""
    inside, vm, settings = machines.inside, machines.vm, "etc/split-horizon-relay/agent.toml"
    before, links = (vm / settings).read_text(), (inside / TLS / "current").readlink()
    staging = (
        f'\n[acme.cas.staging]\ndirectory = "{machines.ca.directory_url}?staging"\n'
        'terms_agreed = true\nca_root = "/etc/split-horizon-relay/ca-root.pem"\n'
    )
    named = before.replace("[acme]\n", '[acme]\nstaging = "staging"\n')
    (vm / settings).write_text(named + staging)
    vm.run("systemctl", "reload", AGENT)
    roots = load_targets(inside / TARGETS)[0].roots
    try:
        said = inside.run("internal-puller", "rehearse", WWW, "--root", str(roots)).out
        assert "the rehearsal went well; nothing live was touched." in said
        for step in ("verified", "staged", "configuration"):
            assert re.search(rf"^ok +{step}", said, re.MULTILINE), said
        assert (inside / TLS / "current").readlink() == links
        for place in (TLS, PLACES[PULL]):
            assert _owners(machines, place) == {"internal-puller"}
    finally:
        (vm / settings).write_text(before)
        vm.run("systemctl", "reload", AGENT)
    machines.renewed()
    inside.run("systemctl", "start", PULL)
    assert machines.newest_is_in_place()


def _changes_over(machines: Machines, origin: str) -> None:
    """Have the agent take keys of another origin; it orders by itself, once it has a CSR."""
    before = machines.status()["issued"]["generation"]
    machines.vm.run("external-agent", "change", WWW, "--key-origin", origin)
    if origin == "puller":
        machines.inside.run("systemctl", "start", PULL)
    wait_until(lambda: machines.status()["issued"]["generation"] > before, 60)


def test_own_keys_by_the_timers_service(machines: Machines) -> None:
    """Sealed, then made inside, and back: learned by the service; it writes nothing below /etc."""
    inside, pull = machines.inside, ("systemctl", "start", PULL)
    settings = (inside / TARGETS).read_bytes()
    rule = inside / f"{PLACES[PULL]}/own-keys.json"
    again = ("internal-puller", "target", "change", WWW, "--key-origin", "any")
    try:
        _changes_over(machines, "puller")
        inside.run(*pull)
        assert machines.newest_is_in_place()
        assert json.loads(rule.read_text()) == {"certificates": [WWW]}
        assert _owners(machines, PLACES[PULL]) == {"internal-puller"}
        assert (inside / TARGETS).read_bytes() == settings
        machines.renewed()  # by the CSR that was left at once
        inside.run(*pull)
        assert machines.newest_is_in_place()

        _changes_over(machines, "agent")
        inside.run(*pull, expect=None)
        assert inside.unit(PULL, "ExecMainStatus") == "8"
        assert not machines.newest_is_in_place()
    finally:
        machines.vm.run("external-agent", "change", WWW, "--key-origin", "agent", expect=None)
        inside.run(*again, expect=None)
    inside.run(*pull)
    assert machines.newest_is_in_place()
    assert json.loads(rule.read_text()) == {"certificates": []}


def test_files_of_a_servers_account_are_replaced_and_pruned(machines: Machines) -> None:
    """Given to an account that lets nobody read them, and written in another form later."""
    inside, place = machines.inside, f"{TLS}-given"
    file = inside / TARGETS
    kept = load_targets(file)
    given = Target(WWW, (WWW,), Path(place), owner="daemon", probe=(), keep=2, roots=kept[0].roots)
    write_targets(inside, *kept, given)
    try:
        inside.run("systemctl", "start", PULL)
        assert machines.newest_is_in_place(place)
        key = f"{place}/current/privkey.pem"
        assert inside.run("stat", "-c", "%U %a", key).out.split() == ["daemon", "600"]
        write_targets(inside, *kept, replace(given, formats=("cert", "combined")))
        inside.run("systemctl", "start", PULL)
        assert inside.run("ls", f"{place}/current").out.split() == [
            *("cert.pem", "combined.pem", "generation.json", "own.pem"),
        ]
        for _ in range(3):
            machines.renewed()
            inside.run("systemctl", "start", PULL)
            assert machines.newest_is_in_place(place)
        assert len(inside.run("ls", f"{place}/generations").out.split()) == 2
        inside.run("internal-puller", "rollback", WWW)
        assert not machines.newest_is_in_place(place)
    finally:
        write_targets(inside, *kept)
        inside.run("internal-puller", "pull", "--retry", expect=None)
        inside.run("rm", "-rf", place)


def test_a_target_elsewhere(machines: Machines) -> None:
    """A directory of its own and leave to write there; the doctor names what is missing."""
    inside, room = machines.inside, "/etc/nginx/tls"
    place = f"{room}/{WWW}"
    kept = load_targets(inside / TARGETS)
    inside.run("mkdir", "-p", place)
    there = Target(WWW, (WWW,), Path(place), probe=(), roots=kept[0].roots)
    write_targets(inside, *kept, there)
    dropin = inside / f"etc/systemd/system/{PULL}.d/elsewhere.conf"
    dropin.parent.mkdir(parents=True, exist_ok=True)
    try:
        told = inside.run("internal-puller", "doctor", expect=None).out
        assert f"may not write to {place}" in told
        assert f"{place} does not belong to internal-puller" in told
        inside.run("install", "-d", "-o", "internal-puller", "-g", "internal-puller", room, place)
        dropin.write_text(f"[Service]\nReadWritePaths={room}\n")
        inside.run("systemctl", "daemon-reload")
        told = inside.run("internal-puller", "doctor", expect=None).out
        assert "may not write" not in told and "does not belong" not in told
        inside.run("systemctl", "start", PULL)
        assert machines.newest_is_in_place(place)
    finally:
        dropin.unlink(missing_ok=True)
        inside.run("systemctl", "daemon-reload")
        write_targets(inside, *kept)


def test_a_target_by_ssh(machines: Machines) -> None:
    inside, base = machines.inside, "/etc/split-horizon-relay/ssh"
    inside.run(
        *("sh", "-euc"),
        f"""install -d {base} /run/sshd
        for name in host id; do ssh-keygen -q -t ed25519 -N '' -f {base}/$name; done
        chgrp internal-puller {base}/id && chmod 640 {base}/id
        install -m 600 {base}/id.pub {base}/authorized_keys
        echo "[127.0.0.1]:2222 $(cat {base}/host.pub)" >{base}/known_hosts
        systemd-run --quiet --unit=stand-in-sshd /usr/sbin/sshd -D -f /dev/null -p 2222 \\
          -o HostKey={base}/host -o AuthorizedKeysFile={base}/authorized_keys \\
          -o StrictModes=no -o PidFile=none -o UsePAM=no -o "Subsystem=sftp internal-sftp"
        """,
    )
    kept = load_targets(inside / TARGETS)
    there = Target(
        *(WWW, (WWW,), Path(f"{TLS}-ssh")),
        test_command=("test", "-e", "/srv/there/current/privkey.pem"),
        probe=(),
        roots=kept[0].roots,
        ssh="root@127.0.0.1:2222",
        ssh_key=Path(f"{base}/id"),
        ssh_known_hosts=Path(f"{base}/known_hosts"),
        remote_directory=Path("/srv/there"),
    )
    write_targets(inside, *kept, there)
    try:
        inside.run("systemctl", "start", PULL)
        assert machines.newest_is_in_place("/srv/there")
    finally:
        write_targets(inside, *kept)
        inside.run("systemctl", "stop", "stand-in-sshd")


def test_direct_mode_and_its_first_order(machines: Machines) -> None:
    inside, place, name = machines.inside, f"{TLS}-direct", "direct.intra.example.com"
    kept = load_targets(inside / TARGETS)
    _direct(machines)
    inside.run("internal-puller", "direct", "add", name, "--challenge", "dns-persist-01")
    target = Target(name, (name,), Path(place), probe=(), roots=kept[0].roots)
    write_targets(inside, *kept, target)
    metrics = "/var/lib/split-horizon-relay/metrics/split-horizon-relay.prom"
    (inside / PULLER).write_text(f'metrics_file = "{metrics}"\n')
    try:
        printed = inside.run("internal-puller", "direct", "dns-persist", "record", name).out
        owner, _, text = printed.strip().splitlines()[-1].partition(" ")
        machines.dns.set("outside", owner.rstrip("."), "TXT", text.partition("TXT ")[2])
        inside.run("systemctl", "start", PULL)
        assert machines.newest_is_in_place(place)
        assert _owners(machines, PLACES[PULL]) == {"internal-puller"}
        reader = ("setpriv", "--reuid=nobody", "--clear-groups", "cat", metrics)
        assert "relay_puller_exit_code 0" in inside.run(*reader).out
    finally:
        write_targets(inside, *kept)
        inside.run("rm", "-rf", place, f"/{DIRECT}", f"/{PULLER}")


def test_what_the_service_starts_inherits_no_capability(machines: Machines) -> None:
    """A hook of direct mode, an alarm command, and the program that takes mail."""
    inside, name = machines.inside, "hook.intra.example.com"
    told = f"{PLACES[PULL]}/told"
    programs = {"hook": "hook", "alarm": "alarm", "sendmail": "mail"}
    for program, end in programs.items():
        script = inside / f"usr/local/sbin/{program}"
        script.write_text(
            f"#!/bin/sh\ngrep -E '^Cap|^NoNew' /proc/self/status >{told}-{end}\nexit 1\n"
        )
        script.chmod(0o755)
    inside.run("sh", "-c", "ln -sf /usr/local/sbin/sendmail /usr/sbin/sendmail")
    kept = load_targets(inside / TARGETS)
    _direct(machines, '[dns01.hook]\ncommand = ["/usr/local/sbin/hook"]\n')
    inside.run("internal-puller", "direct", "add", name, "--challenge", "dns-01")
    broken = Target(name, (name,), Path(f"{TLS}-hook"), probe=(), roots=kept[0].roots)
    write_targets(inside, *kept, broken)
    (inside / PULLER).write_text(
        'alarm_command = ["/usr/local/sbin/alarm"]\nalarm_mail = "ops@example.com"\n'
    )
    site = inside / "etc/nginx/sites-enabled/broken"
    site.write_text("server { listen 443 ssl; nonsense; }\n")
    try:
        machines.renewed()
        inside.run("systemctl", "start", PULL, expect=None)
        for end in programs.values():
            lines = (inside / f"{told}-{end}").read_text().splitlines()
            values = {one.partition(":")[0]: int(one.split()[1], 16) for one in lines}
            assert values.pop("NoNewPrivs") == 1
            assert values.pop("CapBnd") == 1, "nothing is gained by it with NoNewPrivileges"
            assert set(values.values()) == {0}, (end, lines)
    finally:
        site.unlink()
        write_targets(inside, *kept)
        inside.run("rm", "-f", f"/{DIRECT}", f"/{PULLER}", "/usr/sbin/sendmail")
        inside.run("internal-puller", "pull", "--retry", expect=None)


def _direct(machines: Machines, more: str = "") -> None:
    """Direct mode with the lab's CA, as root sets it up."""
    inside = machines.inside
    (inside / "root/ca-tls.pem").write_text(machines.ca.tls_root_pem)
    inside.run(
        *("internal-puller", "direct", "init", "--ca", machines.ca.directory_url),
        *("--ca-root", "/root/ca-tls.pem", "--agree-terms"),
    )
    with (inside / DIRECT).open("a") as file:
        file.write(f'[dns01]\nresolvers = ["{INTERNET}"]\n{more}')
