"""User data for the VM: cloud-init takes it, and its script makes a fresh Debian an agent."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.peers import require
from tests.packages.conftest import ROOT, build
from tests.packages.roots import Root

pytestmark = [pytest.mark.packages, pytest.mark.timeout(400)]
USER_DATA = ROOT / "deploy" / "cloud-init" / "user-data.yml"
SETUP = "/usr/local/sbin/split-horizon-relay-setup"
VALUES = "/etc/split-horizon-relay/setup.env"
PACKAGE = "split-horizon-relay-agent"
NEWER = "99.0"


def told() -> dict[str, Any]:
    text = USER_DATA.read_text()
    assert text.startswith("#cloud-config\n")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def files() -> dict[str, dict[str, str]]:
    return {one["path"]: one for one in told()["write_files"]}


def test_cloud_init_takes_it() -> None:
    command = [require("cloud-init"), "schema", "--config-file", str(USER_DATA)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_script_is_a_script() -> None:
    assert told()["runcmd"] == [[SETUP]]
    for name in (SETUP, VALUES):
        done = subprocess.run(["sh", "-n"], input=files()[name]["content"].encode(), check=False)
        assert done.returncode == 0


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def version(debian: Root) -> str:
    return debian.run("dpkg-query", "-W", "-f", "${Version}", PACKAGE).out


def newer(package: Path, folder: Path) -> Path:
    """The same files as a release of later years."""
    tree = folder / "tree"
    build("dpkg-deb", "--raw-extract", str(package), str(tree))
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub("(?m)^Version: .*", f"Version: {NEWER}", control.read_text()))
    build("dpkg-deb", "-Znone", "--build", str(tree), str(folder / "newer.deb"))
    return folder / "newer.deb"


def named(package: Path, url: str) -> dict[str, str]:
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    return {"PACKAGE_URL": f"{url}/{package.name}", "PACKAGE_SHA256": digest}


def test_a_fresh_debian_becomes_an_agent(
    debian_packages: dict[str, Path], debian: Root, tmp_path: Path
) -> None:
    package = tmp_path / "agent.deb"
    package.symlink_to(debian_packages["agent"])
    with served(tmp_path) as url:
        values = {
            **named(package, url),
            "PACKAGE_SHA256": "0" * 64,
            "AGREE_TO_TERMS": "no",
            "PULLERS_FROM": "203.0.113.0/24",
        }
        for name, one in files().items():
            (debian / name).parent.mkdir(parents=True, exist_ok=True)
            (debian / name).write_text(one["content"])
            (debian / name).chmod(int(one["permissions"], 8))

        def say(**changed: str) -> None:
            values.update(changed)
            kept = [
                line
                for line in files()[VALUES]["content"].splitlines()
                if line.partition("=")[0] not in values
            ]
            more = [f"{name}={value}" for name, value in values.items()]
            (debian / VALUES).write_text("\n".join([*kept, *more]) + "\n")

        say()
        assert "AGREE_TO_TERMS=yes" in debian.run(SETUP, expect=1).err
        say(AGREE_TO_TERMS="yes")
        assert "did NOT match" in debian.run(SETUP, expect=1).err, "another package is refused"
        assert not (debian / "usr/bin/external-agent").exists()
        say(**named(package, url))
        debian.run(SETUP)
        assert version(debian) != NEWER
        say(**named(newer(package, tmp_path), url))
        debian.run(SETUP)
        assert version(debian) == NEWER, "what setup.env names is what runs"
    key = (debian / "var/lib/split-horizon-relay/agent/account.key").read_bytes()
    debian.run(SETUP)  # once more: nothing is made anew
    assert (debian / "var/lib/split-horizon-relay/agent/account.key").read_bytes() == key
    owner = debian.run("stat", "-c", "%U %G %a", "/etc/split-horizon-relay/agent.toml").out
    assert owner.split() == ["root", "external-agent", "640"]
    assert "acme-staging" in (debian / "etc/split-horizon-relay/agent.toml").read_text()
    for unit in ("external-agent.service", "external-agent-challenge.socket", "nftables.service"):
        assert debian.run("systemctl", "is-enabled", unit).out.strip() == "enabled"
    rules = debian.run("cat", "/etc/nftables.conf").out
    assert rules.count("split-horizon-relay/nftables.conf") == 1
    debian.run("unshare", "--net", "nft", "--check", "--file", "/etc/nftables.conf")
