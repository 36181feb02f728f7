"""The README's package path and its way to production, line by line, on booted machines.

The lines are taken from README.md as they stand, and typed at a terminal. What has to be another
word here is in one table.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import LabCa
from tests.lab.peers import require
from tests.line import wait_until
from tests.packages.booted import Booted, booted
from tests.packages.roots import ENVIRONMENT
from tests.topology.world import CA, INTERNET, WWW, inside_dns, lab_ca, outside_dns, world

pytestmark = [pytest.mark.packages, pytest.mark.timeout(500)]
README = Path(__file__).parents[2] / "README.md"
PLACE = f"/etc/split-horizon-relay/tls/{WWW}/current"
COMMANDS_ON_THE_VM, COMMANDS_INSIDE = 4, 3
PRODUCTION_PORT = 444
_BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SECONDS = 90.0


def substitutions(made: Machines) -> tuple[tuple[str, str], ...]:
    """All that is typed otherwise than it stands in the README, and why."""
    return (
        # the version and the architecture of what is built here
        ("split-horizon-relay-agent_0.1.0_amd64.deb", made.packages["agent"].name),
        ("split-horizon-relay-puller_0.1.0_amd64.deb", made.packages["puller"].name),
        # a CA of the lab stands for Let's Encrypt, and no system knows the root of its HTTPS
        ("--ca letsencrypt-staging", f"--ca {made.staging.directory_url} --ca-root ca.pem"),
        ("--ca letsencrypt", f"--ca {made.production.directory_url}"),
    )


@dataclass
class Machines:
    """A VM and a server inside, with nothing installed."""

    packages: Mapping[str, Path]
    staging: LabCa
    production: LabCa
    vm: Booted
    inside: Booted

    def type(self, machine: Booted, line: str, answers: Mapping[str, str] | None = None) -> str:
        """Type a line of the README at a terminal of root's, and answer what is asked."""
        for shown, here in substitutions(self):
            line = re.sub(rf"{re.escape(shown)}(?=\s|$)", here, line)
        code, said = at_a_terminal(machine, line, answers or {})
        assert code == 0, f"{line}\n{said}\n{machine.journal()}"
        return said

    def is_in_place(self, ca: LabCa) -> bool:
        """Tell whether the newest certificate of a CA is what nginx was told to serve."""
        file = self.inside / PLACE
        if not file.is_symlink() or not ca.issued:
            return False
        leaf = (file.parent / file.readlink() / "cert.pem").read_text()
        return ssl.PEM_cert_to_DER_cert(leaf) == ca.issued[-1].der


def at_a_terminal(machine: Booted, line: str, answers: Mapping[str, str]) -> tuple[int, str]:
    """Run a line in root's home, on a pty; give each answer when its question is there."""
    enter = ["nsenter", f"--target={machine.leader}", "--all", "--"]
    child, terminal = pty.fork()
    if child == 0:
        environment = {**ENVIRONMENT, "HOME": "/root", "TERM": "xterm"}
        del environment["SYSTEMD_OFFLINE"]
        os.execvpe(enter[0], [*enter, "sh", "-c", f"cd && {line}"], environment)
    said, left, end = "", dict(answers), time.monotonic() + _SECONDS
    with contextlib.suppress(OSError):  # how a pty ends
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 0.5)[0]:
                continue
            said += os.read(terminal, 4096).decode(errors="replace")
            for question in [one for one in left if one in said]:
                time.sleep(0.2)  # a question for a secret drops what was typed before it
                os.write(terminal, f"{left.pop(question)}\n".encode())
        os.kill(child, signal.SIGKILL)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert not left, f"{line}: was not asked: {list(left)}\n{said}"
    return code, said


def lines_of(heading: str) -> list[list[str]]:
    """Return the commands of each block of a section, as they are typed."""
    text = README.read_text().partition(f"\n### {heading}\n")[2]
    section = re.split(r"\n##+ ", text)[0]
    blocks = [re.sub(r" *\\\n *", " ", block) for block in _BLOCK.findall(section)]
    return [
        [re.split(r"\s{2,}#", line)[0].strip() for line in block.splitlines() if line]
        for block in blocks
    ]


