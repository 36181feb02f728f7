"""The Debian packages in a fresh Debian: both commands run, the units verify, nothing starts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tests.packages.conftest import build
from tests.packages.roots import Root

pytestmark = [pytest.mark.packages, pytest.mark.timeout(400)]
UNITS = {
    "agent": ("external-agent.service", "external-agent-challenge.socket"),
    "puller": (
        "internal-puller.service",
        "internal-puller.timer",
        "internal-puller-run.service",
        "internal-puller-commands.socket",
        "internal-puller-commands@.service",
        "internal-puller-mounts.socket",
        "internal-puller-mounts@.service",
        "internal-puller-recover.service",
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
    at_boot = [path.name for path in (installed / "usr/lib/systemd/system").rglob("*.wants/*")]
    ours = {"internal-puller-recover.service"} & set(UNITS[side])
    assert set(at_boot) & set(UNITS[side]) == ours, "but what finishes what a boot interrupted"


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


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_tree_gives_the_same_octets(
    debian_packages: dict[str, Path], wheel: Path, tmp_path: Path
) -> None:
    build("deploy/debian/build", "--wheel", str(wheel), "--output", str(tmp_path), "puller")
    (again,) = tmp_path.iterdir()
    assert digest(again) == digest(debian_packages["puller"])


def test_the_puller_runs(installed: Root) -> None:
    done = installed.run("internal-puller", "pull", expect=3)
    assert "internal-puller enroll" in done.err
    assert "Usage:" in installed.run("internal-puller", "direct", "add", "--help").out


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
