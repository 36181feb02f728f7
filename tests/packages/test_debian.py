"""The Debian packages in a fresh Debian: both commands run, the units verify, nothing starts."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.packages.roots import Root
from tests.servers import free_port

pytestmark = [pytest.mark.packages, pytest.mark.timeout(400)]
UNITS = {
    "agent": ("external-agent.service", "external-agent-challenge.socket"),
    "puller": (
        "internal-puller.service",
        "internal-puller.timer",
        "internal-puller-run.service",
        "internal-puller-commands.socket",
        "internal-puller-commands@.service",
    ),
}


def install(debian: Root, *sides: str) -> None:
    done = debian.run("dpkg", "--install", *(f"/{side}.deb" for side in sides))
    assert "warning" not in done.err.lower()


@pytest.fixture(scope="module")
def installed(debian_packages: dict[str, Path], debian: Root) -> Root:
    for side, package in debian_packages.items():
        (debian / f"{side}.deb").write_bytes(package.read_bytes())
    install(debian, *debian_packages)
    return debian


def test_accounts_and_directories(installed: Root) -> None:
    assert re.search(r"^external-agent:", (installed / "etc/passwd").read_text(), re.MULTILINE)
    told = installed.run(
        *("stat", "--format", "%n %a %U", "/var/lib/split-horizon-relay/agent"),
        *("/var/lib/split-horizon-relay/puller", "/etc/split-horizon-relay"),
    )
    assert told.out.splitlines() == [
        "/var/lib/split-horizon-relay/agent 700 external-agent",
        "/var/lib/split-horizon-relay/puller 700 internal-puller",
        "/etc/split-horizon-relay 755 root",
    ]


@pytest.mark.parametrize("side", UNITS)
def test_the_units_verify(installed: Root, side: str) -> None:
    for unit in UNITS[side]:
        text = (installed / f"usr/lib/systemd/system/{unit}").read_text()
        assert "/venv/" not in text
    done = installed.run("systemd-analyze", "verify", "--man=no", *UNITS[side])
    assert done.err == ""
    wants = [path.name for path in (installed / "etc/systemd/system").rglob("*.wants/*")]
    assert set(wants).isdisjoint(UNITS[side]), "nothing is enabled by itself"


def test_nothing_names_the_place_where_it_was_built(installed: Root) -> None:
    for side, program in (("agent", "external-agent"), ("puller", "internal-puller")):
        there = installed / f"opt/split-horizon-relay/{side}"
        assert sorted(path.name for path in (there / "bin").iterdir()) == [
            *sorted((program, "python", "python3", "python3.11"))
        ]
        assert b"relay-deb-" not in b"".join(
            path.read_bytes() for path in there.rglob("*") if path.is_file()
        )
        compiled = installed.run("find", f"/opt/split-horizon-relay/{side}", "-name", "*.pyc").out
        assert "/cli.cpython-311.pyc" in compiled


def test_the_puller_runs(installed: Root) -> None:
    done = installed.run("internal-puller", "pull", expect=3)
    assert "internal-puller enroll" in done.err
    assert "Usage:" in installed.run("internal-puller", "direct", "add", "--help").out


def test_the_agent_runs(installed: Root) -> None:
    """Set up as the handbook says; then it serves, its pages too."""
    ports = {name: free_port() for name in ("challenge", "relay", "operator")}
    installed.run(
        *("external-agent", "init", "--relay-url", "https://relay.example.com:8443"),
        *("--agree-terms", "--ca", "https://127.0.0.1:1/directory"),
        *(
            word
            for name, port in ports.items()
            for word in (f"--{name}-listen", f"127.0.0.1:{port}")
        ),
    )
    settings_file = installed.run("stat", "-c", "%U %G %a", "/etc/split-horizon-relay/agent.toml")
    assert settings_file.out.split() == ["root", "external-agent", "640"]
    owner = installed.run("stat", "-c", "%U %a", "/var/lib/split-horizon-relay/agent/account.key")
    assert owner.out.split() == ["external-agent", "600"]
    token = installed.run("external-agent", "add", "www.intra.example.com").out
    assert token.startswith("shr1_")
    agent = (*("setpriv", "--reuid", "external-agent", "--regid", "external-agent"),)
    agent = (*agent, "--clear-groups", "--no-new-privs")
    settings = ("env", "XDG_CONFIG_HOME=/etc")
    with installed.start(*agent, *settings, "external-agent", "serve") as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if '"listening"' in line or "listening" in line:
                    break
            else:
                pytest.fail("it ended")
            page = f"http://127.0.0.1:{ports['operator']}/"
            with urllib.request.urlopen(page, timeout=20) as answer:
                assert b"<html" in answer.read()
            archive = "/root/monday.tar"
            installed.run("external-agent", "backup", archive)
            status = json.loads(installed.run("external-agent", "status", "--json").out)
            assert [one["certificate"] for one in status["certificates"]] == [
                "www.intra.example.com"
            ]
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def test_removed_it_leaves_keys(installed: Root) -> None:
    key = installed / "var/lib/split-horizon-relay/puller/signing.key"
    key.write_text("a key")
    installed.run("dpkg", "--purge", "split-horizon-relay-puller")
    try:
        assert not (installed / "opt/split-horizon-relay/puller").exists()
        assert not (installed / "usr/bin/internal-puller").is_symlink()
        assert key.read_text() == "a key"
    finally:
        key.unlink()
        install(installed, "puller")
