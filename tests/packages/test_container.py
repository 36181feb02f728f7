"""The container image, built from the Debian package: set up in a volume, it serves as nobody."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.peers import clean_environment, require
from tests.packages.conftest import BUILD_SECONDS, ROOT
from tests.servers import free_port

pytestmark = [pytest.mark.packages, pytest.mark.timeout(400)]
CONTAINER = ROOT / "deploy" / "container"
AGENT = "/usr/bin/external-agent"


@dataclass(frozen=True)
class Buildah:
    """Images and containers in a directory of their own."""

    base: Path

    def argv(self, *arguments: str) -> list[str]:
        where = ("--root", str(self.base / "store"), "--runroot", str(self.base / "run"))
        return ["buildah", *where, "--storage-driver", self.driver, *arguments]

    @property
    def driver(self) -> str:
        return (self.base / "driver").read_text()

    def __call__(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(
            self.argv(*arguments),
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
            cwd=self.base,
            env=clean_environment(),
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def build(self, file: Path, context: Path, tag: str, *options: str) -> None:
        where = ("--isolation", "chroot", "--file", str(file), "--tag", tag)
        self("build", "--quiet", *where, *options, str(context))


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    require("buildah")
    base = tmp_path_factory.mktemp("buildah")
    one = Buildah(base)
    (base / "driver").write_text("overlay")
    if subprocess.run(one.argv("images"), capture_output=True, check=False).returncode:
        (base / "driver").write_text("vfs")  # some kernels put no overlay upon an overlay
    yield one
    one("rm", "--all")
    one("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def container(
    debian_packages: dict[str, Path], debian_archive: Path, buildah: Buildah
) -> Iterator[str]:
    """A container of our image, upon a Debian of our own instead of the one that is fetched."""
    ground = buildah.base / "ground"
    ground.write_text(f"FROM scratch\nADD {debian_archive.name} /\n")
    buildah.build(ground, debian_archive.parent, "localhost/debian")
    context = buildah.base / "dist"
    context.mkdir()
    shutil.copy(debian_packages["agent"], context)
    base = ("--build-arg", "BASE=localhost/debian")
    buildah.build(CONTAINER / "Containerfile", context, "localhost/agent", *base)
    yield buildah("from", "localhost/agent").strip()


def test_the_image(container: str, buildah: Buildah) -> None:
    told = json.loads(buildah("inspect", "--type", "image", "localhost/agent"))
    config = told["OCIv1"]["config"]
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"]) == ([AGENT], ["serve"])
    assert list(config["Volumes"]) == ["/data"]
    assert "Usage:" in buildah("run", "--isolation", "chroot", container, "--", AGENT, "--help")


def test_it_serves(container: str, buildah: Buildah) -> None:
    run = ("run", "--isolation", "chroot", container, "--")
    ports = {name: free_port() for name in ("challenge", "relay", "operator")}
    listen = [
        word for name, port in ports.items() for word in (f"--{name}-listen", f"127.0.0.1:{port}")
    ]
    url = ("--relay-url", "https://relay.example.com:8443")
    buildah(*run, AGENT, "init", *url, "--agree-terms", *listen)
    modes = buildah(*run, "stat", "-c", "%u %a", "/data/split-horizon-relay/agent/account.key")
    assert modes.split() == ["10001", "600"]
    with subprocess.Popen(
        buildah.argv(*run, AGENT, "serve"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert any('"listening"' in line for line in process.stdout), "it ended"
            page = f"http://127.0.0.1:{ports['operator']}/readyz"
            with urllib.request.urlopen(page, timeout=20) as answer:
                assert answer.read().strip() == b"ok"
            assert "shr1_" in buildah(*run, AGENT, "add", "www.intra.example.com")
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def test_compose() -> None:
    """What the services promise each other; nothing here could start them."""
    told: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    agent, database = told["services"]["agent"], told["services"]["database"]
    build = agent["build"]
    context = (CONTAINER / build["context"]).resolve()
    assert (context / build["dockerfile"]).resolve() == CONTAINER / "Containerfile"
    assert agent["ports"] == ["80:8402", "8443:8443"]
    exposed = (CONTAINER / "Containerfile").read_text().split("EXPOSE ")[1].splitlines()[0]
    assert exposed.split() == [port.split(":")[1] for port in agent["ports"]]
    assert agent["cap_drop"] == ["ALL"]
    assert agent["read_only"] is True
    url = agent["environment"]["RELAY_AGENT_DATABASE"]
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    assert url == f"postgresql://{user}@database/{name}"
    secrets = {agent["environment"]["PGPASSWORD"], database["environment"]["POSTGRES_PASSWORD"]}
    assert secrets == {"${RELAY_DATABASE_PASSWORD:?is not set}"}
    assert "ports" not in database
    assert set(told["volumes"]) == {
        volume.split(":")[0] for one in (agent, database) for volume in one["volumes"]
    }