@pytest.fixture(scope="module")
def machines(
    debian_packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    for program in ("systemd-nspawn", "dbus-daemon", "nsenter", "ip", "nft", "nginx"):
        require(program)
    base = tmp_path_factory.mktemp("readme")
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(world())
        dns = stack.enter_context(outside_dns(net))
        stack.enter_context(inside_dns(net))
        staging = stack.enter_context(lab_ca(net, dns))
        with net.internet.entered():
            production = LabCa(
                resolver=dns.resolver,
                http_port=80,
                https_port=443,
                host=INTERNET,
                port=PRODUCTION_PORT,
                public_name=CA,
            )
            production.__enter__()
        stack.callback(production.__exit__, None, None, None)
        vm = stack.enter_context(booted(base / "vm", net.vm))
        inside = stack.enter_context(booted(base / "inside", net.intranet))
        made = Machines(debian_packages, staging, production, vm, inside)
        for machine, side in ((vm, "agent"), (inside, "puller")):
            shutil.copy(debian_packages[side], machine / "root")
        (vm / "root/ca.pem").write_text(staging.tls_root_pem + production.tls_root_pem)
        (inside / "root/staging-root.pem").write_text(staging.root_pem)
        _believed_by_everybody(inside, production.root_pem)
        inside.run("systemctl", "start", "nginx")
        yield made


def _believed_by_everybody(machine: Booted, root: str) -> None:
    """The root of production is among the system's, as that of a public CA is."""
    where = machine.run("python3", "-c", "import ssl; print(ssl.get_default_verify_paths()[3])")
    file = machine / where.out.strip()
    before = file.read_text() if file.is_file() else ""
    file.write_text(before + root)


def _resolver_of_the_lab(vm: Booted) -> None:
    """From here no public resolver is reached; the README's machine has one."""
    settings = vm / "etc/split-horizon-relay/agent.toml"
    ours = f'[dns01]\nresolvers = ["{INTERNET}"]\n'
    text = settings.read_text().replace("[dns01]\n", ours) + "[doctor]\nresolvers = []\n"
    settings.write_text(text)


def _lines_that_enroll_printed(inside: Booted, said: str) -> None:
    """Give nginx the lines that ``enroll`` printed; the README leaves it to the administrator."""
    found = re.findall(r"^    (ssl_certificate.* .*;)", said, re.MULTILINE)
    assert len(found) == 2, said
    site = f"server {{ listen 443 ssl; server_name {WWW}; {' '.join(found)} }}\n"
    (inside / "etc/nginx/sites-enabled/www").write_text(site)


@pytest.fixture(scope="module")
def installed(machines: Machines) -> Machines:
    """Every line of the package path, typed in its order."""
    on_the_vm, inside = lines_of("With the Debian packages")
    token = ""
    for line in on_the_vm:
        asked = {"[y/N]": "y"} if " init " in line else {}
        said = machines.type(machines.vm, line, asked)
        if " init " in line:
            _resolver_of_the_lab(machines.vm)
        token = next(iter(re.findall(r"^shr1_\S+", said, re.MULTILINE)), token)
    for line in inside:
        asked = {"Token: ": token, "[Y/n]": ""} if " enroll " in line else {}
        said = machines.type(machines.inside, line, asked)
        if " enroll " in line:
            _lines_that_enroll_printed(machines.inside, said)
    return machines


def pulled(machines: Machines, ca: LabCa, line: str) -> None:
    """Type the README's last line until the order is through: it takes some seconds."""

    def again() -> bool:
        machines.type(machines.inside, line)
        return machines.is_in_place(ca)

    wait_until(again, 60)


def test_the_commands_are_counted() -> None:
    on_the_vm, inside = lines_of("With the Debian packages")
    assert (len(on_the_vm), len(inside)) == (COMMANDS_ON_THE_VM, COMMANDS_INSIDE)
    text = README.read_text()
    assert "four\ncommands on the VM" in text or "four commands on the VM" in text
    assert "and three on the intranet server" in text


def test_what_is_typed_is_what_is_written(machines: Machines) -> None:
    """Each substitution is of something that stands in the README."""
    text = README.read_text()
    for shown, _ in substitutions(machines):
        assert shown in text


def test_seven_lines_and_it_is_served(installed: Machines) -> None:
    pulled(installed, installed.staging, lines_of("With the Debian packages")[1][-1])
    done = installed.inside.run("internal-puller", "status")
    assert re.search(rf"^{re.escape(WWW)}\s.*\byes\b", done.out, re.MULTILINE), done.out
    assert "needs attention" not in done.out
    assert "not known" not in done.out


def test_the_root_is_kept_where_the_service_sees_it(installed: Machines) -> None:
    kept = installed.inside / f"etc/split-horizon-relay/roots/{WWW}.pem"
    assert kept.read_text() == installed.staging.root_pem


def test_it_goes_on_by_itself(installed: Machines) -> None:
    inside = installed.inside
    assert inside.unit("internal-puller.timer", "ActiveState") == "active"
    assert inside.unit("internal-puller.timer", "UnitFileState") == "enabled"
    inside.run("systemctl", "start", "internal-puller.service")
    inside.run("systemctl", "stop", "internal-puller.timer")
    try:
        told = inside.run("internal-puller", "status", expect=13).out
        assert "nothing will pull again" in told
        command = told.partition("nothing will pull again")[2].splitlines()[0].rpartition(": ")[2]
    finally:
        inside.run(*command.split())
    inside.run("internal-puller", "status")


def test_from_staging_to_production(installed: Machines) -> None:
    made = installed
    pulled(made, made.staging, "internal-puller pull")
    settings = made.vm / "etc/split-horizon-relay/agent.toml"
    before = settings.read_text()
    after = before.replace(made.staging.directory_url, made.production.directory_url)
    assert before != after
    settings.write_text(after)  # "set `directory` in agent.toml"
    (block,) = lines_of("From staging to production")
    assert block[0] == "systemctl reload external-agent"
    for line in block:
        machine = made.vm if line.startswith(("systemctl", "external-agent")) else made.inside
        made.type(machine, line)
    pulled(made, made.production, block[-1])
    status = made.inside.run("internal-puller", "status").out
    assert re.search(rf"^{re.escape(WWW)}\s.*\byes\b", status, re.MULTILINE), status
