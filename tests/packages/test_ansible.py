"""The Ansible roles, by the locked ansible-core, make agent and puller of a fresh Debian."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.peers import clean_environment
from tests.lab.ports import free_port
from tests.packages.conftest import ROOT
from tests.packages.roots import ENVIRONMENT, Root
from tools import environment

pytestmark = [pytest.mark.packages, pytest.mark.timeout(500)]
ANSIBLE = ROOT / "deploy" / "ansible"
WWW, APP, OLD = (f"{name}.intra.example.com" for name in ("www", "app", "old"))
BOOKS = {"names": ["bücher.example.org"], "id": "books", "options": ["--id", "books"]}
TLS = "/etc/split-horizon-relay/tls"


@dataclass(frozen=True)
class Ansible:
    """
    Attributes:
        base: for inventory and temporary files.
    """

    program: Path
    base: Path

    def __call__(self, *arguments: str, **more: str) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=ANSIBLE,
            env=clean_environment(
                ANSIBLE_HOME=str(self.base / "home"),
                ANSIBLE_CONNECTION_PLUGINS=str(Path(__file__).parent / "connection_plugins"),
                ANSIBLE_PIPELINING="1",
                ANSIBLE_NOCOLOR="1",
                **more,
            ),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    try:
        python = environment.ensure(environment.ANSIBLE)
    except environment.EnvironmentFailed as failure:
        reason = f"ansible-core could not be installed: {str(failure)[-300:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Ansible(python.with_name("ansible-playbook"), tmp_path_factory.mktemp("ansible"))


def example() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ANSIBLE / "inventory.example.yml").read_text())
    return found


def test_the_example_is_understood(ansible: Ansible) -> None:
    ansible("--syntax-check", "--inventory", "inventory.example.yml", "site.yml")
    for side, role in (("agents", "external_agent"), ("pullers", "internal_puller")):
        known = yaml.safe_load((ANSIBLE / "roles" / role / "defaults/main.yml").read_text())
        hosts = example()[side]["hosts"].values()
        named = {*example()[side]["vars"], *(name for host in hosts for name in host or {})}
        assert named <= set(known), "a variable that no role has"


def changes(told: str) -> dict[str, int]:
    return {host: int(n) for host, n in re.findall(r"^(\w+) .*changed=(\d+) ", told, re.MULTILINE)}


@contextlib.contextmanager
def serving(root: Root) -> Iterator[None]:
    account = ("setpriv", "--reuid", "external-agent", "--regid", "external-agent")
    agent = ("env", "XDG_CONFIG_HOME=/etc", "external-agent", "serve")
    with root.start(*account, "--clear-groups", *agent) as process:
        try:
            assert process.stdout is not None
            assert any("listening" in line for line in process.stdout), "it ended"
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def test_both_sides_of_a_fresh_debian(
    debian_packages: dict[str, Path], debian: Root, ansible: Ansible
) -> None:
    ports = {name: free_port() for name in ("challenge", "relay", "operator")}
    told = example()
    told["agents"]["vars"] |= {
        "external_agent_package": str(debian_packages["agent"]),
        "external_agent_relay_url": f"https://127.0.0.1:{ports['relay']}",
        "external_agent_ca": "https://127.0.0.1:1/directory",
        "external_agent_agree_to_terms": True,
        "external_agent_init_options": [
            word
            for name, port in ports.items()
            for word in (f"--{name}-listen", f"127.0.0.1:{port}")
        ],
    }
    told["agents"]["vars"]["external_agent_certificates"] += [{"names": [OLD]}, BOOKS]
    told["agents"]["hosts"] = {"agent": None}
    told["pullers"]["vars"] |= {
        "internal_puller_package": str(debian_packages["puller"]),
        "internal_puller_agent": "agent",
        "internal_puller_settings": {"timeout": 20.0},
    }
    told["pullers"]["hosts"] = {
        "puller": {"internal_puller_certificates": [{"name": WWW}, {"name": OLD}]}
    }
    inventory = ansible.base / "inventory.yml"
    connection = {
        "ansible_connection": "debian_root",
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
    }

    def write() -> None:
        inventory.write_text(yaml.safe_dump({"all": {"vars": connection, "children": told}}))

    write()
    words = ["env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items())]
    enter = {
        "DEBIAN_ROOT": str(debian.base),
        "DEBIAN_ROOT_ENTER": json.dumps([*words, *debian.argv()]),
    }
    settings = debian / "etc/split-horizon-relay/puller.toml"

    def targets() -> set[tuple[str, str]]:
        rows = json.loads(debian.run("internal-puller", "target", "list", "--json").out)
        return {(one["certificate"], one["directory"]) for one in rows}

    def granted() -> set[str]:
        (one,) = json.loads(debian.run("external-agent", "puller", "list", "--json").out)
        assert one["status"] == "active"
        return set(one["certificates"])

    def enabled(unit: str, other: str) -> None:
        assert debian.run("systemctl", "is-enabled", unit).out.strip() == "enabled"
        assert debian.run("systemctl", "is-enabled", other, expect=1).out.strip() == "disabled"

    play = ("--inventory", str(inventory), "site.yml")
    assert changes(ansible(*play, "--limit", "agents", **enter))["agent"] > 0
    with serving(debian):
        told_of_puller = ansible(*play, "--limit", "pullers", **enter)
        assert "shr1_" not in told_of_puller, "no token in what Ansible prints"
        assert (debian / "var/lib/split-horizon-relay/puller/enrolment.json").exists()
        assert settings.exists()
        assert targets() == {(WWW, f"{TLS}/{WWW}"), (OLD, f"{TLS}/{OLD}")}
        assert granted() == {WWW, OLD}
        enabled("internal-puller.timer", "internal-puller-run.service")

        change(told)
        write()
        changed = changes(ansible(*play, **enter))
        assert changed["agent"] > 0
        assert changed["puller"] > 0
        assert not settings.exists()
        assert targets() == {(WWW, f"{TLS}/{WWW}"), (WWW, "/srv/tls"), (APP, f"{TLS}/{APP}")}
        assert granted() == {WWW, APP}
        status = json.loads(debian.run("external-agent", "status", "--json", expect=13).out)
        wanted = {one["certificate"]: set(one["names"]) for one in status["certificates"]}
        books = {"xn--bcher-kva.example.org"}
        assert wanted == {WWW: {WWW, f"a.{WWW}"}, APP: {APP}, "books": books}
        again = changes(ansible(*play, **enter))
    assert again == {"agent": 0, "puller": 0}, "a second time there is nothing to do"
    enabled("internal-puller-run.service", "internal-puller.timer")
    for unit in ("external-agent.service", "external-agent-challenge.socket"):
        assert debian.run("systemctl", "is-enabled", unit).out.strip() == "enabled"


def change(told: dict[str, Any]) -> None:
    """One certificate more, one less, another name, another place, another way."""
    told["agents"]["vars"]["external_agent_certificates"] = [
        {"names": [WWW, f"a.{WWW}"]},
        {"names": [APP]},
        {"names": [OLD], "state": "absent"},
        BOOKS,
    ]
    told["pullers"]["vars"] |= {"internal_puller_settings": {}, "internal_puller_way": "run"}
    told["pullers"]["hosts"]["puller"]["internal_puller_certificates"] = [
        {"name": WWW},
        {"name": WWW, "directory": "/srv/tls/"},  # kept without its last slash
        {"name": APP},
        {"name": OLD, "state": "absent"},
    ]
